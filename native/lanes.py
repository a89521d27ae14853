"""Vectors of numbers in LLVM's terms, and how they come from arrays and go there."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils

from .tiles import LANES

I1, I16, I32, I64, F32 = (
    ir.IntType(1),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
_ALIGNMENT: Final = {"i16": 2, "i32": 4, "float": 4}
_SHORT: Final = {"i16": "i16", "i32": "i32", "float": "f32"}


def vector(element: Any) -> Any:
    """Return the type of a vector of :data:`LANES` elements."""
    return ir.VectorType(element, LANES)


def function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return LLVM's function of that name."""
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, name)


class Lanes:
    """A vector of int32, float32 or truth values; operators act on each lane, int32 ones wrap."""

    def __init__(self, builder: Any, value: Any) -> None:
        """Take a value of LLVM."""
        self.builder, self.value = builder, value

    @property
    def real(self) -> bool:
        """Whether this is float32."""
        return bool(self.value.type.element == F32)

    def with_value(self, value: Any) -> Lanes:
        """Return another vector."""
        return Lanes(self.builder, value)

    def lift(self, other: Lanes | float) -> Any:
        """Return a vector's value, or that of a number in all lanes."""
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [other] * LANES)

    def _do(self, other: Lanes | float, of_integers: str, of_reals: str | None = None) -> Lanes:
        name = of_reals if self.real and of_reals else of_integers
        return self.with_value(getattr(self.builder, name)(self.value, self.lift(other)))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._do(other, "add", "fadd")

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._do(other, "sub", "fsub")

    def __rsub__(self, other: float) -> Lanes:
        return self.with_value(self.lift(other)) - self

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._do(other, "mul", "fmul")

    def __rtruediv__(self, other: float) -> Lanes:
        return self.with_value(self.builder.fdiv(self.lift(other), self.value))

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._do(other, "and_")

    def __or__(self, other: Lanes | int) -> Lanes:
        return self._do(other, "or_")

    def __xor__(self, other: Lanes | int) -> Lanes:
        return self._do(other, "xor")

    def __lshift__(self, other: Lanes | int) -> Lanes:
        return self._do(other, "shl")

    def __rshift__(self, other: Lanes | int) -> Lanes:
        return self._do(other, "ashr")

    def _compare(self, relation: str, other: Lanes | float) -> Lanes:
        compare = self.builder.fcmp_ordered if self.real else self.builder.icmp_signed
        return self.with_value(compare(relation, self.value, self.lift(other)))

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self._compare("<", other)

    def __ge__(self, other: Lanes | float) -> Lanes:
        return self._compare(">=", other)

    def equals(self, other: Lanes | float) -> Lanes:
        """Return where lanes are equal."""
        return self._compare("==", other)

    def choose(self, yes: Lanes | float, no: Lanes) -> Lanes:
        """Return ``yes`` where this is true, else ``no``."""
        return no.with_value(self.builder.select(self.value, no.lift(yes), no.value))

    def call(self, name: str, *others: Lanes | float) -> Lanes:
        """Return what LLVM's operation of that name gives for vectors of this type."""
        kind, values = self.value.type, [self.value, *map(self.lift, others)]
        whole = f"llvm.{name}.v{LANES}{_SHORT[str(kind.element)]}"
        called = function(self.builder, whole, kind, [kind] * len(values))
        return self.with_value(self.builder.call(called, values))

    def at_least(self, other: Lanes | int) -> Lanes:
        """Return the larger of two."""
        return self.call("smax", other)

    def at_most(self, other: Lanes | int) -> Lanes:
        """Return the smaller of two."""
        return self.call("smin", other)

    def magnitude(self, most: Lanes) -> Lanes:
        """Return the magnitude, at most ``most``; that of −2^31 is no int32."""
        kind, none = self.value.type, ir.Constant(I1, 0)
        called = function(self.builder, f"llvm.abs.v{LANES}i32", kind, [kind, I1])
        magnitude = self.with_value(self.builder.call(called, [self.value, none]))
        return magnitude.call("umin", most)

    def as_real(self) -> Lanes:
        """Return int32 as the nearest float32."""
        return self.with_value(self.builder.sitofp(self.value, vector(F32)))

    def as_integer(self) -> Lanes:
        """Return float32 of int32's range without its fraction."""
        return self.with_value(self.builder.fptosi(self.value, vector(I32)))

    def rounded(self, bits: int | Lanes) -> Lanes:
        """Return int32 shifted right by ``bits``, at least 1, rounded half up (GEN-003)."""
        return ((self >> (bits - 1)) + 1) >> 1


class Place:
    """A place in an array."""

    def __init__(self, builder: Any, pointer: Any, element: Any) -> None:
        """Take a pointer to an element."""
        self.builder, self.pointer, self.element = builder, pointer, element

    def after(self, count: Any) -> Place:
        """Return the place so many elements further on."""
        return Place(self.builder, self.builder.gep(self.pointer, [count]), self.element)


class Group:
    """Some neighbours that a loop has come to."""

    def __init__(self, builder: Any, index: Any, mask: Any) -> None:
        """Stand at an index; ``mask`` says which lanes count, ``None`` that all do."""
        self.builder, self.index, self.mask = builder, index, mask

    def _at(self, place: Place) -> Any:
        kind = vector(place.element).as_pointer()
        return self.builder.bitcast(self.builder.gep(place.pointer, [self.index]), kind)

    def load(self, place: Place) -> Lanes:
        """Return int32 or float32, and int16 widened; 0 in lanes that do not count."""
        builder, kind, name = self.builder, vector(place.element), str(place.element)
        if self.mask is None:
            value = builder.load(self._at(place))
            value.align = _ALIGNMENT[name]
        else:
            pointer, align = self._at(place), ir.Constant(I32, _ALIGNMENT[name])
            whole, kinds = f"llvm.masked.load.v{LANES}{_SHORT[name]}.p0", [I32, vector(I1), kind]
            called = function(builder, whole, kind, [pointer.type, *kinds])
            value = builder.call(called, [pointer, align, self.mask, ir.Constant(kind, None)])
        if name == "i16":
            value = builder.sext(value, vector(I32))
        return Lanes(builder, value)

    def store(self, place: Place, lanes: Lanes) -> None:
        """Write lanes that count."""
        pointer, kind = self._at(place), lanes.value.type
        if self.mask is None:
            self.builder.store(lanes.value, pointer).align = 4
            return
        whole = f"llvm.masked.store.v{LANES}{_SHORT[str(place.element)]}.p0"
        kinds = [kind, pointer.type, I32, vector(I1)]
        called = function(self.builder, whole, ir.VoidType(), kinds)
        self.builder.call(called, [lanes.value, pointer, ir.Constant(I32, 4), self.mask])

    def store_short(self, place: Place, lanes: Lanes) -> None:
        """Write a whole vector of int16, of which those that do not count are 0."""
        builder, value = self.builder, lanes.value
        if self.mask is not None:
            value = builder.select(self.mask, value, ir.Constant(value.type, None))
        value = builder.trunc(value, vector(I16))
        builder.store(value, self._at(place)).align = 2

    def counting(self, lanes: Lanes) -> Lanes:
        """Return truth values, false in lanes that do not count."""
        if self.mask is None:
            return lanes
        return lanes & Lanes(lanes.builder, self.mask)


class Row:
    """The units of one row that a kernel goes over."""

    def __init__(self, builder: Any, b: Any, length: Any, first: Any = None) -> None:
        """Stand at row ``b`` of rows of a length, at its unit ``first``."""
        self.offset = builder.mul(b, length)
        if first is not None:
            self.offset = builder.add(self.offset, first)

    def of(self, *places: Place) -> tuple[Place, ...]:
        """Return where this row is in arrays."""
        return tuple(place.after(self.offset) for place in places)


class Variable:
    """A number of a loop: an integer of LLVM, or a vector."""

    def __init__(self, builder: Any, value: Any) -> None:
        """Begin with a value."""
        self.builder = builder
        self.place = cgutils.alloca_once_value(builder, value)

    def get(self) -> Any:
        """Return the present value."""
        return self.builder.load(self.place)

    def set(self, value: Any) -> None:
        """Give it a value."""
        self.builder.store(value, self.place)
