"""Large products after a chunk: gradients of parameters and of the input (GRAD-014)."""

from __future__ import annotations

from typing import Final

import numpy as np

from .amx import SIDE
from .compiling import Array, f32, i64, inner
from .packing import pack_float, packed_floats, padded_columns, room_of_floats
from .processor import AMX
from .products import add_outer_products, add_row, float_product
from .tiles import TALL

# Rows of parameters that are best computed together.
_TALL: Final = 2 * SIDE if AMX else TALL


@inner
def _add_bias(ds: Array, at: int, by: int, count: int, length: int, into: Array, to: int) -> None:
    """Add the sums over ``length`` rows of ``ds``, ``by`` apart, to a part of a bias."""
    total = np.zeros(count, np.float32)
    for k in range(length):
        add_row(count, ds, at + k * by, total, 0)
    add_row(count, total, 0, into, to)


@inner
def add_layer(
    ds: Array,
    below: Array,
    pieces: Array,
    seen: tuple[int, int],
    layer: tuple[int, int],
    units: int,
    of_input: Array,
    of_state: Array,
    of_bias: Array,
    part: int,
    parts: int,
) -> None:
    """Add one part of several to the gradients of a layer's parameters (GRAD-014).

    Args:
        ds: float32 ``[2, K, N·G]``: gradients of pre-activations.
        below: the layer's input, ``[K, width]``, packed.
        pieces: float32, flat: of the tape, each ``[L, 2, K, G]``.
        seen: the piece that gates see, and for RevGRU the one that the candidate, the last G
            columns, sees instead; −1 for RevLSTM.
        layer: which, and how many there are.
        units: G.
        of_input: float32 ``[2·N·G, width]``, to be added to, as are the next two.
        of_state: ``[2·N·G, G]``.
        of_bias: ``[2·N·G]``.
        part: which of the parts, of whole tiles each, that threads share.
        parts: how many there are.
    """
    _, length, columns = ds.shape
    flat, tiles, of_view = ds.reshape(-1), -(-2 * columns // _TALL), columns
    if seen[1] >= 0:
        of_view -= units
    begin, end = part * tiles // parts * _TALL, (part + 1) * tiles // parts * _TALL
    view = room_of_floats(packed_floats(units, length))
    for j in range(2):
        here = j * columns
        first, last = max(begin - here, 0), min(end - here, columns)
        if first >= last:
            continue
        own, n, one = here * length, last - first, i64(1)
        _add_bias(flat, own + first, columns, n, length, of_bias, here + first)
        to, width = here + first, of_input.shape[1]
        add_outer_products(flat, own + first, one, columns, n, length, below, width, of_input, to)
        for which in range(2):
            low, high = (0, of_view) if which == 0 else (of_view, columns)
            low, high = max(first, low), min(last, high)
            if low < high:
                at = ((seen[which] * layer[1] + layer[0]) * 2 + j) * length * units
                pack_float(pieces[at : at + length * units].reshape(length, units), 1.0, view)
                to, n = here + low, high - low
                add_outer_products(
                    flat, own + low, one, columns, n, length, view, units, of_state, to
                )


@inner
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
