"""Products of float32 by tile registers, which multiply bfloat16 (Intel's AMX).

A float32 is the sum of three bfloat16, which hold eight bits each; so a product of two is nine
products of parts, of which three are below float32's precision and left out. A number of at most
16 bits, as weights and operands in fixed point are, has two parts, and five products are made. Sums
are float32. What differs from other float32 products: parts below 2^-126 are 0, so that numbers
below 2^-110 are less precise, and infinite ones give NaN.

Packed, the right operand is tiles of 16 columns and 32 terms, those of a column tile one after the
other, each with its parts one after the other, 1 kB each. Two terms of a column lie side by side.
Terms that fill no tile and columns that fill no two are made up with zeros.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .amx import SIDE, TERMS, aligned_at, configure, release
from .compiling import Array, f32, inner
from .float_parts import (
    BLOCK,
    PART,
    PARTS,
    pack_pair_of_2,
    pack_pair_of_3,
    split_columns,
    split_row,
)
from .float_tiles import (
    FIRST_BY_COLUMNS,
    FIRST_BY_ROWS,
    add_three_part_tiles,
    add_tiles_2_2,
    tiles_1_2,
    tiles_1_4,
    tiles_2_2,
)

# Float32 that take the room of two tiles of weights, of two parts: 32 columns and 32 terms.
TWO_TILES: Final = 2 * 2 * PART // 4
# Bytes of a left operand that stay in the processor's second cache.
_CACHED: Final = 2**20


@inner
def row_length(blocks: int) -> Any:
    """Return the bytes of a row of so many tiles of terms: those of a tile lie apart in a cache."""
    return (blocks | 1) * TERMS


@inner
def left_room(rows: int, by: int) -> Any:
    """Return room for rows of ``by`` bytes in three parts, where it begins, and a part's size."""
    room = np.empty(PARTS * rows * by + TERMS, np.int8)
    at: int = aligned_at(room)
    return room, at, rows * by


def _pack(pack_pair: Any, parts: int) -> Any:
    @inner
    def pack(
        w: Array,
        at: int,
        by_row: int,
        columns: int,
        terms: int,
        blocks: int,
        tiles: int,
        scale: float,
        out: Array,
        to: int,
    ) -> None:
        """Pack ``w·scale`` into so many tiles of terms and columns, from byte ``to`` of ``out`` on.

        Element ``[k, c]`` of ``w``, flat, is at ``at + k·by_row + c``.
        """
        for c in range(0, tiles * SIDE, SIDE):
            for block in range(blocks):
                for pair in range(SIDE):
                    k = block * BLOCK + 2 * pair
                    n = columns - c if k < terms else 0
                    m = columns - c if k + 1 < terms else 0
                    own = at + k * by_row + c
                    pack_pair(w, own, own + by_row, n, m, f32(scale), out, to + pair * TERMS)
                to += parts * PART

    return pack


pack_2, pack_3 = _pack(pack_pair_of_2, 2), _pack(pack_pair_of_3, 3)


@inner
def multiply_floats(
    a: Array,
    a_at: int,
    by_row: int,
    rows: int,
    length: int,
    w: Array,
    columns: int,
    out: Array,
    width: int,
) -> None:
    """Multiply as :func:`.products.float_product` does, into rows of ``width``."""
    blocks, pieces = -(-length // BLOCK), 1 if rows <= SIDE else -(-rows // (2 * SIDE)) * 2
    some, by, strip = -(-rows // pieces), row_length(blocks), blocks * 2 * PART
    room, at, lower = left_room(pieces * some, by)
    for r in range(rows):
        split_row(a, a_at + r * by_row, length, room, at + r * by, lower, blocks * BLOCK)
    configure(some, FIRST_BY_COLUMNS if pieces == 1 else FIRST_BY_ROWS)
    for c in range(0, columns if pieces > 1 else 0, 2 * SIDE):
        own, n = c // SIDE * strip, columns - c
        for r in range(0, rows, 2 * some):
            here, to, m = at + r * by, r * width + c, min(2 * some, rows - r)
            tiles_2_2(room, here, by, lower, w, own, strip, blocks, out, to, width, some, m, n)
    for c in range(0, columns if pieces == 1 else 0, 4 * SIDE):
        own, n = c // SIDE * strip, columns - c
        if n > 2 * SIDE:
            tiles_1_4(room, at, by, lower, w, own, strip, blocks, out, c, width, some, rows, n)
        else:
            tiles_1_2(room, at, by, lower, w, own, strip, blocks, out, c, width, some, rows, n)
    release()


def _add_outer(add_tiles: Any, parts: int) -> Any:
    @inner
    def add_outer(
        a: Array,
        a_at: int,
        by_index: int,
        rows: int,
        length: int,
        packed: Array,
        columns: int,
        into: Array,
        first: int,
    ) -> None:
        """Add as :func:`.products.add_outer_products` does; rows of ``a`` lie side by side."""
        blocks, flat = -(-length // BLOCK), into.reshape(-1)
        by, strip = row_length(blocks), blocks * parts * PART
        most = max(_CACHED // (PARTS * by) // (2 * SIDE), 1) * 2 * SIDE
        some = min(most, -(-rows // (2 * SIDE)) * 2 * SIDE)
        room, at, lower = left_room(some, by)
        configure(SIDE, FIRST_BY_ROWS)
        for begin in range(0, rows, some):
            count = min(some, rows - begin)
            for block in range(blocks):  # along rows, as memory is best read
                k = block * BLOCK
                for r in range(0, count, SIDE):
                    place, to = a_at + begin + r + k * by_index, at + r * by + block * TERMS
                    n, m = count - r, length - k
                    split_columns(a, place, by_index, n, m, room, to, by, lower)
            for c in range(0, columns, 2 * SIDE):
                own, n = c // SIDE * strip, columns - c
                for r in range(0, count, 2 * SIDE):
                    here, to, m = (
                        at + r * by,
                        (first + begin + r) * columns + c,
                        min(2 * SIDE, count - r),
                    )
                    add_tiles(
                        room,
                        here,
                        by,
                        lower,
                        packed,
                        own,
                        strip,
                        blocks,
                        flat,
                        to,
                        columns,
                        SIDE,
                        m,
                        n,
                    )
        release()

    return add_outer


add_outer_floats, add_outer_of_3 = _add_outer(add_tiles_2_2, 2), _add_outer(add_three_part_tiles, 3)
