"""Call frames as XLA gives them to a handler, in the terms of its header (xla/ffi/api/c_api.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

# XLA's numbers of the types of elements.
_TYPES: Final = {"uint8": 6, "int16": 3, "int32": 4, "int64": 5, "float32": 11}
# What stands beside numbers that are shorter than their place: XLA need not clear it.
GARBAGE: Final = 0x5A5A5A5A


class Extended(ctypes.Structure):
    """What most of XLA's structures begin with."""

    _fields_ = [("struct_size", ctypes.c_size_t), ("extension_start", ctypes.c_void_p)]


class Version(Extended):
    """XLA_FFI_Api_Version."""

    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int)]


class ErrorArguments(Extended):
    """XLA_FFI_Error_Create_Args."""

    _fields_ = [("message", ctypes.c_char_p), ("code", ctypes.c_int)]


class Interface(Extended):
    """XLA_FFI_Api, as far as it is used."""

    _fields_ = [
        ("version", Version),
        ("internal", ctypes.c_void_p),
        ("error_create", ctypes.c_void_p),
    ]


class Metadata(ctypes.Structure):
    """XLA_FFI_Metadata."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("version", Version),
        ("traits", ctypes.c_uint32),
        ("state_type", ctypes.c_int64),
        ("behind", ctypes.c_uint64),  # belongs to somebody else
    ]


class Extension(ctypes.Structure):
    """XLA_FFI_Metadata_Extension."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("padding", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(Metadata)),
    ]


class Buffer(Extended):
    """XLA_FFI_Buffer."""

    _fields_ = [
        ("dtype", ctypes.c_int),
        ("padding", ctypes.c_uint32),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.c_void_p),
    ]


class List(Extended):
    """XLA_FFI_Args and XLA_FFI_Rets."""

    _fields_ = [("size", ctypes.c_int64), ("types", ctypes.c_void_p), ("buffers", ctypes.c_void_p)]


class CallFrame(Extended):
    """XLA_FFI_CallFrame."""

    _fields_ = [
        ("api", ctypes.POINTER(Interface)),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("arguments", List),
        ("results", List),
        ("attributes", ctypes.c_uint64 * 6),
        ("future", ctypes.c_void_p),
    ]


class Error(NamedTuple):
    """An error that a handler had XLA make."""

    code: int
    message: str


class Frame:
    """A call frame that holds arrays; its structures may be changed before a call.

    Attributes:
        itself: the frame.
        given: the buffers of arguments; ``made`` those of results.
    """

    def __init__(self, arguments: Sequence[Array], results: Sequence[Array]) -> None:
        """Take arrays; one that is changed in place stands in both."""
        self._held: list[Any] = [arguments, results]
        self._error: Error | None = None
        create = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ErrorArguments))(self._create)
        self.api = Interface(ctypes.sizeof(Interface), None, Version(24, None, 0, 1))
        self.api.error_create = ctypes.cast(create, ctypes.c_void_p).value
        self._held.append(create)
        self.given = [self._buffer(array) for array in arguments]
        self.made = [self._buffer(array) for array in results]
        self.itself = CallFrame(ctypes.sizeof(CallFrame), None, ctypes.pointer(self.api))
        self.itself.arguments = self._list(self.given)
        self.itself.results = self._list(self.made)

    def _buffer(self, array: Array) -> Buffer:
        assert array.flags.c_contiguous
        lengths = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        self._held.append(lengths)
        kind, size = _TYPES[array.dtype.name], ctypes.sizeof(Buffer)
        place, axes = array.ctypes.data, ctypes.addressof(lengths)
        return Buffer(size, None, kind, GARBAGE, place, array.ndim, axes)

    def _list(self, buffers: list[Buffer]) -> List:
        places = (ctypes.c_void_p * max(len(buffers), 1))(*map(ctypes.addressof, buffers))
        self._held.append(places)
        return List(ctypes.sizeof(List), None, len(buffers), None, ctypes.addressof(places))

    def _create(self, told: Any) -> int:
        # 28 is what the header's macro gives: the end of the last member, without padding.
        assert (told[0].struct_size, told[0].extension_start) == (28, None)
        self._error = Error(told[0].code, told[0].message.decode())
        return 77

    def call(self, handler: int) -> Error | None:
        """Call a handler of an address; return the error that it made and gave, if it did."""
        self._error = None
        called = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(handler)
        gave = called(ctypes.addressof(self.itself))
        assert gave == (0 if self._error is None else 77)
        return self._error

    def metadata(self, handler: int, kind: int = 1) -> Metadata:
        """Ask a handler which version it speaks, by an extension of a kind."""
        told = Metadata()
        ctypes.memset(ctypes.addressof(told), GARBAGE & 0xFF, ctypes.sizeof(told))
        asked = Extension(ctypes.sizeof(Extension), kind, GARBAGE, None, ctypes.pointer(told))
        self.itself.extension_start = ctypes.addressof(asked)
        error = self.call(handler)
        self.itself.extension_start = None
        assert kind != 1 or error is None
        assert told.behind == GARBAGE << 32 | GARBAGE
        return told
