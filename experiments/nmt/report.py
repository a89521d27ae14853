"""The report of a run, and a table of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revrnn.whole_files import encoded

from .. import markdown
from ..plots import Curve, Panel, Trade, plot_losses, plot_trades
from ..runs import RunFolder
from ..settings import LAYOUTS, REVERSIBLE, limit


def describe(config: dict[str, Any]) -> str:
    """Return a run's model in a few words."""
    model = f"{config['cell']} {config['num_layers']} × {config['hidden_size']}"
    model += f", attention sees {config['context']}"
    if config["cell"] not in REVERSIBLE:
        return model
    words = [limit(config[f"{part}_max_forget_bits"]) for part in ("encoder", "decoder")]
    return f"{model}, encoder {words[0]}, decoder {words[1]}"


def write_report(folder: RunFolder, summary: dict[str, Any], origin: Sequence[str]) -> None:
    """Write ``summary.json``, ``report.md`` and the plot of a run that has ended.

    ``origin`` says where the figures come from, in lines of Markdown.
    """
    config = summary["config"]
    folder.set_summary(summary)
    rows = [
        ("framework", config["framework"]),
        ("parameters", f"{summary['parameters']:,}"),
        ("pairs trained on", f"{summary['pairs']:,} ({summary['left_out']:,} too long)"),
        (
            "words known, source and target",
            f"{summary['source_words']:,} and {summary['target_words']:,}",
        ),
        ("test BLEU, greedy", f"{summary['bleu_greedy']:.2f}"),
        (f"test BLEU, beam of {config['beam']}", f"{summary['bleu_beam']:.2f}"),
        ("test perplexity", f"{summary['test_perplexity']:#.4g}"),
        ("validation perplexity, best", f"{summary['valid_perplexity']:#.4g}"),
        ("passes, best after", f"{config['epochs']}, {summary['best_epoch']}"),
        ("updates", f"{summary['updates']:,}"),
        ("training, s", f"{summary['seconds']:.0f}"),
    ]
    lines = [f"# {config['source']} → {config['target']}: {describe(config)}", ""]
    lines += [
        *markdown.facts(rows),
        "",
        "The checkpoint of least validation loss is measured. BLEU is counted on the "
        f"tokenised text, by sacrebleu: `{summary['signature']}`. No "
        "translation contains `<unk>`.",
    ]
    what = "on the largest batch ({rows} pairs, {source_steps} and {target_steps} steps)"
    lines += markdown.peak(summary["memory"], what, ", output layer and attention")
    lines += _savings(summary["savings"])
    lines += [*origin, "", "![losses](losses.png)", "", "## Some translations", ""]
    for example in summary["examples"]:
        lines += [f"- {name}: {text}" for name, text in example.items()] + [""]
    lines += ["## Settings", "", *markdown.settings(config)]
    folder.write("report.md", encoded("\n".join(lines)))
    plot_losses(folder.path / "losses", {describe(config): folder}, _saving_over_updates(folder))


def _savings(savings: list[dict[str, Any]]) -> list[str]:
    if not savings:
        return []
    lines = [
        "",
        "## Memory of the recurrent states",
        "",
        f"Plain bits / bits, of the trained model, over {savings[0]['batches']} batches of "
        "validation text; padding counts nothing (ACC).",
        "",
    ]
    names = ("ideal", "ideal_with_slices", "stored", "with_context")
    heads = ("part", "buffer", "ideal", "ideal, with slices", "stored", "stored and attended")
    rows = []
    for s in savings:
        cells = ["–" if s[name] is None else f"{s[name]:.1f}×" for name in names]
        rows.append([s["part"], s["layout"], *cells])
    lines += markdown.table(heads, rows, texts=2)
    lines += [
        "",
        "*Ideal*: bits forgotten by units that are not sliced; *with slices*, which any layout "
        "stores whole. *Stored*: buffer, heads "
        "and slices. *Stored and attended*: also embeddings or full states, where attention "
        "sees them.",
    ]
    return lines


def plot_trade(path: Path, folders: Sequence[RunFolder]) -> None:
    """Draw BLEU over the encoder's saving (``stream``) of runs that have ended."""
    trades = []
    for folder in folders:
        summary = folder.summary
        config = summary["config"]
        note = config["context"]
        kind = ("encoder", "stream")
        stored = [s["stored"] for s in summary["savings"] if (s["part"], s["layout"]) == kind]
        if stored:
            note += f", {limit(config['encoder_max_forget_bits'])}"
        saving = stored[0] if stored else 1.0
        trades.append(Trade(config["cell"], note, saving, summary["bleu_beam"]))
    plot_trades(path, trades, "plain bits / bits stored, encoder", "BLEU, beam search")


def table(folders: Sequence[RunFolder]) -> str:
    """Return a Markdown table of runs that have ended: savings stored, memory of an update."""
    parts = [(part, layout) for part in ("encoder", "decoder") for layout in LAYOUTS]
    heads = ["model", "framework", "parameters", "valid perplexity", "BLEU, greedy", "BLEU, beam"]
    heads += [*(f"{part}, {layout}" for part, layout in parts), "peak MB", "training, s"]
    rows = []
    for folder in folders:
        summary = folder.summary
        saved = {(s["part"], s["layout"]): f"{s['stored']:.1f}×" for s in summary["savings"]}
        rows.append(
            [
                describe(summary["config"]),
                summary["config"]["framework"],
                f"{summary['parameters']:,}",
                f"{summary['valid_perplexity']:#.4g}",
                f"{summary['bleu_greedy']:.2f}",
                f"{summary['bleu_beam']:.2f}",
                *(saved.get(part, "") for part in parts),
                markdown.megabytes(summary["memory"]),
                f"{summary['seconds']:.0f}",
            ]
        )
    return "\n".join(markdown.table(heads, rows, texts=2)) + "\n"


def _saving_over_updates(folder: RunFolder) -> dict[str, Panel]:
    """Return a panel of what a run saves, if it saves anything."""
    bits = folder.records("bits")
    if not bits:
        return {}
    x = [r["update"] for r in bits]
    savings = [
        Curve(f"{part}, {kind}", x, [r[part][kind] for r in bits], style)
        for part in ("encoder", "decoder")
        for kind, style in (("stored", "o-"), ("ideal", "o--"))
    ]
    return {"saving": Panel("Memory of states", "update", "plain bits / bits", savings)}
