"""Call frames of our own, for shares that are called without XLA: what :mod:`.frames` reads."""

from __future__ import annotations

from typing import Final

import numpy as np

from .compiling import Array
from .frames import ARGUMENTS, DATA, DIMENSIONS, POINTERS, RESULTS

# In words of 8 bytes: a frame, a buffer, and the axes that one may have.
_FRAME: Final = 21
_BUFFER: Final = DIMENSIONS // 8 + 1
_AXES: Final = 6


def begin_of(array: Array) -> int:
    """Return an array's address; ``array.ctypes.data`` takes ten times as long."""
    return int(array.__array_interface__["data"][0])


class Arrays:
    """The arguments or the results of a frame by number, each to be set before it is read."""

    def __init__(self, words: Array, first: int) -> None:
        """Take the frame's words, and where the first buffer begins."""
        self._words, self._first = words, first
        self._held: dict[int, Array] = {}

    def __setitem__(self, n: int, array: Array) -> None:
        """Let the frame have an array, which it keeps."""
        held = self._held.get(n)
        if held is array:
            return
        assert array.flags.c_contiguous
        at = self._first + n * (_BUFFER + _AXES)
        self._words[at + DATA // 8] = begin_of(array)
        if held is None or held.shape != array.shape:
            self._words[at + _BUFFER : at + _BUFFER + array.ndim] = array.shape
        self._held[n] = array

    def __getitem__(self, n: int) -> Array:
        """Return an array that was set."""
        return self._held[n]

    def __delitem__(self, n: int) -> None:
        """Let go of an array; another must be set before the frame is read."""
        del self._held[n]


class Frame:
    """A call frame: where it lies, its arguments and its results.

    Types and numbers of axes are not written: shares know them.
    """

    def __init__(self, arguments: int, results: int) -> None:
        """Make room for so many of each."""
        count = arguments + results
        first = _FRAME + count
        self._words = words = np.zeros(first + count * (_BUFFER + _AXES), np.int64)
        self.address = int(words.ctypes.data)
        words[(ARGUMENTS + POINTERS) // 8] = self.address + 8 * _FRAME
        words[(RESULTS + POINTERS) // 8] = self.address + 8 * (_FRAME + arguments)
        buffers = first + (_BUFFER + _AXES) * np.arange(count)
        words[_FRAME:first] = self.address + 8 * buffers
        words[buffers + DIMENSIONS // 8] = self.address + 8 * (buffers + _BUFFER)
        self.arguments = Arrays(words, first)
        self.results = Arrays(words, first + arguments * (_BUFFER + _AXES))
