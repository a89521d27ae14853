"""A readout's (sum, count): both are added up over chunks, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import CHUNK, ROWS, STEPS, WORDS, Model
from test_torch_readouts import WEIGHT, each_loss, keep, padded
from torch import Tensor
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import value, value_and_grad


def _total(h: Tensor, y: Tensor) -> Tensor:
    return (each_loss(h, y) * keep(y).flatten()).sum()


def _rows(h: Tensor) -> Tensor:
    return h.view(len(h), -1, 6)  # does not take no steps


Pair = Callable[[Tensor, Tensor], tuple[Tensor, Any]]
NO_SUMS: dict[str, Pair] = {
    "clamp": lambda h, y: (_total(h, y), (y >= 0).sum().clamp(min=1)),
    "maximum": lambda h, y: (_total(h, y), torch.maximum(keep(y).sum(), torch.tensor(1.0))),
    "Python's max": lambda h, y: (_total(h, y), max(1, int((y >= 0).sum()))),
    "Python's if": lambda h, y: (_total(h, y), (y >= 0).sum() if (y >= 0).any() else 1),
    "added": lambda h, y: (_total(h, y), 1 + keep(y).sum()),
    "rows with any": lambda h, y: (_total(h, y), (y >= 0).any(0).sum()),
    "one if any": lambda h, y: (_total(h, y), (y >= 0).any().float()),
    "fixed": lambda h, y: (_total(h, y), CHUNK * ROWS),
    "fixed tensor": lambda h, y: (_total(h, y), torch.tensor(8.0)),
    "penalty": lambda h, y: (_total(h, y) + WEIGHT.square().sum(), (y >= 0).sum()),
    "clamp, steps needed": lambda h, y: (_total(_rows(h), y), (y >= 0).sum().clamp(min=1)),
    "max, steps needed": lambda h, y: (_total(_rows(h), y), max(1, len(y[y >= 0]))),
    "fixed, steps needed": lambda h, y: (_total(_rows(h), y), CHUNK * ROWS),
}
ADDED_UP: dict[str, Pair] = {
    "tiny": lambda h, y: (_total(h, y), (y >= 0).sum() + 1e-8),
    "Python's": lambda h, y: (_total(h, y), (y >= 0).sum().item()),
    "length": lambda h, y: (_total(h, y), len(y[y >= 0])),
    "steps needed": lambda h, y: (_total(_rows(h), y), len(y[y >= 0])),
    "two": lambda h, y: (_total(h, y) + 0.1 * h.square().sum(), torch.count_nonzero(y >= 0)),
}


@pytest.mark.parametrize("name", NO_SUMS)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_pairs_of_which_one_counts_once_a_chunk_are_refused(name: str) -> None:
    """A chunk without targets would count one, for instance."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded()
    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError, match=r"readout: .*(no steps give|add up|any along)") as at:
            run(model.rnn, x, y, NO_SUMS[name], embed=model.embed, chunk_size=CHUNK)
        assert at.value.code == "E_ARGUMENT"
        assert not gradients_of(model)
    value_and_grad(model.rnn, x, y, NO_SUMS[name], embed=model.embed, chunk_size=STEPS)
    value(model.rnn, x, y, NO_SUMS[name], embed=model.embed, chunk_size=CHUNK, reduction="sum")


@pytest.mark.parametrize("name", ADDED_UP)
def test_pairs_of_sums_are_taken(name: str) -> None:
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded()
    total, count = ADDED_UP[name](model.rnn(model.embed(x))[0], y)
    loss: Any = total / count
    loss.backward()
    wanted = gradients_of(model)
    step = value_and_grad(model.rnn, x, y, ADDED_UP[name], embed=model.embed, chunk_size=CHUNK)
    assert torch.allclose(step.loss, loss.detach(), rtol=1e-5)
    assert close(gradients_of(model), wanted)
