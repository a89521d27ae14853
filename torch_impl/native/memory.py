"""Memory that serves one chunk after another, one call after another, and one use after another.

A fresh page has to be cleared by the system when it is first written, which at small sizes costs
as much as a tenth of a training step.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ...native.compiling import Array
from ...native.frame_writer import begin_of
from ...native.packing import aligned

# Elements, float32, that are kept in all (16 MB).
_MOST: Final = 2**22

_stock: dict[int, Array] = {}  # by identity; to pop, to add and to list them are atomic


class Floats:
    """Flat float32 memory that goes back to the stock with its last user.

    Attributes:
        array: as many numbers as were asked for, or more.
        address: of the first, in a cache line of its own.
    """

    def __init__(self, size: int) -> None:
        """Take the smallest of the stock that is large enough, or new memory."""
        self.array = np.empty(0, np.float32)  # to be given back if there is no memory
        large = [array for array in tuple(_stock.values()) if array.size >= size]
        # Another thread may have taken some of them.
        free = (_stock.pop(id(array), None) for array in sorted(large, key=lambda a: a.size))
        taken = next((array for array in free if array is not None), None)
        if taken is None:
            taken = aligned(1, size, np.float32)[0]
        self.array = taken
        self.address = begin_of(self.array)

    def __del__(self) -> None:
        """Give it back."""
        _keep(self.array)


def let_go() -> None:
    """Let the system have what is in stock, as before measuring what a step takes."""
    _stock.clear()


def _keep(array: Array) -> None:
    if 0 < array.size <= _MOST - sum(other.size for other in tuple(_stock.values())):
        _stock[id(array)] = array
