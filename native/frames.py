"""What XLA's foreign function interface gives to a compiled handler, read by offsets.

A handler gets the address of an ``XLA_FFI_CallFrame`` (xla/ffi/api/c_api.h) and returns 0. The
offsets are those of major version 0 of that interface; :mod:`revrnn.jax_impl.native.engine`
refuses others.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic

from .compiling import Array, i64, inner

_intrinsic: Any = intrinsic
_I64: Any = types.int64
_carray: Any = carray
_with: Any = tuple_setitem

# In bytes. Of the frame: first extension, the interface, arguments and results.
_EXTENSION, _API, ARGUMENTS, RESULTS = 8, 16, 40, 80
# Of arguments and results: how many there are, and pointers to them.
_COUNT, POINTERS = 16, 32
# Of a buffer: its type, its numbers, how many axes it has, and their lengths.
_TYPE, DATA, _RANK, DIMENSIONS = 16, 24, 32, 40
# What a frame, arguments or results, and a buffer must say of their own sizes at least.
_FRAME_SIZE, _LIST_SIZE, _BUFFER_SIZE = 168, 40, 48
# Of an extension: its kind, 1 for a question about the handler, and what is to be answered.
_KIND, _METADATA = 8, 24
# Of the interface: its version's major and minor number, and what makes an error.
_OWN_MAJOR, _OWN_MINOR, _ERROR_CREATE = 32, 36, 48
# Of the answer: major and minor number, traits, and the type of a handler's state, 0 for none.
_MAJOR, _MINOR, _TRAITS, _STATE = 24, 28, 32, 40

# XLA's numbers of the types of elements.
_TYPES: Final = {"u8": 6, "i16": 3, "i32": 4, "i64": 5, "f32": 11}
# XLA's numbers of errors.
_RESOURCE_EXHAUSTED, _INTERNAL = 8, 13


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


def _error(message: str, code: int) -> Any:
    """Return a function of a frame that returns a new error of XLA's, which XLA lets go."""

    def make(typingctx: Any, frame: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            word, text = ir.IntType(64), context.insert_const_string(builder.module, message)
            given = builder.alloca(ir.ArrayType(word, 4))  # XLA_FFI_Error_Create_Args
            said = (word(28), word(0), builder.ptrtoint(text, word), word(code))
            for place, value in enumerate(said):
                at = builder.gep(given, [ir.IntType(32)(0), ir.IntType(32)(place)])
                builder.store(value, at)
            api = builder.load(_at(builder, values[0], _API, word))
            function = ir.FunctionType(word, [given.type])
            call = builder.load(_at(builder, api, _ERROR_CREATE, function.as_pointer()))
            return builder.call(call, [given])

        return types.int64(types.int64), codegen

    return _intrinsic(make)


def _at(builder: Any, address: Any, offset: int, element: Any) -> Any:
    """Return a pointer so many bytes behind an address, in LLVM's terms."""
    moved = builder.add(address, address.type(offset))
    return builder.inttoptr(moved, element.as_pointer())


def _pointer(typingctx: Any, address: Any, kind: Any) -> Any:
    made = types.CPointer(kind.dtype)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(made))

    return made(types.int64, kind), codegen


load, put, pointer = _intrinsic(_load), _intrinsic(_put), _intrinsic(_pointer)
_of_another_kind = _error("revrnn: a call frame is not as its kernels expect it", _INTERNAL)
out_of_memory = _error("revrnn: not enough memory for a chunk of steps", _RESOURCE_EXHAUSTED)


@inner
def asks_for_metadata(frame: int) -> bool:
    """Answer XLA's question which version a handler speaks; return whether it was asked.

    The answer is the version that asks, if it is one that has these offsets, else 0.0, which XLA
    refuses. JAX 0.8 does not say who asks.
    """
    extension = load(frame + _EXTENSION, _I64)
    if extension == 0 or (load(extension + _KIND, _I64) & 0xFFFFFFFF) != 1:
        return False
    answer, api = load(extension + _METADATA, _I64), load(frame + _API, _I64)
    minor = i64(1)
    if api != 0:
        major = load(api + _OWN_MAJOR, _I64) & 0xFFFFFFFF
        minor = i64(0) if major else load(api + _OWN_MINOR, _I64) & 0xFFFFFFFF
    put(answer + _MAJOR, i64(0))
    put(answer + _MINOR, minor)
    put(answer + _TRAITS, i64(0))
    put(answer + _STATE, i64(0))
    put(answer + _STATE + 4, i64(0))
    return True


def buffers(*kinds: str) -> Array:
    """Return what a handler expects: type and number of axes, ``"i16[2]"``, int64 ``[n, 2]``."""
    pairs = [kind.rstrip("]").split("[") for kind in kinds]
    return np.array([(_TYPES[name], int(axes)) for name, axes in pairs], np.int64).reshape(-1, 2)


@inner
def _differs(buffer: int, expected: Array, n: int) -> Any:
    kind = load(buffer + _TYPE, _I64) & 0xFFFFFFFF
    short = load(buffer, _I64) < _BUFFER_SIZE
    return short or kind != expected[n, 0] or load(buffer + _RANK, _I64) != expected[n, 1]


@inner
def _elements(buffer: int) -> Any:
    count = i64(1)
    for axis in range(load(buffer + _RANK, _I64)):
        count *= _size(buffer, axis)
    return count


@inner
def unexpected(frame: int, arguments: Array, results: Array, layer: Array, same: Array) -> Any:
    """Return an error for XLA, or 0 if a frame is as expected.

    Args:
        frame: of the call.
        arguments: types and axes of its arguments, see :func:`buffers`.
        results: those of its results.
        layer: those of more arguments and results, once for each layer.
        same: pairs of an argument and the result that must be in the same place, int64 ``[n, 2]``.
            Those of layers follow the last pair.
    """
    if load(frame, _I64) < _FRAME_SIZE:
        return _of_another_kind(frame)
    for at in (ARGUMENTS, RESULTS):
        if load(frame + at, _I64) < _LIST_SIZE:
            return _of_another_kind(frame)
    more = load(frame + ARGUMENTS + _COUNT, _I64) - len(arguments)
    if more < 0 or load(frame + RESULTS + _COUNT, _I64) - len(results) != more:
        return _of_another_kind(frame)
    for n in range(len(arguments)):
        if _differs(argument(frame, n), arguments, n):
            return _of_another_kind(frame)
    for n in range(len(results)):
        if _differs(result(frame, n), results, n):
            return _of_another_kind(frame)
    if more != len(layer) * (_size(result(frame, 0), 0) if len(layer) else 0):
        return _of_another_kind(frame)
    for n in range(more):
        of = n % len(layer)
        given, made = argument(frame, len(arguments) + n), result(frame, len(results) + n)
        if _differs(given, layer, of) or _differs(made, layer, of) or _apart(given, made):
            return _of_another_kind(frame)
    for n in range(len(same)):
        if _apart(argument(frame, same[n, 0]), result(frame, same[n, 1])):
            return _of_another_kind(frame)
    return 0


@inner
def _apart(given: int, made: int) -> Any:
    """Return whether a result that was to be an argument changed in place is another array."""
    if _elements(given) != _elements(made):
        return True
    return _elements(made) > 0 and load(given + DATA, _I64) != load(made + DATA, _I64)


@inner
def argument(frame: int, n: int) -> Any:
    """Return the address of an argument's buffer."""
    return load(load(frame + ARGUMENTS + POINTERS, _I64) + 8 * n, _I64)


@inner
def result(frame: int, n: int) -> Any:
    """Return the address of a result's buffer."""
    return load(load(frame + RESULTS + POINTERS, _I64) + 8 * n, _I64)


@inner
def _size(buffer: int, axis: int) -> Any:
    return load(load(buffer + DIMENSIONS, _I64) + 8 * axis, _I64)


def _reader(kind: Any, axes: int) -> Any:
    """Return a function from a buffer's address to its array of so many axes."""
    element: Any = kind
    places = tuple(range(axes))

    @inner
    def read(buffer: int) -> Any:
        shape = places
        for axis in places:
            shape = _with(shape, axis, _size(buffer, axis))
        return _carray(pointer(load(buffer + DATA, _I64), element), shape)

    return read


bytes_2 = _reader(types.uint8, 2)
shorts_1, shorts_2, shorts_3 = (_reader(types.int16, axes) for axes in (1, 2, 3))
ints_1, ints_2, ints_3, ints_4, ints_6 = (_reader(types.int32, axes) for axes in (1, 2, 3, 4, 6))
longs_1, longs_2 = (_reader(types.int64, axes) for axes in (1, 2))
floats_1, floats_2, floats_3, floats_4 = (_reader(types.float32, axes) for axes in (1, 2, 3, 4))
