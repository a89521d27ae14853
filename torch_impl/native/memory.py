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

_stock: list[Array] = []  # its pop and append are atomic


class Floats:
    """Flat float32 memory that goes back to the stock with its last user.

    Attributes:
        array: as many numbers as were asked for, or more.
        address: of the first, in a cache line of its own.
    """

    def __init__(self, size: int) -> None:
        """Take memory of the stock, or new one."""
        self.array = np.empty(0, np.float32)
        for _ in range(len(_stock)):
            try:
                taken = _stock.pop(0)
            except IndexError:  # another thread took the last one
                break
            if taken.size >= size:
                self.array = taken
                break
            _keep(taken)
        if self.array.size < size:
            self.array = aligned(1, size, np.float32)[0]
        self.address = begin_of(self.array)

    def __del__(self) -> None:
        """Give it back."""
        _keep(self.array)


def _keep(array: Array) -> None:
    if 0 < array.size <= _MOST - sum(other.size for other in tuple(_stock)):
        _stock.append(array)
