"""The one style of all figures: they read in grey, each cell by its marker and its line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.3,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "errorbar.capsize": 2.5,
    "figure.constrained_layout.use": True,
    # The same file from the same figures.
    "svg.hashsalt": "revrnn",
    "savefig.dpi": 150,
}
# Of each cell, colour (from dark to light, so that they differ in grey), marker and line.
LOOKS: Final = {
    "gru": ("#7a7a7a", "s", ":"),
    "revgru": ("#00429d", "o", "-"),
    "lstm": ("#b0a060", "D", "-."),
    "revlstm": ("#93003a", "^", "--"),
}
NAMES: Final = {"gru": "GRU", "lstm": "LSTM", "revgru": "RevGRU", "revlstm": "RevLSTM"}
Results = dict[str, Any]


def look(cell: str) -> dict[str, Any]:
    """Return how a cell is drawn."""
    colour, marker, line = LOOKS[cell]
    return {"color": colour, "marker": marker, "linestyle": line}


def error_bars(value: Mapping[str, Any]) -> float:
    """Return half the length of a bar; of one seed no number, so that there is no bar."""
    return math.nan if value["deviation"] is None else float(value["deviation"])
