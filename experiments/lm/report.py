"""The report of a run, and a table of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revrnn.whole_files import encoded

from .. import markdown
from ..plots import Trade, plot_losses, plot_trades
from ..runs import RunFolder
from ..settings import REVERSIBLE, limit


def describe(config: dict[str, Any]) -> str:
    """Return a run's model in a few words."""
    cell, size = config["cell"], f"{config['num_layers']} × {config['hidden_size']}"
    model = f"{cell} {size}"
    if cell in REVERSIBLE:
        words = limit(config["max_forget_bits"]) if config["forgetting"] else "not forgetting"
        model += f", {words}"
    return model if config["carry_state"] else f"{model}, segments anew"


def write_report(folder: RunFolder, summary: dict[str, Any], origin: Sequence[str]) -> None:
    """Write ``summary.json``, ``report.md`` and the plot of a run that has ended.

    ``origin`` says where the figures come from, in lines of Markdown.
    """
    folder.set_summary(summary)
    facts = [
        ("parameters", f"{summary['parameters']:,}"),
        *((f"{n} perplexity", f"{summary[f'{n}_perplexity']:#.5g}") for n in ("valid", "test")),
        ("updates", f"{summary['updates']:,}"),
        ("training, s", f"{summary['seconds']:.0f}"),
    ]
    lines = [f"# {describe(summary['config'])}", "", *markdown.facts(facts)]
    if summary["savings"]:
        heads = ("buffer", "steps", "batch", "ideal saving", "stored saving", "of ideal")
        rows = []
        for s in summary["savings"]:
            shares = f"{s['ideal']:.1f}×", f"{s['stored']:.1f}×", f"{100 * s['of_ideal']:.0f} %"
            rows.append((s["layout"], s["steps"], s["rows"], *shares))
        lines += ["", "Memory of the trained model, plain bits / bits (ACC):", ""]
        lines += markdown.table(heads, rows)
    what = "({rows} streams, {steps} steps)"
    lines += markdown.peak(summary["memory"], what, " and logits")
    lines += [*origin, "", "![losses](losses.png)", "", "Settings:", ""]
    folder.write("report.md", encoded("\n".join(lines + markdown.settings(summary["config"]))))
    plot_losses(folder.path / "losses", {describe(summary["config"]): folder})


def plot_trade(path: Path, folders: Sequence[RunFolder]) -> None:
    """Draw perplexity over saving (``stream``, the longest segments) of runs that have ended.

    Models whose segments begin anew solve another task, so they are left out.
    """
    trades = []
    for folder in folders:
        summary = folder.summary
        config, quality = summary["config"], summary["valid_perplexity"]
        if not config["carry_state"]:
            continue
        stored = [s["stored"] for s in summary["savings"] if s["layout"] == "stream"]
        if stored:
            note = limit(config["max_forget_bits"])
            trades.append(Trade(config["cell"], note, stored[-1], quality))
        else:
            trades.append(Trade(config["cell"], str(config["hidden_size"]), 1.0, quality))
    plot_trades(path, trades, "plain bits / bits stored", "validation perplexity")


def table(folders: Sequence[RunFolder]) -> str:
    """Return a Markdown table of runs that have ended: savings, memory of an update."""
    rows = []
    for folder in folders:
        summary = folder.summary
        by_layout = {s["layout"]: s for s in summary["savings"]}  # those of the longest segments
        cells = [describe(summary["config"]), summary["config"]["framework"]]
        cells += [f"{summary['parameters']:,}", f"{summary['valid_perplexity']:#.4g}"]
        cells += [f"{summary['test_perplexity']:#.4g}", f"{summary['seconds']:.0f}"]
        if by_layout:
            cells += [f"{by_layout['stream']['ideal']:.1f}×"]
            cells += [f"{by_layout[name]['stored']:.1f}×" for name in ("stream", "wordlist")]
        else:
            cells += ["", "", ""]
        rows.append([*cells, markdown.megabytes(summary["memory"])])
    heads = ["model", "framework", "parameters", "valid", "test", "training, s"]
    heads += ["ideal", "stream", "wordlist", "peak MB"]
    return "\n".join(markdown.table(heads, rows, texts=2)) + "\n"
