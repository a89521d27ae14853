"""Storage accounting in bits (ACC), for all implementations; the oracle has formulas of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .config import Config


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
    """Return ``Σ_v gate_counts[v]·log2(1024/v)`` (ACC-002)."""
    return float((gate_counts[1:] * np.log2(1024 / np.arange(1, 1025))).sum())


def stored_bits(config: Config, rows: int, steps: int, words: int, flags: int) -> int:
    """Return the bits kept in order to reverse (ACC-003).

    Args:
        config: the stack.
        rows: rows of the batch.
        steps: (step, row) pairs that are not masked out.
        words: words (for ``wordlist`` planes) in the store.
        flags: flags in the store.
    """
    if not config.forgetting:
        return 0
    heads = rows * config.group_size
    sliced = 32 * config.slice_size * (rows + steps)
    if config.buffer == "stream":
        return 16 * words + 32 * heads + sliced
    return 64 * heads * (words + 1) + flags + sliced


def plain_bits(config: Config, steps: int) -> int:
    """Return the bits of all states at 32 each (ACC-004)."""
    return 32 * config.num_layers * config.hidden_size * config.state_arrays * steps


def storage(
    config: Config,
    mask: npt.NDArray[np.bool_],
    gate_counts: npt.NDArray[np.int64],
    words: int,
    flags: int,
) -> Storage:
    """Return the accounts of a forward pass from an empty store.

    Args:
        config: the stack.
        mask: bool ``[T, B]``.
        gate_counts: int64 ``[1025]``, all 0 without forgetting.
        words: words (for ``wordlist`` planes) in the store.
        flags: flags in the store.
    """
    steps = int(mask.sum())
    stored = stored_bits(config, mask.shape[1], steps, words, flags)
    return Storage(gate_counts, ideal_bits(gate_counts), stored, plain_bits(config, steps))
