"""Exact products by tile registers, which multiply bytes (Intel's AMX).

An int16 is 256 times its upper byte, which is signed, plus its lower one, which is not; so a
product of two is four products of bytes. A tile of the result, at most 16 rows and 16 columns, is
three sums in int32: of upper times upper, of the two that are mixed, and of lower times lower.
Where the whole fits int32, any of them may wrap. Where it need not, they are added in int64, after
so few terms that none wraps.

Packed, weights are tiles of 16 columns and 64 terms, those of a column tile one after the other,
with the upper bytes of a tile, 1 kB, before the lower ones. Four terms of a column lie side by
side. Columns and terms that fill no tile are made up with zeros.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .amx import (
    FIRST_OF_BYTES,
    SIDE,
    TERMS,
    TILE,
    aligned_at,
    configure,
    release,
    split,
    three_sums,
    whole_tile,
)
from .compiling import Array, i32, i64, inner
from .records import Factor, Operand

# Tiles of terms after which no sum in int32 is above 512 · 64 · 2 · 128 · 255, below 2^31.
_MOST: Final = 512


@inner
def _bytes_of(a: Operand, room: Array, at: int, length: int) -> None:
    """Write upper and lower bytes of an operand, each ``[rows, length]``, zeros behind its own."""
    for r in range(a.rows):
        lower, to = a.rows * length, at + r * length
        split(a.values, r * a.by_row, 2 * a.pairs, room, to, lower, length)


@inner
def multiply_bytes(
    a: Operand, f: Factor, sums: Array, width: int, fits: bool, wide: Array, shift: int
) -> None:
    """Multiply an operand by packed weights, as :func:`.products.exact_product` does.

    Args:
        a: the operand.
        f: the weights.
        sums: int32, flat, rows of ``width``: the result, if it fits.
        width: see ``sums``; no less than whole tiles of columns.
        fits: whether no sum leaves int32.
        wide: int64 ``[rows, columns]``: else the result, shifted, is added here.
        shift: left shift of what is added.
    """
    rows, tiles = a.rows, -(-2 * a.pairs // TERMS)
    length = tiles * TERMS
    room = np.empty(2 * rows * length + TERMS, np.int8)
    at: int = aligned_at(room)
    _bytes_of(a, room, at, length)
    pieces = -(-rows // SIDE)
    some = -(-rows // pieces)
    lower = rows * length
    three = np.empty(0 if fits else 3 * SIDE * SIDE, np.int32)
    configure(some, FIRST_OF_BYTES)
    for c in range(0, f.columns, SIDE):
        own = c * length  # int16 places of the column tile: 2 · 16 · length bytes
        for piece in range(pieces):
            # The last piece begins early enough to be whole.
            first = min(piece * some, rows - some)
            begin = at + first * length
            if fits:
                to = first * width + c
                whole_tile(room, begin, length, lower, f.w, own, tiles, sums, to, width, some)
                continue
            for k in range(0, tiles, _MOST):
                count, here, w = min(_MOST, tiles - k), begin + k * TERMS, own + k * TILE
                three_sums(room, here, length, lower, f.w, w, count, three, 0, 0, 0)
                # Rows that the piece before has had are not added again.
                for r in range(piece * some - first, some):
                    for i in range(min(SIDE, f.columns - c)):
                        n = r * SIDE + i
                        upper, mixed = i64(three[n]), i64(three[256 + n])
                        total = (upper << 16) + (mixed << 8) + i64(three[512 + n])
                        wide[first + r, c + i] += total << shift
    release()


@inner
def pack_tiles(w: Array, out: Array) -> None:
    """Pack weights int16 ``[N, K]`` into ``out``, int16, flat: see the head of this file."""
    n, k = w.shape
    tiles = -(-k // TERMS)
    to = out.view(np.int8)
    for c in range(0, n, SIDE):
        for t in range(tiles):
            at = (c // SIDE * tiles + t) * 2 * TILE
            for q in range(TERMS // 4):
                for i in range(SIDE):
                    for p in range(4):
                        term, place = t * TERMS + 4 * q + p, at + q * TERMS + 4 * i + p
                        inside = c + i < n and term < k
                        v = i32(w[c + i, term]) if inside else i32(0)
                        to[place] = v >> 8
                        to[place + TILE] = v
