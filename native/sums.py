"""Pre-activations: sums in int32 where that is exact, else in int64, clipped (PROD).

Input sums, recurrent sums and biases are added where gates are computed, in int32, which wraps. No
matter how partial sums wrap, the whole is right if it fits. Whether it must is known from the
largest operands and the weights' norms; else it is computed in int64 and clipped to where no
activation changes any more (ACT-002).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .compiling import Array, i32, i64, inner
from .packing import padded_columns
from .products import LIMIT, exact_product
from .records import Factor, Inputs, Operand, Sums

# Places in a layer's norms.
INPUT: Final = 0
VIEW: Final = 1
CANDIDATE: Final = 3
BIAS: Final = 5
NORMS: Final = 6

_WIDE: Final = 2**62
_CLIPPED: Final = 2**30


@inner
def add_shifted(wide: Array, sums: Array, shift: int) -> None:
    """Add rows of ``sums << shift``, whole panels wide, to int64 ``wide``."""
    rows, columns = wide.shape
    width = padded_columns(columns)
    for r in range(rows):
        for i in range(columns):
            wide[r, i] += i64(sums[r * width + i]) << shift


@inner
def input_sums(
    a: Array, rows: int, pairs: int, w: Array, norm: int, most: int, room: Inputs
) -> Any:
    """Write what a layer's input gives to all gates (PROD-004).

    Args:
        a: operands, int16, flat ``[rows, 2·pairs]``.
        rows: see ``a``.
        pairs: see ``a``.
        w: packed weights.
        norm: their norm.
        most: the largest magnitude of biases.
        room: where to, with bias and shift.

    Returns:
        The largest magnitude of what is to be added, more than int32 if it is in ``room.wide``.
    """
    largest, bias, shift = i32(0), room.bias, room.shift
    for n in range(rows * 2 * pairs):
        v = i32(a[n])
        largest = i32(max(largest, i32(max(v, i32(-v)))))
    bound = (i64(largest) * norm << shift) + most
    wide = room.wide[:rows]
    if bound > LIMIT:
        for r in range(rows):
            for i in range(bias.size):
                wide[r, i] = bias[i]
    operand = Operand(a, 2 * pairs, rows, pairs, i64(largest))
    in_sums = exact_product(operand, Factor(w, norm, bias.size), room.sums, wide, shift)
    if bound <= LIMIT:
        return bound
    if in_sums:
        add_shifted(wide, room.sums, shift)
    return _WIDE


@inner
def recurrent_sums(
    a: Operand, f: Factor, left: int, inputs: Inputs, at: int, sums: Array, zeros: Array
) -> Any:
    """Write what a view gives to some gates into ``sums``; return :class:`.records.Sums`.

    Args:
        a: the view.
        f: weights of the gates.
        left: left shift of the sums.
        inputs: sums of the input with all gates.
        at: the first of their columns that belongs to these gates.
        sums: int32, flat, room for whole panels; whole sums that do not fit int32 are clipped.
        zeros: int32, no fewer than whole panels of these gates.
    """
    rows, x, wide, bias = a.rows, inputs.sums, inputs.wide, inputs.bias
    across, width, shift = padded_columns(bias.size), padded_columns(f.columns), inputs.shift
    first, bound = inputs.first, inputs.bound
    if bound + (a.largest * f.norm << left) <= LIMIT:
        exact_product(a, f, sums, wide, i64(0))
        return Sums(sums, width, x, first * across + at, across, bias, at, left, shift)
    total = np.empty((rows, f.columns), np.int64)
    for r in range(rows):
        for i in range(f.columns):
            own = i64(x[(first + r) * across + at + i]) << shift
            total[r, i] = wide[first + r, at + i] if bound > LIMIT else own + bias[at + i]
    if exact_product(a, f, sums, total, left):
        add_shifted(total, sums, left)
    for r in range(rows):
        for i in range(f.columns):
            sums[r * width + i] = min(max(total[r, i], i64(-_CLIPPED)), i64(_CLIPPED))
    none = i64(0)
    return Sums(sums, width, zeros, none, none, zeros, none, none, none)
