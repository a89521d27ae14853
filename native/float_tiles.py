"""Products of parts of float32 by tile registers, in LLVM's terms: see :mod:`.float_products`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .amx import SIDE, TERMS, bytes_of, do, first_lanes, integer, room_of
from .float_parts import FLOATS, PART, PARTS, as_vector, masked, plus

# Calls leave out what intrinsics are given of typing.
_intrinsic: Any = intrinsic

# Registers: four tiles of sums; then, by two tiles of rows and two of columns, those of one part of
# the left operand and of the weights; by one tile of rows, all parts of the left operand and one
# of the weights.
_SUMS: Final = 4
FIRST_BY_ROWS: Final = _SUMS + 2
FIRST_BY_COLUMNS: Final = _SUMS + PARTS
# Which products are made, by the number of parts that the weights have: part of the left operand,
# part of the weights. The others are below float32's precision. Each sum is added in this order,
# whatever the tiles.
_ORDER: Final = {
    2: ((0, 1), (1, 1), (1, 0), (2, 0), (0, 0)),
    3: ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0)),
}


def _tiles(parts: int, down: int, across: int, adds: bool) -> Callable[..., Any]:
    """Return an intrinsic that multiplies rows by packed weights: up to four tiles of sums.

    Its arguments: bytes of the left operand, where its rows begin, from row to row, from part to
    part; an array of packed weights, at which of its bytes they begin, bytes from one tile of
    columns to the next, tiles of terms; float32 result, where, from row to row; rows of a tile,
    rows and columns of the result.

    Args:
        parts: of the weights.
        down: tiles of rows.
        across: tiles of columns.
        adds: whether the result is added to what is there.
    """
    tiles = [(r, c) for r in range(down) for c in range(across)]

    def multiply(builder: Any, a: Any, w: Any, args: Any) -> None:
        by_row, by_part, by_tile, some = args[2], args[3], args[6], args[11]
        loaded: dict[int, tuple[int, int]] = {}

        def left(part: int, r: int) -> int:
            register = _SUMS + (r if down > 1 else part)
            if loaded.get(register) != (part, r):
                at = builder.mul(by_part, integer(part))
                at = builder.add(at, builder.mul(builder.mul(by_row, some), integer(r)))
                do(builder, "tileloadd64", register, plus(builder, a, at), by_row)
                loaded[register] = part, r
            return register

        def weights(part: int, c: int) -> int:
            register = FIRST_BY_ROWS + c if down > 1 else FIRST_BY_COLUMNS
            if loaded.get(register) != (part, c):
                at = builder.add(builder.mul(by_tile, integer(c)), integer(part * PART))
                do(builder, "tileloadd64", register, plus(builder, w, at), integer(TERMS))
                loaded[register] = part, c
            return register

        def add(a_part: int, w_part: int, r: int, c: int) -> None:
            own, other = left(a_part, r), weights(w_part, c)
            do(builder, "tdpbf16ps", across * r + c, own, other)

        if down > 1:
            for a_part, w_part in _ORDER[parts]:
                for r, c in tiles:
                    add(a_part, w_part, r, c)
            return
        for part in reversed(range(parts)):
            for _, c in tiles:
                for a_part, w_part in _ORDER[parts]:
                    if w_part == part:
                        add(a_part, w_part, 0, c)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, room = signature.args, room_of(builder, len(tiles) * PART)
        a = bytes_of(context, builder, kinds[0], args[0], args[1])
        w = bytes_of(context, builder, kinds[4], args[4], integer(0))
        w = plus(builder, w, args[5])
        out = bytes_of(context, builder, kinds[8], args[8], args[9])
        some, rows, columns = args[11:14]
        by_out = builder.mul(args[10], integer(4))
        for register in range(len(tiles)):
            do(builder, "tilezero", register)
        with cgutils.for_range(builder, args[7]) as loop:
            left = plus(builder, a, builder.mul(loop.index, integer(TERMS)))
            own = plus(builder, w, builder.mul(loop.index, integer(parts * PART)))
            multiply(builder, left, own, args)

        def in_parts() -> None:
            """Write the rows and columns that the result has."""
            for register in range(len(tiles)):
                to = plus(builder, room, register * PART)
                do(builder, "tilestored64", register, to, integer(TERMS))
            for register, (r, c) in enumerate(tiles):
                sums, first = plus(builder, room, register * PART), builder.mul(some, integer(r))
                inside = first_lanes(builder, builder.sub(columns, integer(c * SIDE)), SIDE)
                left = builder.sub(rows, first)
                fewer = builder.icmp_signed("<", left, some)
                with cgutils.for_range(builder, builder.select(fewer, left, some)) as loop:
                    place = plus(builder, sums, builder.mul(loop.index, integer(TERMS)))
                    total = builder.load(as_vector(builder, place, FLOATS))
                    at = builder.mul(builder.add(loop.index, first), by_out)
                    at = builder.add(at, integer(c * TERMS))
                    to = as_vector(builder, plus(builder, out, at), FLOATS)
                    if adds:
                        old = masked(builder, "load", FLOATS, to, inside)
                        total = builder.fadd(old, total)
                    masked(builder, "store", FLOATS, total, to, inside)

        if adds:
            in_parts()
            return context.get_dummy_value()
        all_rows = builder.icmp_signed(">=", rows, builder.mul(some, integer(down)))
        all_columns = builder.icmp_signed(">=", columns, integer(across * SIDE))
        with builder.if_else(builder.and_(all_rows, all_columns)) as (whole, otherwise):
            with whole:
                for register, (r, c) in enumerate(tiles):
                    at = builder.mul(builder.mul(some, by_out), integer(r))
                    at = builder.add(at, integer(c * TERMS))
                    do(builder, "tilestored64", register, plus(builder, out, at), by_out)
            with otherwise:
                in_parts()
        return context.get_dummy_value()

    def multiply_tiles(
        typingctx: Any,
        a: Any,
        at: Any,
        by_row: Any,
        by_part: Any,
        w: Any,
        w_at: Any,
        by_tile: Any,
        count: Any,
        out: Any,
        to: Any,
        by_out: Any,
        some: Any,
        rows: Any,
        columns: Any,
    ) -> Any:
        n = types.intp
        return types.void(a, n, n, n, w, n, n, n, out, n, n, n, n, n), codegen

    return multiply_tiles


# By rows and columns of tiles.
tiles_2_2, add_tiles_2_2 = (_intrinsic(_tiles(2, 2, 2, adds)) for adds in (False, True))
tiles_1_4, tiles_1_2 = (_intrinsic(_tiles(2, 1, across, False)) for across in (4, 2))
three_part_tiles, add_three_part_tiles = (
    _intrinsic(_tiles(3, 2, 2, adds)) for adds in (False, True)
)
