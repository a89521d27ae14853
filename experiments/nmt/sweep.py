"""``python -m revrnn.experiments nmt-sweep``: all translation models of the comparison."""

from __future__ import annotations

from typing import Any, Final

from revrnn.experiments.settings import REVERSIBLE
from revrnn.experiments.sweep import Comparison

from .command import run as run_one
from .report import describe, plot_trade, table
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
    runs: dict[str, dict[str, Any]] = {}
    for cell in REVERSIBLE:
        own = cell.removeprefix("rev")
        runs[own] = {"cell": own, "context": "full"}
        for context in CONTEXTS:
            runs[f"{cell}-{context.replace('+', '-')}"] = {"cell": cell, "context": context}
        for limit in LIMITS:
            name = "no-limit" if limit is None else f"{limit}-bits"
            limits = {f"{part}_max_forget_bits": limit for part in ("encoder", "decoder")}
            runs[f"{cell}-{name}"] = {"cell": cell, "context": LIMITED, **limits}
    return runs


COMPARISON: Final = Comparison(
    NmtSettings, PRESETS, variants(), run_one, table, plot_trade, describe, "out/nmt-sweep"
)
add_arguments, run = COMPARISON.add_arguments, COMPARISON.sweep
