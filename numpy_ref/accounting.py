"""Storage accounting in bits (ACC)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from revrnn.accounting import Storage
from revrnn.config import Config

from .sequence import Forward


def ideal_bits(gate_counts: npt.NDArray[np.int64]) -> float:
    """Return ``Σ_v gate_counts[v]·log2(1024/v)`` (ACC-002)."""
    values = np.arange(1, 1025)
    return float((gate_counts[1:] * np.log2(1024 / values)).sum())


def storage(config: Config, mask: npt.NDArray[np.bool_], forward: Forward) -> Storage:
    """Return the accounts of a forward pass that began with an empty store."""
    steps = int(mask.sum())
    stored = 0
    if forward.buffer is not None:
        stored = forward.buffer.stored_bits()
        stored += 32 * config.slice_size * (mask.shape[1] + steps)
    plain = 32 * config.num_layers * config.hidden_size * config.state_arrays * steps
    return Storage(forward.gate_counts, ideal_bits(forward.gate_counts), stored, plain)
