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

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import Array, i32, i64, inner
from .records import Factor, Operand

# Rows and columns of a tile of the result, and terms of one of the operands.
SIDE: Final = 16
TERMS: Final = 64
# Numbers of a tile of packed weights, both of its bytes.
TILE: Final = SIDE * TERMS
# Tiles of terms after which no sum in int32 is above 512 · 64 · 2 · 128 · 255, below 2^31.
_MOST: Final = 512

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES: Final = _I8.as_pointer()
_SUMS: Final = ir.VectorType(_I32, SIDE)
# Registers: the three sums, the bytes of the left operand, those of the weights.
_UPPER, _MIXED, _LOWER, _A_UPPER, _A_LOWER, _W_UPPER, _W_LOWER = range(7)


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)


def _do(builder: Any, name: str, *values: Any) -> None:
    """Call an operation on tiles; registers are Python's numbers."""
    given = [ir.Constant(_I8, v) if isinstance(v, int) else v for v in values]
    kind = ir.FunctionType(ir.VoidType(), [v.type for v in given])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), given)


def _room(builder: Any, size: int) -> Any:
    """Return ``size`` bytes of the stack."""
    room = cgutils.alloca_once(builder, ir.ArrayType(_I8, size))
    room.align = TERMS
    return builder.bitcast(room, _BYTES)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    made = cgutils.create_struct_proxy(kind)(context, builder, value=array)
    return builder.bitcast(builder.gep(made.data, [at]), _BYTES)


@intrinsic
def _aligned(typingctx: Any, array: Any) -> Any:
    """Return the first index of an array of bytes at a multiple of 64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], args[0], _int(0))
        negative = builder.neg(builder.ptrtoint(place, _I64))
        return builder.and_(negative, _int(TERMS - 1))

    return types.intp(array), codegen


@intrinsic
def _configure(typingctx: Any, rows: Any) -> Any:
    """Begin to use tiles, of that many rows."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        room = _room(builder, TERMS)
        cgutils.memset(builder, room, _int(TERMS), 0)
        builder.store(ir.Constant(_I8, 1), room)
        own = builder.trunc(args[0], _I8)
        for register in range(7):
            weights = register in (_W_UPPER, _W_LOWER)
            count = ir.Constant(_I8, SIDE) if weights else own
            builder.store(ir.Constant(_I8, TERMS), builder.gep(room, [_int(16 + 2 * register)]))
            builder.store(count, builder.gep(room, [_int(48 + register)]))
        _do(builder, "ldtilecfg", room)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def _release(typingctx: Any) -> Any:
    """End the use of tiles."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _do(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


def _multiply(builder: Any, a: Any, row: Any, lower: Any, w: Any, count: Any) -> None:
    """Sum products of ``count`` tiles of terms in the three registers.

    Args:
        builder: LLVM's.
        a: place of the left operand's upper bytes.
        row: bytes from one of its rows to the next.
        lower: bytes from there to its lower bytes.
        w: place of packed weights.
        count: of tiles.
    """
    for register in (_UPPER, _MIXED, _LOWER):
        _do(builder, "tilezero", register)
    with cgutils.for_range(builder, count) as loop:
        upper = builder.gep(a, [builder.mul(loop.index, _int(TERMS))])
        own = builder.gep(w, [builder.mul(loop.index, _int(2 * TILE))])
        _do(builder, "tileloadd64", _A_UPPER, upper, row)
        _do(builder, "tileloadd64", _W_UPPER, own, _int(TERMS))
        _do(builder, "tdpbssd", _UPPER, _A_UPPER, _W_UPPER)
        _do(builder, "tileloadd64", _A_LOWER, builder.gep(upper, [lower]), row)
        _do(builder, "tdpbusd", _MIXED, _A_LOWER, _W_UPPER)
        _do(builder, "tileloadd64", _W_LOWER, builder.gep(own, [_int(TILE)]), _int(TERMS))
        _do(builder, "tdpbsud", _MIXED, _A_UPPER, _W_LOWER)
        _do(builder, "tdpbuud", _LOWER, _A_LOWER, _W_LOWER)


def _tile(whole: bool) -> Any:
    """Return an intrinsic that multiplies some rows by a column tile.

    Its arguments: bytes of the left operand, where its rows begin, from row to row, from upper to
    lower bytes; weights, where they begin, tiles of terms; int32 result, where, from row to row,
    rows. With ``whole`` the result is the sum, else the three sums, each of 16 rows of 16.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        a = _place(context, builder, kinds[0], args[0], args[1])
        w = _place(context, builder, kinds[4], args[4], args[5])
        out = _place(context, builder, kinds[7], args[7], args[8])
        size = SIDE * SIDE * 4
        room = _room(builder, 3 * size) if whole else out
        _multiply(builder, a, args[2], args[3], w, args[6])
        for register in (_UPPER, _MIXED, _LOWER):
            to = builder.gep(room, [_int(register * size)])
            _do(builder, "tilestored64", register, to, _int(TERMS))
        if not whole:
            return context.get_dummy_value()
        with cgutils.for_range(builder, args[10]) as loop:
            total = None
            for register in (_UPPER, _MIXED, _LOWER):
                at = builder.add(builder.mul(loop.index, _int(TERMS)), _int(register * size))
                sums = builder.load(builder.bitcast(builder.gep(room, [at]), _SUMS.as_pointer()))
                if total is None:
                    total = sums
                    continue
                total = builder.add(builder.shl(total, ir.Constant(_SUMS, [8] * SIDE)), sums)
            at = builder.mul(builder.mul(loop.index, args[9]), _int(4))
            place = builder.bitcast(builder.gep(out, [at]), _SUMS.as_pointer())
            builder.store(total, place).align = 4
        return context.get_dummy_value()

    def tile(
        typingctx: Any,
        a: Any,
        a_at: Any,
        by_row: Any,
        lower: Any,
        w: Any,
        w_at: Any,
        count: Any,
        out: Any,
        to: Any,
        by_out: Any,
        rows: Any,
    ) -> Any:
        n = types.intp
        return types.void(a, n, n, n, w, n, n, out, n, n, n), codegen

    return intrinsic(tile)


_whole_tile, _three_sums = _tile(True), _tile(False)


@intrinsic
def _split(
    typingctx: Any, a: Any, a_at: Any, own: Any, out: Any, to: Any, lower: Any, length: Any
) -> Any:
    """Write upper and lower bytes of a row of int16, zeros behind its own.

    Its arguments: int16, where the row begins, its numbers; bytes, where upper ones begin, from
    there to the lower ones, how many to write, whole vectors.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        some = 2 * SIDE
        shorts, bits = ir.VectorType(ir.IntType(16), some), ir.VectorType(ir.IntType(1), some)
        numbers, short = ir.VectorType(_I32, some), ir.VectorType(_I8, some)
        load = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(shorts, [shorts.as_pointer(), _I32, bits, shorts]),
            f"llvm.masked.load.v{some}i16.p0",
        )
        values = _place(context, builder, signature.args[0], args[0], args[1])
        upper = _place(context, builder, signature.args[3], args[3], args[4])
        lanes, eight = ir.Constant(numbers, list(range(some))), ir.Constant(shorts, [8] * some)
        nothing, zeros = ir.Constant(numbers, ir.Undefined), ir.Constant(numbers, None)
        with cgutils.for_range_slice(builder, _int(0), args[6], _int(some), _I64) as (i, _):
            left = builder.trunc(builder.sub(args[2], i), _I32)
            first = builder.insert_element(nothing, left, ir.Constant(_I32, 0))
            inside = builder.icmp_signed(
                "<", lanes, builder.shuffle_vector(first, nothing, zeros)
            )
            place = builder.gep(values, [builder.mul(i, _int(2))])
            place = builder.bitcast(place, shorts.as_pointer())
            given = [place, ir.Constant(_I32, 2), inside, ir.Constant(shorts, None)]
            row = builder.call(load, given)
            for which, part in ((_int(0), builder.ashr(row, eight)), (args[5], row)):
                at = builder.gep(upper, [builder.add(i, which)])
                builder.store(builder.trunc(part, short), builder.bitcast(at, short.as_pointer()))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, out, n, n, n), codegen


@inner
def _bytes_of(a: Operand, room: Array, at: int, length: int) -> None:
    """Write upper and lower bytes of an operand, each ``[rows, length]``, zeros behind its own."""
    for r in range(a.rows):
        lower, to = a.rows * length, at + r * length
        _split(a.values, r * a.by_row, 2 * a.pairs, room, to, lower, length)


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
    at = _aligned(room)
    _bytes_of(a, room, at, length)
    pieces = -(-rows // SIDE)
    some = -(-rows // max(pieces, 1))
    lower = rows * length
    three = np.empty(0 if fits else 3 * SIDE * SIDE, np.int32)
    _configure(some)
    for c in range(0, f.columns, SIDE):
        own = c * length  # int16 places of the column tile: 2 · 16 · length bytes
        for piece in range(pieces):
            # The last piece begins early enough to be whole.
            first = min(piece * some, rows - some)
            begin = at + first * length
            if fits:
                to = first * width + c
                _whole_tile(room, begin, length, lower, f.w, own, tiles, sums, to, width, some)
                continue
            for k in range(0, tiles, _MOST):
                count, here, w = min(_MOST, tiles - k), begin + k * TERMS, own + k * TILE
                _three_sums(room, here, length, lower, f.w, w, count, three, 0, 0, 0)
                # Rows that the piece before has had are not added again.
                for r in range(piece * some - first, some):
                    for i in range(min(SIDE, f.columns - c)):
                        n = r * SIDE + i
                        upper, mixed = i64(three[n]), i64(three[256 + n])
                        total = (upper << 16) + (mixed << 8) + i64(three[512 + n])
                        wide[first + r, c + i] += total << shift
    _release()


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
