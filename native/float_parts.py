"""Parts of float32 for products by tile registers, in LLVM's terms: see :mod:`.float_products`.

A part of a float32 is what remains of it with the upper 16 bits, a bfloat16 alone; the next part
is of what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .amx import SIDE, TERMS, bytes_of, first_lanes, in_all_lanes, integer, room_of

# Terms of a tile; bytes of one part of a tile of packed weights, and of a tile of sums.
BLOCK: Final = 2 * SIDE
PART: Final = SIDE * TERMS
PARTS: Final = 3

# Calls leave out what intrinsics are given of typing.
_intrinsic: Any = intrinsic
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOATS: Final = ir.VectorType(ir.FloatType(), SIDE)
_WORDS: Final = ir.VectorType(_I32, SIDE)
_SHORTS: Final = ir.VectorType(_I16, SIDE)
_PAIRS: Final = ir.VectorType(_I16, BLOCK)
_UPPER_HALF: Final = ir.Constant(_WORDS, [0xFFFF0000] * SIDE)
_HALF: Final = ir.Constant(_WORDS, [16] * SIDE)


def _constant(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(values)), values)


def plus(builder: Any, place: Any, count: Any) -> Any:
    """Return the place so many bytes behind."""
    return builder.gep(place, [count if isinstance(count, ir.Value) else integer(count)])


def as_vector(builder: Any, place: Any, vector: Any) -> Any:
    """Return the place as one of a vector."""
    return builder.bitcast(place, vector.as_pointer())


def masked(builder: Any, name: str, vector: Any, *values: Any) -> Any:
    """Call a masked load or store; ``values`` are its own, without the alignment."""
    suffix = "f32" if vector is FLOATS else "i16"
    given = [*values[:-1], ir.Constant(_I32, 2 if vector is _SHORTS else 4), values[-1]]
    if name == "load":
        given.append(ir.Constant(vector, None))
    result = vector if name == "load" else ir.VoidType()
    kind = ir.FunctionType(result, [v.type for v in given])
    name = f"llvm.masked.{name}.v{SIDE}{suffix}.p0"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)


def _numbers(builder: Any, kind: Any, place: Any, count: Any = None) -> Any:
    """Return 16 numbers as float32, of an array of numba's type, zeros behind the first ones."""
    vector = FLOATS if kind.dtype == types.float32 else _SHORTS
    at = as_vector(builder, place, vector)
    if count is None:  # of float32 alone
        given = builder.load(at)
        given.align = 4
    else:
        given = masked(builder, "load", vector, at, first_lanes(builder, count, SIDE))
    return given if vector is FLOATS else builder.sitofp(given, FLOATS)


def _parts(builder: Any, x: Any, count: int) -> list[Any]:
    """Return the parts of float32, as words whose lower half is to be passed over."""
    made = []
    for _ in range(count):
        made.append(builder.and_(builder.bitcast(x, _WORDS), _UPPER_HALF))
        x = builder.fsub(x, builder.bitcast(made[-1], FLOATS))
    return made


def _pairs(builder: Any, first: Any, second: Any, count: int) -> list[Any]:
    """Return parts of two vectors side by side: the first's in lower halves."""
    parts = zip(_parts(builder, first, count), _parts(builder, second, count), strict=True)
    return [builder.or_(builder.lshr(a, _HALF), b) for a, b in parts]


def _split_row(
    typingctx: Any, a: Any, at: Any, own: Any, out: Any, to: Any, by_part: Any, length: Any
) -> Any:
    """Write the three parts of a row, zeros behind its own numbers.

    Its arguments: float32, where the row begins, its numbers; bytes, where its first part begins,
    from part to part; how many numbers to write, whole vectors.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        row = bytes_of(context, builder, kinds[0], args[0], args[1])
        first = bytes_of(context, builder, kinds[3], args[3], args[4])
        whole = builder.and_(args[2], integer(-BLOCK))

        def write(i: Any, some: int, left: Any) -> None:
            """Write 16 or 32 numbers."""
            vectors = []
            for v in range(0, some, SIDE):
                place = plus(builder, row, builder.mul(builder.add(i, integer(v)), integer(4)))
                count = None if left is None else builder.sub(left, integer(v))
                vectors.append(_parts(builder, _numbers(builder, kinds[0], place, count), PARTS))
            at = plus(builder, first, builder.mul(i, integer(2)))
            upper = [2 * q + 1 for q in range(some)]
            for p in range(PARTS):
                halves = [builder.bitcast(parts[p], _PAIRS) for parts in vectors]
                half = builder.shuffle_vector(halves[0], halves[-1], _constant(upper))
                builder.store(half, as_vector(builder, at, half.type)).align = 2
                at = plus(builder, at, args[5])

        with cgutils.for_range_slice(builder, integer(0), whole, integer(BLOCK), _I64) as (i, _):
            write(i, BLOCK, None)
        with cgutils.for_range_slice(builder, whole, args[6], integer(SIDE), _I64) as (i, _):
            write(i, SIDE, builder.sub(args[2], i))
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, out, n, n, n), codegen


def _pack_pair(count: int) -> Callable[..., Any]:
    """Return an intrinsic that writes two rows of weights, of so many parts, into a packed tile.

    Its arguments: float32 or int16, where the rows begin, how many numbers of each there are, what
    they are multiplied by; an array, at which of its bytes the first part begins.
    """

    def pack_pair(
        typingctx: Any, w: Any, at: Any, below: Any, n: Any, m: Any, scale: Any, out: Any, to: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind, rows = signature.args[0], []
            factor = in_all_lanes(builder, FLOATS, args[5])
            for begin, own in ((args[1], args[3]), (args[2], args[4])):
                place = bytes_of(context, builder, kind, args[0], begin)
                rows.append(builder.fmul(_numbers(builder, kind, place, own), factor))
            first = bytes_of(context, builder, signature.args[6], args[6], integer(0))
            place = plus(builder, first, args[7])
            for part, pair in enumerate(_pairs(builder, rows[0], rows[1], count)):
                at = as_vector(builder, plus(builder, place, part * PART), _WORDS)
                builder.store(pair, at).align = 4
            return context.get_dummy_value()

        i = types.intp
        return types.void(w, i, i, i, i, types.float32, out, i), codegen

    return pack_pair


def _turn(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of 16 vectors of words."""
    for step in (8, 4, 2, 1):
        for i in (i for i in range(SIDE) if not i & step):
            a, b = rows[i], rows[i + step]
            lanes = range(SIDE)
            low = [SIDE + q - step if q & step else q for q in lanes]
            high = [SIDE + q if q & step else q + step for q in lanes]
            rows[i] = builder.shuffle_vector(a, b, ir.Constant(_WORDS, low))
            rows[i + step] = builder.shuffle_vector(a, b, ir.Constant(_WORDS, high))
    return rows


def _split_columns(
    typingctx: Any,
    a: Any,
    at: Any,
    by: Any,
    columns: Any,
    own: Any,
    out: Any,
    to: Any,
    by_row: Any,
    by_part: Any,
) -> Any:
    """Write 16 columns of 32 rows as 16 rows of 32 terms in three parts; what is missing is 0.

    Its arguments: float32, where the first row begins, from row to row, columns and rows that
    there are; bytes, where the first part begins, from row to row, from part to part.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, room = signature.args[0], room_of(builder, PARTS * PART)
        first = bytes_of(context, builder, kind, args[0], args[1])
        to = bytes_of(context, builder, signature.args[5], args[5], args[6])

        def write_pairs(whole: bool) -> None:
            with cgutils.for_range(builder, integer(SIDE)) as loop:
                rows = []
                for which in (0, 1):
                    row = builder.add(builder.mul(loop.index, integer(2)), integer(which))
                    at = builder.mul(builder.mul(row, args[2]), integer(4))
                    place = plus(builder, first, at)
                    count = None
                    if not whole:
                        inside = builder.icmp_signed("<", row, args[4])
                        count = builder.select(inside, args[3], integer(0))
                    rows.append(_numbers(builder, kind, place, count))
                at = plus(builder, room, builder.mul(loop.index, integer(TERMS)))
                for part, pair in enumerate(_pairs(builder, rows[0], rows[1], PARTS)):
                    place = as_vector(builder, plus(builder, at, part * PART), _WORDS)
                    builder.store(pair, place)

        all_columns = builder.icmp_signed(">=", args[3], integer(SIDE))
        all_rows = builder.icmp_signed(">=", args[4], integer(BLOCK))
        with builder.if_else(builder.and_(all_columns, all_rows)) as (whole, otherwise):
            with whole:
                write_pairs(True)
            with otherwise:
                write_pairs(False)
        with cgutils.for_range(builder, integer(PARTS)) as loop:
            at = plus(builder, room, builder.mul(loop.index, integer(PART)))
            places = [as_vector(builder, plus(builder, at, r * TERMS), _WORDS) for r in range(SIDE)]
            to_part = plus(builder, to, builder.mul(loop.index, args[8]))
            for r, row in enumerate(_turn(builder, [builder.load(place) for place in places])):
                place = plus(builder, to_part, builder.mul(args[7], integer(r)))
                builder.store(row, as_vector(builder, place, _WORDS)).align = 4
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, n, n, out, n, n, n), codegen


split_row, split_columns = _intrinsic(_split_row), _intrinsic(_split_columns)
pack_pair_of_2, pack_pair_of_3 = (_intrinsic(_pack_pair(count)) for count in (2, 3))
