"""Launches of kernels over PyTorch's arrays, in the order of :mod:`revrnn.gpu.order`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...gpu import inputs, words
from ...gpu.constants import Mode
from ...gpu.order import How, Order
from .arrays import Arrays


class Launcher(Order):
    """Launches kernels over some arrays, one a phase.

    Attributes:
        captured: whether there are so many launches that they become a graph.
    """

    captured = True

    def __init__(self, arrays: Arrays, mode: Mode) -> None:
        """Take the arrays."""
        super().__init__(arrays, mode)
        self.arrays = arrays

    def launch(
        self, kernel: Any, grid: tuple[int, ...], layer: int, *numbers: Any, how: How
    ) -> None:
        """Launch a kernel of all arrays."""
        pointers, stages = self.arrays.pointers(layer, how.back), how.stages
        kernel[grid](pointers, *numbers, K=how.K, num_warps=how.warps, num_stages=stages)

    def input_parts(self, steps: int) -> None:
        """Compute the first layer's input parts of so many steps."""
        a = self.arrays
        grid, K = self.input_cut(steps)
        numbers = (steps * a.batch, self.config.input_size)
        arguments = (a.x, *a.input_bytes, a.bias[0], a.part, *numbers)
        inputs.input_part[grid](*arguments, K=K, num_warps=4, num_stages=3)

    def compact(self, steps: int, into: Tensor) -> None:
        """Copy the words of so many steps to their places."""
        a = self.arrays
        arguments = (a.pointers(0), a.places, into, len(into))
        grid = (steps * a.operations * a.padded_rows,)
        words.compact[grid](*arguments, K=self.constants[0], num_warps=1)
