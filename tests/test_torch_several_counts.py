"""Streaming in PyTorch: losses of two heads, each over targets of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from revrnn.errors import RevRNNError
from revrnn.torch_impl import RevGRU, value_and_grad

STEPS, ROWS, CLASSES = 40, 3, 4
torch.manual_seed(0)
RNN, HEAD = RevGRU(5, 6), nn.Linear(6, 2 * CLASSES)
X = torch.randn(STEPS, ROWS, 5)
LABELS = torch.randint(CLASSES, (2, STEPS, ROWS))
KEEP = torch.rand(2, STEPS, ROWS) < torch.tensor([0.4, 0.8])[:, None, None]
PADDED = torch.where(KEEP, LABELS, -100)
MODEL = nn.ModuleList([RNN, HEAD])


def losses(outputs: Tensor, *labels: Tensor) -> list[Tensor]:
    """Return each head's losses ``[C, B]``."""
    logits = HEAD(outputs).chunk(2, -1)
    each = zip(logits, labels, strict=True)
    return [functional.cross_entropy(z.movedim(-1, 1), y, reduction="none") for z, y in each]


def ignored(outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
    """Return the sum of two cross-entropies that ignore other targets each."""
    both = zip(HEAD(outputs).chunk(2, -1), targets, strict=True)
    first, second = (functional.cross_entropy(z.movedim(-1, 1), y) for z, y in both)
    return first + second / 2


def masked(outputs: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
    """Return the sum of two masked means."""
    first, second = losses(outputs, *targets[:2])
    keep, other = targets[2:]
    return (first * keep).sum() / keep.sum() + (second * other).sum() / other.sum() / 2


def weighed(outputs: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
    """Return the same as a sum over steps."""
    first, second = losses(outputs, *targets[:2])
    return (first * targets[2]).sum() + (second * targets[3]).sum()


GIVEN: dict[str, tuple[Callable[..., Tensor], Any]] = {
    "ignored": (ignored, tuple(PADDED)),
    "masked": (masked, (*LABELS, *KEEP)),
}


def gradients() -> list[Tensor]:
    """Take the gradients of all parameters."""
    made = [p.grad for p in MODEL.parameters() if p.grad is not None]
    MODEL.zero_grad()
    return made


@pytest.mark.parametrize("name", GIVEN)
def test_means_over_two_counts_are_refused_and_told_how(name: str) -> None:
    readout, targets = GIVEN[name]
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout.*several counts.*mask\.sum\(\)"):
        value_and_grad(RNN, X, targets, readout)
    assert not gradients()


@pytest.mark.parametrize("name", GIVEN)
def test_weights_that_have_their_counts_give_the_same(name: str) -> None:
    readout, targets = GIVEN[name]
    wanted = readout(RNN(X)[0], targets)
    torch.autograd.backward(wanted)
    expected = gradients()
    weights = [keep / keep.sum() / n for n, keep in enumerate(KEEP, 1)]
    got = value_and_grad(RNN, X, (*LABELS, *weights), weighed)
    torch.testing.assert_close(got.loss, wanted.detach())
    torch.testing.assert_close(gradients(), expected, rtol=1e-4, atol=1e-6)
