"""Memory that serves one chunk after another, one call after another, and one use after another.

A fresh page has to be cleared by the system when it is first written, which at small sizes costs
as much as a tenth of a training step.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from ...native.compiling import Array
from ...native.frame_writer import begin_of
from ...native.packing import aligned

# Elements, float32, that are kept in all (16 MB).
_MOST: Final = 2**22
# Bytes of the array by which :func:`keep_freed` speaks to the C library.
_FREED: Final = 2**23

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


@cache
def keep_freed() -> None:
    """Have the C library keep what a step frees for the next one, 16 MB of it.

    Outputs and gradients are PyTorch's and freed by its user. glibc gives pages at the heap's end
    back where twice the largest array that it saw freed is free there, which is a limit that
    stacks of a few hundred units stay above: each of their steps had 500 pages cleared anew. It
    sees a larger array freed here. Limits in the environment (``MALLOC_TRIM_THRESHOLD_``) remain.
    """
    np.empty(_FREED, np.uint8)


def let_go() -> None:
    """Let the system have what is in stock, as before measuring what a step takes."""
    _stock.clear()


def _keep(array: Array) -> None:
    if 0 < array.size <= _MOST - sum(other.size for other in tuple(_stock.values())):
        _stock[id(array)] = array
