"""Large products after a chunk: gradients of parameters and of the input (GRAD-014)."""

from __future__ import annotations

import numpy as np

from .compiling import Array, f32, i64, native
from .packing import padded_columns
from .products import add_outer_products, add_row, float_product


@native
def add_bias(ds: Array, into: Array, first: int) -> None:
    """Add the sums of ``ds``, ``[K, N·G]``, to a bias from ``first`` on (GRAD-014)."""
    length, columns = ds.shape
    flat, total = ds.reshape(-1), np.zeros(columns, np.float32)
    for k in range(length):
        add_row(columns, flat, k * columns, total, 0)
    add_row(columns, total, 0, into, first)


@native
def add_weights(
    ds: Array, first: int, rows: int, columns: int, packed: Array, width: int, into: Array, to: int
) -> None:
    """Add to some rows of a weight's gradient (GRAD-014).

    Args:
        ds: float32 ``[K, N·G]``.
        first: first column of it.
        rows: how many.
        columns: its columns N·G.
        packed: the operand, ``[K, width]``, packed.
        width: see ``packed``.
        into: float32 ``[…, width]``.
        to: the row there that belongs to column ``first``.
    """
    length, one = ds.shape[0], i64(1)
    add_outer_products(ds.reshape(-1), first, one, columns, rows, length, packed, width, into, to)


@native
def input_gradient(ds: Array, w: Array, first: int, dx: Array) -> None:
    """Write rows of the gradient of layer 0's input.

    Args:
        ds: float32 ``[2, K, N·G]``.
        w: packed float32 weights, ``[2, …]``.
        first: first row of ``dx`` among the K.
        dx: float32 ``[n, I]``.
    """
    _, total, columns = ds.shape
    count, length = dx.shape
    wide = padded_columns(length)
    flat = ds.reshape(-1)
    some = min(count, 64)
    to, part = dx.reshape(-1), np.empty(some * wide, np.float32)
    for i in range(to.size):
        to[i] = f32(0)
    for begin in range(0, count, some):
        rows = min(some, count - begin)
        for j in range(2):
            at = (j * total + first + begin) * columns
            float_product(flat, at, columns, rows, columns, w[j], length, part)
            for r in range(rows):
                add_row(length, part, r * wide, to, (begin + r) * length)
