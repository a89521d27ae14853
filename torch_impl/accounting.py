"""Storage accounting in bits (ACC)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from revrnn.config import Config

from .sequence import Forward


@dataclass(frozen=True)
class Storage:
    """What a forward pass would cost to remember.

    Attributes:
        gate_counts: int64 ``[1025]``, how often each forget gate occurred (ACC-001).
        ideal_bits: bits forgotten (ACC-002).
        stored_bits: bits kept in order to reverse (ACC-003).
        plain_bits: bits of all states at 32 each (ACC-004).
    """

    gate_counts: Tensor
    ideal_bits: float
    stored_bits: int
    plain_bits: int


def ideal_bits(gate_counts: Tensor) -> float:
    """Return ``Σ_v gate_counts[v]·log2(1024/v)`` (ACC-002)."""
    values = torch.arange(1, 1025, dtype=torch.float64)
    return float((gate_counts[1:].cpu() * torch.log2(1024 / values)).sum())


def storage(config: Config, mask: Tensor, forward: Forward) -> Storage:
    """Return the accounts of a forward pass that counted its gates, from an empty store."""
    assert forward.gate_counts is not None
    steps, rows = int(mask.sum()), mask.shape[1]
    stored, buffer = 0, forward.buffer
    if buffer is not None:
        if config.buffer == "stream":
            stored = 16 * buffer.words_count() + 32 * buffer.heads.numel()
        else:
            stored = 64 * buffer.heads.numel() * (buffer.words_count() + 1) + buffer.flags().numel()
        stored += 32 * config.slice_size * (rows + steps)
    plain = 32 * config.num_layers * config.hidden_size * config.state_arrays * steps
    return Storage(forward.gate_counts, ideal_bits(forward.gate_counts), stored, plain)
