"""``python -m revrnn.experiments lm-sweep``: all language models of the comparison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from revrnn.experiments.runs import RunFolder
from revrnn.experiments.sweep import Comparison

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


def write(out: Path, ended: Sequence[RunFolder]) -> None:
    """Write ``table.md`` and the plot of all losses."""
    (out / "table.md").write_text(table(ended), encoding="utf-8")
    plot(out / "losses", ended)


COMPARISON: Final = Comparison(LmSettings, PRESETS, variants(), run_one, write)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    COMPARISON.add_arguments(parser, "out/lm-sweep")


def run(given: dict[str, Any], console: Console) -> None:
    """Run what is missing."""
    COMPARISON.sweep(given, console)
