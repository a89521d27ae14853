"""``python -m revrnn.experiments lm-sweep``: all language models of the comparison."""

from __future__ import annotations

from typing import Any, Final

from ..sweep import Comparison
from .command import run as run_one
from .report import describe, plot_trade, table
from .settings import PRESETS, LmSettings

LIMITS: Final = (1, 2, 3, 5, None)


def variants() -> dict[str, dict[str, Any]]:
    """Return what each run of the comparison sets, by the name of its folder."""
    runs: dict[str, dict[str, Any]] = {}
    for cell, own in (("revgru", "gru"), ("revlstm", "lstm")):
        runs[own] = {"cell": own}
        runs[f"{own}-as-{cell}"] = {"cell": own, "match": cell}
        runs[f"float-{cell}"] = {"cell": f"float_{cell}"}
        for limit in LIMITS:
            name = "no-limit" if limit is None else f"{limit}-bits"
            runs[f"{cell}-{name}"] = {"cell": cell, "max_forget_bits": limit}
        # A state from which nothing is ever discarded grows with every step, so these two begin
        # every segment with a fresh one.
        runs[f"{cell}-anew"] = {"cell": cell, "max_forget_bits": 3, "carry_state": False}
        runs[f"{cell}-keeping"] = {"cell": cell, "forgetting": False, "carry_state": False}
    return runs


COMPARISON: Final = Comparison(
    LmSettings,
    PRESETS,
    variants(),
    ("cell", "match", "max_forget_bits", "forgetting", "carry_state"),
    run_one,
    table,
    plot_trade,
    describe,
    "out/lm-sweep",
    "valid_perplexity",
    ("valid_perplexity", "test_perplexity", "seconds"),
    {
        "gru": "gru",
        "lstm": "lstm",
        "revgru": "revgru-3-bits",
        "revlstm": "revlstm-3-bits",
        "float_revgru": "float-revgru",
        "float_revlstm": "float-revlstm",
    },
)
add_arguments, run = COMPARISON.add_arguments, COMPARISON.sweep
