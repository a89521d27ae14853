"""What tests of the PyTorch modules compare: states and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from revrnn.torch_impl import RevGRU, RevLSTM, State

both = pytest.mark.parametrize("kind", [RevGRU, RevLSTM])


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in a module's second result."""
    if isinstance(value, State):
        return [t for t in (value.h, value.c, value.heads) if t is not None]
    return [value] if isinstance(value, Tensor) else list(value)


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    """Return and forget the gradients of a module."""
    gradients = {
        name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None
    }
    module.zero_grad()
    return gradients


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Say whether two sets of gradients are equal bit for bit."""
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Say whether two sets of gradients are equal but for rounding."""
    return set(a) == set(b) and all(
        (a[name] - b[name]).abs().max() <= 1e-4 * b[name].abs().max() + 1e-6 for name in a
    )
