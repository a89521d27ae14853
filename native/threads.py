"""Shares of a compiled call on threads of their own, without Python.

A handler that XLA calls may not wait for the interpreter's lock, so threads are the operating
system's: one is started for each share but the first, and ends with it. Where the system has no
POSIX threads, or gives none, the calling thread does all shares.
"""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import Array, i64, inner

_intrinsic: Any = intrinsic
_ExternalFunction: Any = types.ExternalFunction
_insert: Any = cgutils.get_or_insert_function
_LONG: Any = types.int64

# Whether threads can be had.
POSIX: Final = os.name == "posix"
# Of the system: pthread_create(where its number goes, 0, function, argument), and pthread_join.
_create = _ExternalFunction("pthread_create", types.int32(_LONG, _LONG, _LONG, _LONG))
_join = _ExternalFunction("pthread_join", types.int32(_LONG, _LONG))


def _address_of(typingctx: Any, name: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        function = _insert(builder.module, ir.FunctionType(word, [word]), name.literal_value)
        return builder.ptrtoint(function, word)

    return _LONG(name), codegen


def _call(typingctx: Any, address: Any, argument: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(word, [word]).as_pointer()
        return builder.call(builder.inttoptr(values[0], function), [values[1]])

    return _LONG(types.int64, types.int64), codegen


# Of a function that is known to LLVM by a name, and the call of one.
address_of, call = _intrinsic(prefer_literal=True)(_address_of), _intrinsic(_call)


@inner
def run(function: int, tasks: Array) -> None:
    """Call a function of an address with that of each row of ``tasks``, int64 ``[K, n]``.

    It must not raise. The first row's call is on this thread.
    """
    count, width = tasks.shape
    first, threads = tasks.ctypes.data, np.zeros(count, np.int64)
    left = np.ones(count, np.uint8)
    if POSIX:
        for k in range(1, count):
            where = threads.ctypes.data + 8 * k
            failed = _create(where, i64(0), function, first + 8 * width * k)
            left[k] = 1 if failed else 0
    for k in range(count):
        if left[k]:
            call(function, first + 8 * width * k)
    if POSIX:
        for k in range(1, count):
            if not left[k]:
                _join(threads[k], i64(0))


def make_known(name: str, address: int) -> None:
    """Let LLVM know a function by a name, for :func:`address_of`."""
    binding.add_symbol(name, address)
