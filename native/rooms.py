"""Room that a call takes for itself."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .compiling import Array, i64, inner
from .packing import padded_columns
from .records import Inputs, Room
from .tiles import LANES

# Rows (steps times batch) whose input sums are computed together.
_TOGETHER: Final = 80


@inner
def together(steps: int, rows: int) -> Any:
    """Return how many steps' input sums are computed together."""
    return max(1, min(steps, _TOGETHER // rows))


@inner
def input_room(rows: int, bias: Array, shift: int) -> Any:
    """Return room for the sums of a layer's input, of so many rows."""
    columns = bias.size
    sums = np.empty(rows * (padded_columns(columns) + LANES), np.int32)
    return Inputs(sums, np.empty((rows, columns), np.int64), i64(0), i64(0), bias, shift)


@inner
def make_room(rows: int, units: int) -> Any:
    """Return room for a group of R rows of G units."""
    by_row = -(-units // LANES) * LANES
    shorts, ints = np.empty((2, rows * by_row), np.int16), np.empty((3, rows * units), np.int32)
    later = np.empty(rows * units + LANES, np.int16)
    return Room(units, by_row, shorts[0], shorts[1], ints[0], ints[1], ints[2], later)
