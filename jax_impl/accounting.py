"""Storage accounting in bits (ACC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from revrnn.config import Config


@dataclass(frozen=True)
class Storage:
    """What a forward pass would cost to remember.

    Attributes:
        gate_counts: int64 ``[1025]``, how often each forget gate occurred (ACC-001).
        ideal_bits: bits forgotten (ACC-002).
        stored_bits: bits kept in order to reverse (ACC-003).
        plain_bits: bits of all states at 32 each (ACC-004).
    """

    gate_counts: npt.NDArray[np.int64]
    ideal_bits: float
    stored_bits: int
    plain_bits: int


def ideal_bits(gate_counts: npt.NDArray[np.int64]) -> float:
    """Return ``Σ_v gate_counts[v]·log2(1024/v)`` (ACC-002), on the host in float64."""
    values = np.arange(1, 1025)
    return float((gate_counts[1:] * np.log2(1024 / values)).sum())


def storage(
    config: Config, mask: npt.NDArray[np.bool_], gate_counts: npt.NDArray[np.int64], words: int
) -> Storage:
    """Return the accounts of a forward pass that began with an empty store.

    Args:
        config: the stack.
        mask: bool ``[T, B]``.
        gate_counts: int64 ``[1025]``, all 0 without forgetting.
        words: words (for ``wordlist`` planes) in the store at the end.
    """
    rows, steps = mask.shape[1], int(mask.sum())
    stored, heads = 0, rows * config.group_size
    if config.forgetting:
        # ACC-003
        if config.buffer == "stream":
            stored = 16 * words + 32 * heads
        else:
            stored = 64 * heads * (words + 1) + len(mask) * config.operations_per_step
        stored += 32 * config.slice_size * (rows + steps)
    plain = 32 * config.num_layers * config.hidden_size * config.state_arrays * steps
    return Storage(gate_counts, ideal_bits(gate_counts), stored, plain)
