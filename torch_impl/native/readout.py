"""A readout's products and cross-entropy in compiled calls: :mod:`revrnn.native.readout`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ...native.frame_writer import Frame
from ...native.readout_handler import read, room, share
from ..conversions import as_array
from .memory import Floats
from .threads import chunk_shares, members

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
    (classes, length), none = w.shape, np.empty(0, np.float32)
    losses = np.empty(rows, np.float32)
    dx = np.empty((rows if factors is not None else 0, length), np.float32)
    frame, size = Frame(6, 5), room(rows, classes, _LOGITS)
    memory = Floats(size)
    given = (linear.bias, x, targets.to(torch.int32), weights, factors)
    into = np.empty((0, length), np.float32) if of_weight is None else as_array(of_weight)
    into_bias = none if of_bias is None else as_array(of_bias)
    arrays = [none if t is None else as_array(t.contiguous()) for t in given]
    for n, array in enumerate((w, *arrays)):
        frame.arguments[n] = array
    for n, array in enumerate((losses, dx, into, into_bias, memory.array[:size])):
        frame.results[n] = array
    shares = chunk_shares(rows * w.size)
    if not read(frame.address, share().address, shares, *members(shares)):
        raise MemoryError("not enough memory for a readout")
    return torch.from_numpy(losses), None if factors is None else torch.from_numpy(dx)
