"""``python -m revrnn.experiments nmt-sweep``: all translation models of the comparison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from revrnn.experiments.runs import RunFolder
from revrnn.experiments.settings import REVERSIBLE
from revrnn.experiments.sweep import Comparison

from .command import run as run_one
from .report import plot, table
from .settings import PRESETS, NmtSettings

CONTEXTS: Final = ("full", "emb", "20h", "100h", "emb+20h", "emb+100h")
# Of encoder and decoder alike, with the context of LIMITED.
LIMITS: Final = (1, 2, 3, 5, None)
LIMITED: Final = "emb+20h"


def variants() -> dict[str, dict[str, Any]]:
    """Return what each run of the comparison sets, by the name of its folder.

    The baselines see full states, as is usual; reversible models see each of :data:`CONTEXTS`, with
    the limits of forgetting that are asked for, and one of them with each of :data:`LIMITS`.
    """
    found: dict[str, dict[str, Any]] = {}
    for cell in REVERSIBLE:
        own = cell.removeprefix("rev")
        found[own] = {"cell": own, "context": "full"}
        for context in CONTEXTS:
            found[f"{cell}-{context.replace('+', '-')}"] = {"cell": cell, "context": context}
        for limit in LIMITS:
            name = "no-limit" if limit is None else f"{limit}-bits"
            limits = {f"{part}_max_forget_bits": limit for part in ("encoder", "decoder")}
            found[f"{cell}-{name}"] = {"cell": cell, "context": LIMITED, **limits}
    return found


def write(out: Path, ended: Sequence[RunFolder]) -> None:
    """Write ``table.md`` and the plot of all losses."""
    (out / "table.md").write_text(table(ended), encoding="utf-8")
    plot(out / "losses", ended)


COMPARISON: Final = Comparison(NmtSettings, PRESETS, variants(), run_one, write)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    COMPARISON.add_arguments(parser, "out/nmt-sweep")


def run(given: dict[str, Any], console: Console) -> None:
    """Run what is missing."""
    COMPARISON.sweep(given, console)
