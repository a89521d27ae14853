"""Arrays behind which memory ends: who reads or writes beyond one ends the process.

A kernel that has too little room, or goes one row too far, mostly harms nobody: memory behind an
array is somebody's who does not mind. Interpreted kernels take their arrays here instead, and tests
of handlers give compiled ones such arrays.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any, Final

import numpy as np

_PAGE: Final = mmap.PAGESIZE
_NOBODY: Final = 0  # PROT_NONE
_protect: Any = None
if os.name == "posix":
    _protect = ctypes.CDLL(None).mprotect
    _protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
# What is in an array that nobody has written: no float is a number, integers are large.
_GARBAGE: Final = 0x5A


def _fenced(shape: Any, dtype: Any) -> Any:
    """Return zeros that end where a page ends, and behind it one that nobody may touch."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= 0 or _protect is None:
        return np.zeros(shape, dtype)
    whole = -(-size // _PAGE) * _PAGE
    memory = np.frombuffer(mmap.mmap(-1, whole + _PAGE), np.uint8)
    if _protect(memory.ctypes.data + whole, _PAGE, _NOBODY):
        raise MemoryError
    return memory[whole - size : whole].view(dtype).reshape(shape)


class FencedNumPy:
    """NumPy, but that new arrays end where memory ends."""

    def __getattr__(self, name: str) -> Any:
        """Return what NumPy has."""
        return getattr(np, name)

    @staticmethod
    def zeros(shape: Any, dtype: Any) -> Any:
        """Return zeros."""
        return _fenced(shape, dtype)

    @staticmethod
    def full(shape: Any, value: Any, dtype: Any) -> Any:
        """Return an array of one number."""
        made = _fenced(shape, dtype)
        made.fill(value)
        return made

    @staticmethod
    def ones(shape: Any, dtype: Any) -> Any:
        """Return ones."""
        return FencedNumPy.full(shape, 1, dtype)

    @staticmethod
    def copy_of(value: Any, dtype: Any) -> Any:
        """Return a copy in C's order."""
        made = _fenced(np.shape(value), dtype)
        made[...] = value
        return made

    @staticmethod
    def empty(shape: Any, dtype: Any) -> Any:
        """Return an array that holds garbage."""
        made = _fenced(shape, dtype)
        if made.dtype.kind == "f":
            made.fill(np.nan)
        elif made.size:
            made.reshape(-1).view(np.uint8).fill(_GARBAGE)
        return made
