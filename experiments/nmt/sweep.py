"""``python -m revrnn.experiments nmt-sweep``: all translation models of the comparison."""

from __future__ import annotations

from typing import Any, Final

from ..settings import REVERSIBLE
from ..sweep import Comparison
from .command import run as run_one
from .report import describe, plot_trade, table
from .settings import CELLS, PRESETS, NmtSettings

# What attention sees, in every cell, so that each factor stands alone: states or slices of them,
# with embeddings or without.
CONTEXTS: Final = ("full", "20h", "emb+20h", "emb+full")
# What else is seen of reversible cells.
MORE: Final = ("emb", "100h", "emb+100h")
# Of encoder and decoder alike, with the context of LIMITED.
LIMITS: Final = (1, 2, 3, 5, None)
LIMITED: Final = "emb+20h"


def variants() -> dict[str, dict[str, Any]]:
    """Return what each run of the comparison sets, by the name of its folder.

    Every cell has each of :data:`CONTEXTS`; reversible models also each of :data:`MORE`, all with
    the limits of forgetting that are asked for, and one context with each of :data:`LIMITS`.
    """
    runs: dict[str, dict[str, Any]] = {}
    for cell in REVERSIBLE:
        own = cell.removeprefix("rev")
        pairs = [(own, context) for context in CONTEXTS]
        for kind, context in (*pairs, *((cell, context) for context in (*CONTEXTS, *MORE))):
            runs[f"{kind}-{context.replace('+', '-')}"] = {"cell": kind, "context": context}
        for limit in LIMITS:
            name = "no-limit" if limit is None else f"{limit}-bits"
            limits = {f"{part}_max_forget_bits": limit for part in ("encoder", "decoder")}
            runs[f"{cell}-{name}"] = {"cell": cell, "context": LIMITED, **limits}
    return runs


COMPARISON: Final = Comparison(
    NmtSettings,
    PRESETS,
    variants(),
    ("cell", "context"),
    run_one,
    table,
    plot_trade,
    describe,
    "out/nmt-sweep",
    "valid_perplexity",
    ("valid_perplexity", "test_perplexity", "bleu_greedy", "bleu_beam", "seconds"),
    {cell: f"{cell}-emb-20h" for cell in CELLS},
)
add_arguments, run = COMPARISON.add_arguments, COMPARISON.sweep
