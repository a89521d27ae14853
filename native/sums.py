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
    a: Array,
    rows: int,
    pairs: int,
    w: Array,
    norm: int,
    bias: Array,
    most: int,
    shift: int,
    sums: Array,
    wide: Array,
) -> Any:
    """Write what the input gives to all gates (PROD-004).

    Args:
        a: operands, int16, flat ``[rows, 2·pairs]``.
        rows: see ``a``.
        pairs: see ``a``.
        w: packed weights.
        norm: their norm.
        bias: int32 ``[columns]``.
        most: their largest magnitude.
        shift: left shift of the sums.
        sums: int32, flat ``[rows, whole panels]``, not shifted and without biases.
        wide: int64 ``[…, columns]``: shifted and with biases, where that does not fit int32.

    Returns:
        The largest magnitude of what is to be added, more than int32 if ``wide`` was written.
    """
    largest = i32(0)
    for n in range(rows * 2 * pairs):
        v = i32(a[n])
        largest = i32(max(largest, i32(max(v, i32(-v)))))
    bound = (i64(largest) * norm << shift) + most
    wide = wide[:rows]
    if bound > LIMIT:
        for r in range(rows):
            for i in range(bias.size):
                wide[r, i] = bias[i]
    in_sums = exact_product(
        a, 2 * pairs, i64(largest), rows, pairs, w, norm, bias.size, sums, wide, shift
    )
    if bound <= LIMIT:
        return bound
    if in_sums:
        add_shifted(wide, sums, shift)
    return _WIDE


@inner
def recurrent_sums(
    a: Array,
    by_row: int,
    largest: int,
    pairs: int,
    w: Array,
    norm: int,
    columns: int,
    left: int,
    sums: Array,
    bound: int,
    x: Array,
    first: int,
    wide: Array,
    bias: Array,
    at: int,
    shift: int,
    zeros: Array,
) -> Any:
    """Write what a view gives to some gates into ``sums``.

    Args:
        a: operands, int16, flat, with ``by_row`` from one row to the next.
        by_row: see ``a``.
        largest: their largest magnitude.
        pairs: half of their number in a row.
        w: packed weights.
        norm: their norm.
        columns: number of gates' columns.
        left: left shift of the sums.
        sums: int32, flat, room for whole panels; clipped, the whole sums if they do not fit int32.
        bound: what :func:`input_sums` gave.
        x: input sums.
        first: the first of their rows.
        wide: the same in int64.
        bias: int32, of all gates.
        at: the first column of input sums and biases.
        shift: left shift of input sums.
        zeros: int32, as many as ``bias``.

    Returns:
        What is to be added to ``sums``: input sums, where they begin, from one row to the next,
        biases, where they begin, and left shifts of recurrent and input sums.
    """
    rows, across, width = a.size // by_row, padded_columns(bias.size), padded_columns(columns)
    if bound + (largest * norm << left) <= LIMIT:
        exact_product(a, by_row, largest, rows, pairs, w, norm, columns, sums, wide, i64(0))
        return x, first * across + at, across, bias, at, left, shift
    total = np.empty((rows, columns), np.int64)
    for r in range(rows):
        for i in range(columns):
            own = i64(x[(first + r) * across + at + i]) << shift
            total[r, i] = wide[first + r, at + i] if bound > LIMIT else own + bias[at + i]
    if exact_product(a, by_row, largest, rows, pairs, w, norm, columns, sums, total, left):
        add_shifted(total, sums, left)
    for r in range(rows):
        for i in range(columns):
            sums[r * width + i] = min(max(total[r, i], i64(-_CLIPPED)), i64(_CLIPPED))
    return zeros, 0, 0, zeros, 0, 0, 0
