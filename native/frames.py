"""What XLA's foreign function interface gives to a compiled handler, read by offsets.

A handler gets the address of an ``XLA_FFI_CallFrame`` (xla/ffi/api/c_api.h) and returns 0. The
offsets are those of major version 0 of that interface; :mod:`revrnn.jax_impl.native.engine`
refuses others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

from .compiling import i64, inner

_intrinsic: Any = intrinsic
_I64: Any = types.int64
_carray: Any = carray

# In bytes. Of the frame: first extension, the interface, arguments' and results' pointers.
_EXTENSION, _API, _ARGUMENTS, _RESULTS = 8, 16, 72, 112
# Of a buffer: its numbers, its rank, and where its dimensions are.
_DATA, _DIMENSIONS = 24, 40
# Of an extension: its kind, 1 for a question about the handler, and what is to be answered.
_KIND, _METADATA = 8, 24
# Of the interface: its version's major and minor number. Of the answer: the same, and traits.
_OWN_MAJOR, _OWN_MINOR, _MAJOR, _MINOR, _TRAITS = 32, 36, 24, 28, 32


def _load(typingctx: Any, address: Any, kind: Any) -> Any:
    element = kind.dtype

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = context.get_value_type(element).as_pointer()
        return builder.load(builder.inttoptr(values[0], pointer))

    return element(types.int64, kind), codegen


def _put(typingctx: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(32).as_pointer())
        builder.store(builder.trunc(values[1], ir.IntType(32)), pointer)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _pointer(typingctx: Any, address: Any, kind: Any) -> Any:
    made = types.CPointer(kind.dtype)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(made))

    return made(types.int64, kind), codegen


load, put, pointer = _intrinsic(_load), _intrinsic(_put), _intrinsic(_pointer)


@inner
def asks_for_metadata(frame: int) -> bool:
    """Answer XLA's question which version a handler speaks; return whether it was asked."""
    extension = load(frame + _EXTENSION, _I64)
    if extension == 0 or (load(extension + _KIND, _I64) & 0xFFFFFFFF) != 1:
        return False
    answer, api = load(extension + _METADATA, _I64), load(frame + _API, _I64)
    put(answer + _MAJOR, load(api + _OWN_MAJOR, _I64) & 0xFFFFFFFF)
    put(answer + _MINOR, load(api + _OWN_MINOR, _I64) & 0xFFFFFFFF)
    put(answer + _TRAITS, i64(0))
    return True


@inner
def argument(frame: int, n: int) -> Any:
    """Return the address of an argument's buffer."""
    return load(load(frame + _ARGUMENTS, _I64) + 8 * n, _I64)


@inner
def result(frame: int, n: int) -> Any:
    """Return the address of a result's buffer."""
    return load(load(frame + _RESULTS, _I64) + 8 * n, _I64)


@inner
def _size(buffer: int, axis: int) -> Any:
    return load(load(buffer + _DIMENSIONS, _I64) + 8 * axis, _I64)


def _reader(kind: Any, axes: int) -> Any:
    """Return a function from a buffer's address to its array of so many axes."""
    element: Any = kind
    if axes == 1:

        @inner
        def read(buffer: int) -> Any:
            return _carray(pointer(load(buffer + _DATA, _I64), element), (_size(buffer, 0),))

    elif axes == 2:

        @inner
        def read(buffer: int) -> Any:
            shape = (_size(buffer, 0), _size(buffer, 1))
            return _carray(pointer(load(buffer + _DATA, _I64), element), shape)

    elif axes == 3:

        @inner
        def read(buffer: int) -> Any:
            shape = (_size(buffer, 0), _size(buffer, 1), _size(buffer, 2))
            return _carray(pointer(load(buffer + _DATA, _I64), element), shape)

    elif axes == 4:

        @inner
        def read(buffer: int) -> Any:
            shape = (_size(buffer, 0), _size(buffer, 1), _size(buffer, 2), _size(buffer, 3))
            return _carray(pointer(load(buffer + _DATA, _I64), element), shape)

    else:

        @inner
        def read(buffer: int) -> Any:
            first = (_size(buffer, 0), _size(buffer, 1), _size(buffer, 2))
            shape = (*first, _size(buffer, 3), _size(buffer, 4), _size(buffer, 5))
            return _carray(pointer(load(buffer + _DATA, _I64), element), shape)

    return read


bytes_2 = _reader(types.uint8, 2)
shorts_1, shorts_2, shorts_3 = (_reader(types.int16, axes) for axes in (1, 2, 3))
ints_1, ints_2, ints_3, ints_4, ints_6 = (_reader(types.int32, axes) for axes in (1, 2, 3, 4, 6))
longs_1, longs_2 = (_reader(types.int64, axes) for axes in (1, 2))
floats_1, floats_2, floats_3, floats_4 = (_reader(types.float32, axes) for axes in (1, 2, 3, 4))
