"""A readout's products and cross-entropy in compiled calls: :mod:`revrnn.native.readout`."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ...native.compiling import Array
from ...native.readout import (
    ROWS,
    add_to_weight,
    cross_entropy,
    pack_outputs,
    packed_outputs,
    write_gradients,
    write_logits,
)
from ...native.tiles import TALL
from ..conversions import as_array
from .memory import Floats
from .threads import Task, run, shares, split

# Logits that exist at a time (8 MB): fewer, and the weights are read more often than need be.
_LOGITS: Final = 2**21


def losses_and_gradients(
    linear: Any,
    x: Tensor,
    targets: Tensor,
    weights: Tensor,
    factors: Tensor | None,
    of_weight: Tensor | None,
    of_bias: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Return losses of all rows, and the gradient of their sum with respect to ``x``.

    Args:
        linear: an ``nn.Linear`` of float32.
        x: float32 ``[N, H]``.
        targets: int64 ``[N]``, class numbers.
        weights: float32 ``[N]``: what each loss counts.
        factors: what each one's gradient is multiplied by; ``None`` if there is to be none.
        of_weight: where the weight's gradient is added, or ``None``.
        of_bias: the same of the bias.
    """
    w, rows = as_array(linear.weight), len(x)
    classes, length = w.shape
    none = np.empty(0, np.float32)
    bias = none if linear.bias is None else as_array(linear.bias)
    dx = np.empty((rows if factors is not None else 0, length), np.float32)
    losses = np.empty(rows, np.float32)
    rows_of_x, classes_of, counts = (as_array(t.contiguous()) for t in (x, targets, weights))
    scales = none if factors is None else as_array(factors.contiguous())
    into = np.empty((0, length), np.float32) if of_weight is None else as_array(of_weight)
    into_bias = none if of_bias is None else as_array(of_bias)
    most = max(1, _LOGITS // (classes * ROWS))
    panels = min(most, -(-rows // ROWS))
    memory = Floats(panels * classes * ROWS)
    room = memory.array[: panels * classes * ROWS].reshape(panels, -1)
    for begin in range(0, rows, panels * ROWS):
        part = slice(begin, min(begin + panels * ROWS, rows))
        block = _Block(w, bias, rows_of_x[part], classes_of[part], counts[part], room)
        block.losses(losses[part], scales[part])
        if factors is not None:
            block.gradients(dx[part], into, into_bias)
    return torch.from_numpy(losses), None if factors is None else torch.from_numpy(dx)


class _Block:
    """Some rows, whose logits exist at a time."""

    def __init__(
        self, w: Array, bias: Array, x: Array, targets: Array, weights: Array, room: Array
    ) -> None:
        """Take rows, and room for their logits."""
        self.w, self.bias, self.targets, self.weights = w, bias, targets, weights
        panels = -(-len(x) // ROWS)
        self.logits = room[:panels]
        self.by_row, self.by_term = packed_outputs(panels, w.shape[1])
        pack_outputs(x, self.by_row, self.by_term)
        self.threads = shares(panels * ROWS * w.size, panels * ROWS)

    def losses(self, losses: Array, factors: Array) -> None:
        """Write losses, and with ``factors`` the gradients of logits over the logits."""
        operands = self.w, self.bias, self.by_row
        run(
            [
                partial(write_logits, *operands, part.start, part.stop, self.logits)
                for part in split(len(self.w), self.threads, TALL)
            ],
            self.threads,
        )
        tasks = []
        for p, part in enumerate(split(len(losses), len(self.logits), ROWS)):
            given = self.targets[part], self.weights[part], factors[part]
            tasks.append(partial(cross_entropy, self.logits[p], *given, losses[part]))
        run(tasks, self.threads)

    def gradients(self, dx: Array, of_weight: Array, of_bias: Array) -> None:
        """Write the gradient of outputs, and add to those of weight and bias."""
        tasks: list[Task] = [
            partial(write_gradients, self.w, self.logits, part.start, part.stop, dx)
            for part in split(self.w.shape[1], self.threads, TALL)
        ]
        if len(of_weight) or len(of_bias):
            for part in split(len(self.w), self.threads, TALL):
                operands = self.logits, self.by_term, part.start, part.stop
                tasks.append(partial(add_to_weight, *operands, of_weight, of_bias))
        run(tasks, self.threads)
