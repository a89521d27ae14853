"""Registers for tiles (Intel's AMX), and products of bytes by them, in LLVM's terms.

See :mod:`.byte_products`; those of float32 are in :mod:`.float_tiles`.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tiles import place_of

# Rows and columns of a tile of the result, and terms of one of the operands.
SIDE: Final = 16
TERMS: Final = 64
# Numbers of a tile of packed weights, both of its bytes.
TILE: Final = SIDE * TERMS

# Calls leave out what intrinsics are given of typing.
_intrinsic: Any = intrinsic
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES: Final = _I8.as_pointer()
_SUMS: Final = ir.VectorType(_I32, SIDE)
# Registers: the three sums, the bytes of the left operand, those of the weights.
_UPPER, _MIXED, _LOWER, _A_UPPER, _A_LOWER, _W_UPPER, _W_LOWER = range(7)
FIRST_OF_BYTES: Final = _W_UPPER
_REGISTERS: Final = 8


def integer(value: int) -> Any:
    """Return a constant int64."""
    return ir.Constant(_I64, value)


def do(builder: Any, name: str, *values: Any) -> None:
    """Call an operation on tiles; registers are Python's numbers."""
    given = [ir.Constant(_I8, v) if isinstance(v, int) else v for v in values]
    kind = ir.FunctionType(ir.VoidType(), [v.type for v in given])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), given)


def room_of(builder: Any, size: int) -> Any:
    """Return ``size`` bytes of the stack."""
    room = cgutils.alloca_once(builder, ir.ArrayType(_I8, size))
    room.align = TERMS
    return builder.bitcast(room, _BYTES)


def bytes_of(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Return the place of element ``at`` of a flat array, as one of bytes."""
    return builder.bitcast(place_of(context, builder, kind, array, at), _BYTES)


def in_all_lanes(builder: Any, vector: Any, value: Any) -> Any:
    """Return a vector that has a number in all lanes."""
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, vector.count), None)
    return builder.shuffle_vector(one, nothing, zeros)


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """Return which of so many lanes are among the first ``count``, an int64."""
    numbers = ir.VectorType(_I32, lanes)
    counts = in_all_lanes(builder, numbers, builder.trunc(count, _I32))
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), counts)


def _aligned_at(typingctx: Any, array: Any) -> Any:
    """First index of an array of bytes whose place is a multiple of 64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = bytes_of(context, builder, signature.args[0], args[0], integer(0))
        negative = builder.neg(builder.ptrtoint(place, _I64))
        return builder.and_(negative, integer(TERMS - 1))

    return types.intp(array), codegen


def _configure(typingctx: Any, rows: Any, weights: Any) -> Any:
    """Begin to use tiles: of that many rows before register ``weights``, of 16 from there on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        room = room_of(builder, TERMS)
        cgutils.memset(builder, room, integer(TERMS), 0)
        builder.store(ir.Constant(_I8, 1), room)
        own = builder.trunc(args[0], _I8)
        for register in range(_REGISTERS):
            whole = builder.icmp_signed("<=", args[1], integer(register))
            count = builder.select(whole, ir.Constant(_I8, SIDE), own)
            builder.store(ir.Constant(_I8, TERMS), builder.gep(room, [integer(16 + 2 * register)]))
            builder.store(count, builder.gep(room, [integer(48 + register)]))
        do(builder, "ldtilecfg", room)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


def _release(typingctx: Any) -> Any:
    """End the use of tiles."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        do(builder, "tilerelease")
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
        do(builder, "tilezero", register)
    with cgutils.for_range(builder, count) as loop:
        upper = builder.gep(a, [builder.mul(loop.index, integer(TERMS))])
        own = builder.gep(w, [builder.mul(loop.index, integer(2 * TILE))])
        do(builder, "tileloadd64", _A_UPPER, upper, row)
        do(builder, "tileloadd64", _W_UPPER, own, integer(TERMS))
        do(builder, "tdpbssd", _UPPER, _A_UPPER, _W_UPPER)
        do(builder, "tileloadd64", _A_LOWER, builder.gep(upper, [lower]), row)
        do(builder, "tdpbusd", _MIXED, _A_LOWER, _W_UPPER)
        do(builder, "tileloadd64", _W_LOWER, builder.gep(own, [integer(TILE)]), integer(TERMS))
        do(builder, "tdpbsud", _MIXED, _A_UPPER, _W_LOWER)
        do(builder, "tdpbuud", _LOWER, _A_LOWER, _W_LOWER)


def _tile(whole: bool) -> Any:
    """Return an intrinsic that multiplies some rows by a column tile.

    Its arguments: bytes of the left operand, where its rows begin, from row to row, from upper to
    lower bytes; weights, where they begin, tiles of terms; int32 result, where, from row to row,
    rows. With ``whole`` the result is the sum, else the three sums, each of 16 rows of 16.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        a = bytes_of(context, builder, kinds[0], args[0], args[1])
        w = bytes_of(context, builder, kinds[4], args[4], args[5])
        out = bytes_of(context, builder, kinds[7], args[7], args[8])
        size = SIDE * SIDE * 4
        room = room_of(builder, 3 * size) if whole else out
        _multiply(builder, a, args[2], args[3], w, args[6])
        for register in (_UPPER, _MIXED, _LOWER):
            to = builder.gep(room, [integer(register * size)])
            do(builder, "tilestored64", register, to, integer(TERMS))
        if not whole:
            return context.get_dummy_value()
        with cgutils.for_range(builder, args[10]) as loop:
            total = None
            for register in (_UPPER, _MIXED, _LOWER):
                at = builder.add(builder.mul(loop.index, integer(TERMS)), integer(register * size))
                sums = builder.load(builder.bitcast(builder.gep(room, [at]), _SUMS.as_pointer()))
                if total is None:
                    total = sums
                    continue
                total = builder.add(builder.shl(total, ir.Constant(_SUMS, [8] * SIDE)), sums)
            at = builder.mul(builder.mul(loop.index, args[9]), integer(4))
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

    return _intrinsic(tile)


whole_tile, three_sums = _tile(True), _tile(False)


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
        short = ir.VectorType(_I8, some)
        load = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(shorts, [shorts.as_pointer(), _I32, bits, shorts]),
            f"llvm.masked.load.v{some}i16.p0",
        )
        values = bytes_of(context, builder, signature.args[0], args[0], args[1])
        upper = bytes_of(context, builder, signature.args[3], args[3], args[4])
        eight = ir.Constant(shorts, [8] * some)
        with cgutils.for_range_slice(builder, integer(0), args[6], integer(some), _I64) as (i, _):
            inside = first_lanes(builder, builder.sub(args[2], i), some)
            place = builder.gep(values, [builder.mul(i, integer(2))])
            place = builder.bitcast(place, shorts.as_pointer())
            given = [place, ir.Constant(_I32, 2), inside, ir.Constant(shorts, None)]
            row = builder.call(load, given)
            for which, part in ((integer(0), builder.ashr(row, eight)), (args[5], row)):
                at = builder.gep(upper, [builder.add(i, which)])
                builder.store(builder.trunc(part, short), builder.bitcast(at, short.as_pointer()))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, out, n, n, n), codegen


aligned_at: Any = _intrinsic(_aligned_at)
configure: Any = _intrinsic(_configure)
release: Any = _intrinsic(_release)
split: Any = _intrinsic(_split)
