"""Right operands of products, packed by panels as :mod:`.tiles` wants them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .amx import SIDE, TERMS, TILE
from .byte_products import pack_tiles
from .compiling import Array, f32, i64, inner, native
from .float_parts import BLOCK, PART
from .float_products import TWO_TILES, pack_2
from .processor import AMX
from .tiles import PANEL

# Of a processor's cache lines, in bytes: vectors that lie across two of them take longer to load.
_LINE = 64


def padded(columns: int) -> int:
    """Return a number of columns made up to whole panels."""
    return -(-columns // PANEL) * PANEL


padded_columns = inner(padded)


def packed_size(columns: int, terms: int) -> int:
    """Return how many int16 packed weights of so many columns and terms are."""
    if AMX:
        return -(-columns // SIDE) * -(-terms // TERMS) * TILE
    return padded(columns) * (terms + terms % 2)


def float_size(columns: int, terms: int) -> int:
    """Return how many float32 a packed right operand of so many columns and terms is."""
    if AMX:
        return -(-columns // BLOCK) * -(-terms // BLOCK) * TWO_TILES
    return -(-columns // PANEL) * PANEL * terms


packed_floats = inner(float_size)


@inner
def room_of_floats(size: int) -> Any:
    """Return room for so many float32, from a cache line on."""
    room = np.empty(size + _LINE // 4, np.float32)
    first = -room.ctypes.data % _LINE // 4
    return room[first : first + size]


def aligned(count: int, size: int, dtype: type) -> Array:
    """Return room for ``count`` packed matrices of ``size`` numbers, the first at a cache line."""
    whole = count * size * np.dtype(dtype).itemsize
    room = np.empty(whole + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    return room[first : first + whole].view(dtype).reshape(count, size)


@native
def pack_int16(w: Array, out: Array) -> Any:
    """Pack weights ``[N, K]`` as the right operand with N columns.

    ``out``, int16, flat, has by panel, pair of indices and column the pair's two numbers; where
    there are registers for tiles, it has what :mod:`.byte_products` wants.

    Returns:
        The norm: the largest sum of a column's magnitudes.
    """
    n, k = w.shape
    pairs = (k + 1) // 2
    norm = i64(0)
    for c in range(n):
        total = i64(0)
        for i in range(k):
            total += abs(i64(w[c, i]))
        norm = max(norm, total)
    if AMX:
        pack_tiles(w, out)
        return norm
    for p in range(-(-n // PANEL)):
        used = min(PANEL, n - p * PANEL)
        for q in range(pairs):
            at = (p * pairs + q) * 2 * PANEL
            for i in range(used):
                out[at + 2 * i] = w[p * PANEL + i, 2 * q]
                out[at + 2 * i + 1] = w[p * PANEL + i, 2 * q + 1] if 2 * q + 1 < k else 0
            for i in range(2 * used, 2 * PANEL):
                out[at + i] = 0
    return norm


@inner
def pack_terms(w: Array, scale: float, first: int, end: int, out: Array) -> None:
    """Pack some terms of ``w·scale``, ``[K, N]``; see :func:`pack_float`.

    Those from ``first``, a multiple of ``BLOCK``, to ``end``, another one or K.
    """
    k, n = w.shape
    if AMX:
        blocks, some = -(-k // BLOCK), -(-(end - first) // BLOCK)
        flat, strip = w.reshape(-1), blocks * 2 * PART
        for tile in range(-(-n // BLOCK) * 2):
            c, to = tile * SIDE, tile * strip + first // BLOCK * 2 * PART
            pack_2(flat, first * n + c, n, n - c, end - first, some, 1, scale, out, to)
        return
    own = w[first:end]  # with indices from 0 on, of which the compiler knows the sign
    for p in range(-(-n // PANEL)):
        used, panel = min(PANEL, n - p * PANEL), out[(p * k + first) * PANEL :]
        for q in range(len(own)):
            for i in range(used):
                panel[q * PANEL + i] = f32(own[q, p * PANEL + i]) * f32(scale)
            for i in range(used, PANEL):
                panel[q * PANEL + i] = f32(0)


@native
def pack_float(w: Array, scale: float, out: Array) -> None:
    """Pack ``w·scale``, ``[K, N]``, as the right operand with N columns, float32, flat.

    Numbers have at most 16 significant bits, as those in fixed point have.
    """
    pack_terms(w, f32(scale), i64(0), i64(w.shape[0]), out)
