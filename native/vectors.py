"""Loops by whole vectors, written as expressions: what no Python loop can say.

A function under :func:`kernel` is given a :class:`Kernel` and what its caller passes: arrays, each
followed by an index, as :class:`.lanes.Place`, and numbers. It calls :meth:`Kernel.each` with what
is to be done to :data:`.tiles.LANES` neighbours at a time, last ones that fill no vector included.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import F32, I1, I32, I64, Group, Lanes, Place, Row, Variable, function, vector
from .processor import WIDE
from .tiles import LANES

_Record: Any = types.BaseNamedTuple


class Kernel:
    """What a kernel is written with."""

    def __init__(self, builder: Any) -> None:
        """Write where ``builder`` stands."""
        self.builder = builder

    def function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """Return LLVM's function of that name."""
        return function(self.builder, name, result, arguments)

    def all_lanes(self, value: Any) -> Lanes:
        """Return an integer (as int32) or float32 in all lanes."""
        if isinstance(value.type, ir.IntType) and value.type.width > 32:
            value = self.builder.trunc(value, I32)
        kind = vector(value.type)
        undefined, zeros = ir.Constant(kind, ir.Undefined), ir.Constant(vector(I32), None)
        first = self.builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return Lanes(self.builder, self.builder.shuffle_vector(first, undefined, zeros))

    def number(self, place: Place, index: int) -> Lanes:
        """Return a number of an int64 array in all lanes."""
        return self.all_lanes(self.scalar(place, index))

    def scalar(self, place: Place, index: int) -> Any:
        """Return a number of an array."""
        where = self.builder.gep(place.pointer, [ir.Constant(I64, index)])
        return self.builder.load(where)

    def put(self, place: Place, index: int, value: Any) -> None:
        """Write a number into an array."""
        where = self.builder.gep(place.pointer, [ir.Constant(I64, index)])
        self.builder.store(value, where)

    def truth(self, value: Any) -> Lanes:
        """Return in all lanes whether an integer is not 0."""
        if isinstance(value, int):
            value = ir.Constant(I64, value)
        return self.all_lanes(self.builder.icmp_signed("!=", value, ir.Constant(I64, 0)))

    def piece(self, tape: Place, size: Any, number: int) -> Place:
        """Return a place in the piece of a number, ``tape`` being that in the first."""
        return tape.after(self.times(size, number))

    def zeros(self, real: bool = False) -> Lanes:
        """Return a vector of zeros."""
        return Lanes(self.builder, ir.Constant(vector(F32 if real else I32), None))

    def each(self, count: Any, body: Callable[[Group], object], *, backwards: bool = False) -> None:
        """Do ``body`` to each group of ``count`` neighbours, or to the last ones first."""
        if backwards:
            self._rest(count, body)
        self._whole(count, body, backwards)
        if not backwards:
            self._rest(count, body)

    def _whole(self, count: Any, body: Callable[[Group], object], backwards: bool) -> None:
        builder, lanes = self.builder, ir.Constant(I64, LANES)
        end = builder.and_(count, ir.Constant(I64, -LANES))
        index = Variable(builder, end if backwards else ir.Constant(I64, 0))
        head, inner, done = (builder.append_basic_block(n) for n in ("head", "inner", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        now = index.get()
        last = ir.Constant(I64, 0)
        more = (
            builder.icmp_signed(">", now, last) if backwards else builder.icmp_signed("<", now, end)
        )
        builder.cbranch(more, inner, done)
        builder.position_at_end(inner)
        at = builder.sub(now, lanes) if backwards else now
        body(Group(builder, at, None))
        index.set(at if backwards else builder.add(now, lanes))
        builder.branch(head)
        builder.position_at_end(done)

    def _rest(self, count: Any, body: Callable[[Group], object]) -> None:
        builder = self.builder
        rest = builder.and_(count, ir.Constant(I64, LANES - 1))
        with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(I64, 0))):
            order = ir.Constant(vector(I32), list(range(LANES)))
            mask = builder.icmp_signed("<", order, self.all_lanes(rest).value)
            body(Group(builder, builder.sub(count, rest), mask))

    def look_up(self, table: Place, index: Lanes) -> Lanes:
        """Return int32 ``table[index]``."""
        builder, kind = self.builder, vector(I32)
        if WIDE:
            pointer = builder.bitcast(table.pointer, ir.IntType(8).as_pointer())
            kinds = [kind, pointer.type, kind, vector(I1), I32]
            gather = self.function("llvm.x86.avx512.mask.gather.dpi.512", kind, kinds)
            everywhere, step = ir.Constant(vector(I1), [1] * LANES), ir.Constant(I32, 4)
            arguments = [ir.Constant(kind, None), pointer, index.value, everywhere, step]
            return Lanes(builder, builder.call(gather, arguments))
        values = ir.Constant(kind, ir.Undefined)
        for lane in range(LANES):
            at = ir.Constant(I32, lane)
            one = builder.zext(builder.extract_element(index.value, at), I64)
            value = builder.load(builder.gep(table.pointer, [one]))
            values = builder.insert_element(values, value, at)
        return Lanes(builder, values)

    def row(self, b: Any, length: Any, first: Any = None) -> Row:
        """Return the units from ``first`` on of row ``b`` of rows of a length."""
        return Row(self.builder, b, length, first)

    def times(self, a: Any, b: int) -> Any:
        """Return a multiple of an integer."""
        return self.builder.mul(a, ir.Constant(I64, b))

    def raise_to(self, place: Place, most: Variable) -> None:
        """Raise an int64 to the largest of a vector's lanes."""
        builder, lanes = self.builder, most.get()
        reduce = self.function(f"llvm.vector.reduce.smax.v{LANES}i32", I32, [lanes.type])
        new, old = builder.sext(builder.call(reduce, [lanes]), I64), self.scalar(place, 0)
        self.put(place, 0, builder.select(builder.icmp_signed(">", new, old), new, old))

    def before(self, truths: Lanes) -> Lanes:
        """Return how many lanes before each are true."""
        builder = self.builder
        ones = Lanes(builder, builder.zext(truths.value, vector(I32)))
        total, step = ones, 1
        while step < LANES:
            picks = [i - step if i >= step else LANES for i in range(LANES)]
            order = ir.Constant(vector(I32), picks)
            moved = builder.shuffle_vector(total.value, self.zeros().value, order)
            total, step = total + Lanes(builder, moved), 2 * step
        return total - ones

    def count_of(self, truths: Lanes) -> Any:
        """Return how many lanes are true, int64."""
        builder = self.builder
        bits = builder.bitcast(truths.value, ir.IntType(LANES))
        wide = builder.zext(bits, I64)
        return builder.call(self.function("llvm.ctpop.i64", I64, [I64]), [wide])


def _as_given(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return a value of Numba as kernels see it: records hold places, int64, float32, ``None``."""
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, _Record):
        parts = [builder.extract_value(value, n) for n in range(len(kind.types))]
        given = zip(kind.types, parts, strict=True)
        return kind.instance_class(*(_as_given(context, builder, *part) for part in given))
    if isinstance(kind, types.Array):
        if kind.layout != "C":
            raise TypeError("a kernel's arrays are contiguous")
        whole = cgutils.create_struct_proxy(kind)(context, builder, value=value)
        return Place(builder, whole.data, context.get_data_type(kind.dtype))
    other = types.float32 if isinstance(kind, types.Float) else types.int64
    return context.cast(builder, value, kind, other)


def kernel(write: Callable[..., None]) -> Any:
    """Return a kernel to be called in compiled functions as ``write`` says.

    For a parameter that is a :class:`Place` the caller gives an array and an index. For others it
    gives numbers, which come as int64 or float32, or records (:mod:`.records`), whose arrays come
    as :class:`Place` at their beginning.
    """
    named = list(inspect.signature(write).parameters.values())[1:]
    places = [parameter.annotation in ("Place", Place) for parameter in named]

    def made(typingctx: Any, *kinds: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            left = iter(zip(signature.args, values, strict=True))
            given = []
            for is_place in places:
                value = _as_given(context, builder, *next(left))
                given.append(
                    value.after(_as_given(context, builder, *next(left))) if is_place else value
                )
            write(Kernel(builder), *given)
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    expected = ["typingctx"]
    for parameter, is_place in zip(named, places, strict=True):
        expected += [parameter.name, f"{parameter.name}_at"] if is_place else [parameter.name]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    given = [inspect.Parameter(name, kind) for name in expected]
    made.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
    made.__name__ = write.__name__
    return intrinsic(made)
