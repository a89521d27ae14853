"""``python -m revrnn.experiments lm-sweep``: all models of the comparison, one after the other.

Runs that have ended are left alone and a run that was cut goes on, so the command can be given
again; with more ``--epochs`` all go on. Table and plot are written anew after every run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from revrnn.experiments.runs import RunFolder
from revrnn.experiments.settings import add_options

from .command import run as run_one
from .report import plot, table
from .settings import PRESETS, LmSettings

LIMITS: Final = (1, 2, 3, 5, None)


def variants() -> dict[str, dict[str, Any]]:
    """Return what each run of the comparison sets, by the name of its folder."""
    found: dict[str, dict[str, Any]] = {}
    for cell, own in (("revgru", "gru"), ("revlstm", "lstm")):
        found[own] = {"cell": own}
        found[f"{own}-as-{cell}"] = {"cell": own, "match": cell}
        found[f"float-{cell}"] = {"cell": f"float_{cell}"}
        for limit in LIMITS:
            name = "no-limit" if limit is None else f"{limit}-bits"
            found[f"{cell}-{name}"] = {"cell": cell, "max_forget_bits": limit}
        found[f"{cell}-keeping"] = {"cell": cell, "forgetting": False}
    return found


def _is_done(path: Path, given: dict[str, Any]) -> bool:
    """Say whether a run has ended, and with as many epochs as are asked for."""
    if not (path / "summary.json").exists():
        return False
    config = RunFolder(path).config
    return bool(given.get("epochs", config["epochs"]) <= config["epochs"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options: those of a run, for all runs."""
    parser.add_argument("--out", type=Path, default=Path("out/lm-sweep"), help="folder of the runs")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="small")
    parser.add_argument("--only", nargs="+", choices=tuple(variants()), help="only these runs")
    add_options(parser, LmSettings)


def run(given: dict[str, Any], console: Console) -> None:
    """Run what is missing, then write ``table.md`` and the plot of all."""
    out, only = given["out"], given.pop("only") or list(variants())
    for name in only:
        path = out / name
        if _is_done(path, given):
            console.print(f"{name}: done before")
            continue
        resume = (path / "config.json").exists()
        own = {**given, **variants()[name]}
        run_one({**own, "out": path, "resume": resume, "preset": given["preset"]}, console)
        ended = [RunFolder(out / n) for n in variants() if (out / n / "summary.json").exists()]
        (out / "table.md").write_text(table(ended), encoding="utf-8")
        plot(out / "losses", ended)
