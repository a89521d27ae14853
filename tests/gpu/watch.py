"""Sees every address that a kernel reads or writes in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from triton.runtime import interpreter


def tensors_of(arguments: Any) -> Iterator[Any]:
    """Yield all arrays that a kernel was given, PyTorch's or what JAX's engine makes of NumPy's."""
    if hasattr(arguments, "data_ptr"):
        yield arguments
    elif isinstance(arguments, (tuple, list)):
        for argument in arguments:
            yield from tensors_of(argument)


class Watch:
    """Addresses outside the arrays of the launch that used them.

    Attributes:
        outside: what was done, how far from the array before, and that array's size in bytes.
        inside: how many elements were read or written where they should.
    """

    def __init__(self) -> None:
        self.outside: list[tuple[str, int, int]] = []
        self.inside = 0
        self._begins = np.zeros(0, np.uint64)
        self._ends = np.zeros(0, np.uint64)

    def launched(self, arguments: Any) -> None:
        """Take the arrays of the launch that begins."""
        spans = {(t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors_of(arguments)}
        ordered = np.array(sorted(spans), np.uint64).reshape(-1, 2)
        # Where arrays begin at the same address, as views do, the longest counts.
        self._begins, first = np.unique(ordered[::-1, 0], return_index=True)
        self._ends = ordered[::-1][first, 1]

    def used(self, what: str, pointers: Any, mask: Any) -> None:
        """Look at the addresses of an operation."""
        chosen = np.broadcast_to(mask.data, pointers.data.shape) != 0
        at = pointers.data[chosen].astype(np.uint64)
        size = np.uint64(pointers.get_element_ty().primitive_bitwidth // 8)
        array = np.searchsorted(self._begins, at, side="right") - 1
        wrong = (array < 0) | (at + size > self._ends[array])
        self.inside += int((~wrong).sum())
        for address, number in zip(at[wrong][:3], array[wrong][:3], strict=True):
            begin, end = int(self._begins[number]), int(self._ends[number])
            self.outside.append((what, int(address) - begin, end - begin))


@contextmanager
def watched() -> Iterator[Watch]:
    """Look at all loads, stores and atomic operations."""
    watch, builder = Watch(), interpreter.interpreter_builder

    def looked(name: str, mask_at: int) -> Any:
        original = getattr(builder, name)

        def operation(*arguments: Any) -> Any:
            pointers = next(a for a in arguments if isinstance(a, interpreter.TensorHandle))
            watch.used(name, pointers, arguments[mask_at])
            return original(*arguments)

        return patch.object(builder, name, operation)

    class Executor(interpreter.GridExecutor):  # type: ignore[misc]
        def _init_args_hst(self, arguments: Any, named: Any) -> Any:
            made = super()._init_args_hst(arguments, named)
            watch.launched(made[0])
            return made

    with (
        patch.object(interpreter, "GridExecutor", Executor),
        looked("create_masked_load", 1),
        looked("create_masked_store", 2),
        looked("create_atomic_rmw", 3),
    ):
        yield watch
