"""Kernels in Triton's interpreter, over NumPy's arrays: for tests where there is no GPU."""

from __future__ import annotations

from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...gpu.constants import Constants
from ...gpu.pointers import Pointers

Numbers = npt.NDArray[Any]

# The interpreter keeps the number of the running program in a global place.
_lock: Final = Lock()


class HostArray:
    """An array as the interpreter wants it: the little that it asks of a tensor."""

    def __init__(self, array: Numbers) -> None:
        """Take an array, which kernels may change."""
        self.array, self.dtype, self.nbytes = array, array.dtype, array.nbytes

    def data_ptr(self) -> int:
        """Return its address."""
        return int(self.array.ctypes.data)

    def untyped_storage(self) -> HostArray:
        """Return what holds its elements."""
        return self

    def cpu(self) -> HostArray:
        """Return what holds its elements in the host's memory."""
        return self

    def copy_(self, other: HostArray) -> None:
        """Take the elements of the same array."""
        assert other.array is self.array

    def new_empty(self, _: int, device: str) -> HostArray:
        """Return an array to be set."""
        return HostArray(self.array)

    def set_(self, storage: HostArray, *_: Any) -> None:
        """Show the elements of a storage."""
        self.array = storage.array

    def storage_offset(self) -> int:
        """Return where its elements begin."""
        return 0

    def size(self) -> tuple[int, ...]:
        """Return its shape."""
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        """Return its strides in bytes."""
        return self.array.strides


def run(
    kernel: Any,
    grid: tuple[int, ...],
    arrays: dict[str, Numbers],
    numbers: dict[str, int],
    writes: tuple[str, ...],
    K: Constants,
) -> list[Numbers]:
    """Run all programs of a kernel.

    Args:
        kernel: in Triton, to be interpreted.
        grid: numbers of programs.
        arrays: by name.
        numbers: the others of its arguments.
        writes: arrays that it changes.
        K: its constants.

    Returns:
        These arrays, changed.

    Raises:
        AssertionError: if it changes another array.
    """
    copies = {name: np.array(array, order="C") for name, array in arrays.items()}
    held = {name: HostArray(copy) for name, copy in copies.items()}
    names = kernel.arg_names
    given: dict[str, Any] = {**held, **numbers}
    # Those that are arguments of their own are not among the others.
    given["a"] = Pointers(*(None if n in names else held.get(n) for n in Pointers._fields))
    arguments = [given[name] for name in names if name != "K"]
    with _lock:
        kernel[grid](*arguments, K=K)
    for name, array in arrays.items():
        same = np.array_equal(copies[name], array, equal_nan=array.dtype.kind == "f")
        assert name in writes or same, f"{kernel.__name__} changes {name}"
    return [copies[name] for name in writes]
