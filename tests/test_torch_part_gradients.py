"""Numbers of chunks may add up to those of all steps where their gradients do not: it is refused.

A layer along the steps does nothing yet where its weights, or a factor, begin at zero; a loss
that is divided by itself, held fixed, is one in every chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import CHUNK, ROWS, STEPS, WORDS, Model
from test_torch_readouts import numbers
from torch import Tensor, nn
from torch.nn import functional
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import value, value_and_grad

F = functional
SIZE = 4


class Zeros(nn.Module):
    """Weights that begin at zero."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.factor, self.gate = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(size))
        self.weight = nn.Parameter(torch.zeros(size, size, 3))


Along = Callable[[Zeros, Tensor], Tensor]
ALONG: dict[str, Along] = {
    "convolution": lambda zeros, x: F.conv1d(x.permute(1, 2, 0), zeros.weight, padding=1).permute(
        2, 0, 1
    ),
    "mean": lambda zeros, x: zeros.factor * x.mean(0),
    "attention": lambda zeros, x: zeros.factor * (x.sum(2, keepdim=True).softmax(0) * x).sum(0),
}
ROWWISE: Along = lambda zeros, x: zeros.factor * (x @ x.mT).softmax(-1) @ x  # noqa: E731


def _held(loss: Tensor) -> Tensor:
    with torch.no_grad():
        return loss.clone()


Read = Callable[[Zeros, Tensor, Tensor], Any]
READS: dict[str, Read] = {
    "uniform weights": lambda zeros, h, y: (
        ((h @ zeros.gate).softmax(0).unsqueeze(2) * (h - y).square()).sum(0).mean()
    ),
    "gates over their sum": lambda zeros, h, y: (
        ((g := (h @ zeros.gate).sigmoid()) * (h - y).square().mean(2)).sum() / g.sum()
    ),
    "balanced": lambda _, h, y: (
        (a := F.mse_loss(h, y)) + (b := h.square().mean()) * _held(a / b).detach()
    ),
    "over its mean": lambda _, h, y: ((a := (h - y).square()) / _held(a.mean())).mean(),
    "sum over its mean": lambda _, h, y: (a := (h - y).square()).sum() / a.detach().mean(),
}


@pytest.mark.parametrize("name", [*ALONG, *READS])
@pytest.mark.rule("ERR-003", "ERR-004")
def test_a_readout_whose_gradients_do_not_add_up_is_refused(name: str) -> None:
    model, zeros, y = Model(), Zeros(6), numbers()
    x = torch.randint(WORDS, (STEPS, ROWS))

    def read(h: Tensor, y: Tensor) -> Any:
        if name in READS:
            return READS[name](zeros, h, y)
        return F.mse_loss(h + ALONG[name](zeros, h), y)

    for size in (1, CHUNK):
        with pytest.raises(
            RevRNNError, match=r"readout: .*(along the steps|gradient|one step does)"
        ) as caught:
            value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=size)
        assert caught.value.code == "E_ARGUMENT"
        assert not gradients_of(model)
        assert not gradients_of(zeros)
    value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=STEPS)


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_an_embed_whose_gradients_do_not_add_up_is_refused(name: str) -> None:
    model, zeros, x, y = Model(), Zeros(SIZE), torch.randn(STEPS, ROWS, SIZE), numbers()

    def embed(x: Tensor) -> Tensor:
        return x + ALONG[name](zeros, x)

    with pytest.raises(RevRNNError, match=r"embed: .*along the steps"):
        value_and_grad(model.rnn, x, y, F.mse_loss, embed=embed, chunk_size=CHUNK)
    assert not gradients_of(zeros)
    if name != "mean":  # what is added up over steps is refused here too
        value(model.rnn, x, y, F.mse_loss, embed=embed, chunk_size=CHUNK)  # its number is right


def test_what_is_zero_and_keeps_steps_apart_is_taken() -> None:
    model, zeros, inner = Model(), Zeros(6), Zeros(SIZE)
    x, y = torch.randn(STEPS, ROWS, SIZE), numbers()

    def embed(x: Tensor) -> Tensor:
        return x + ROWWISE(inner, x)

    def read(h: Tensor, y: Tensor) -> Tensor:
        loss = F.mse_loss(h + ROWWISE(zeros, h), y)
        return loss - loss.detach() + 1  # its gradients add up

    loss: Any = read(model.rnn(embed(x))[0], y)
    loss.backward()
    both = nn.ModuleList([model, zeros, inner])
    wanted = gradients_of(both)
    step = value_and_grad(model.rnn, x, y, read, embed=embed, chunk_size=CHUNK)
    assert torch.allclose(step.loss, loss.detach())
    assert close(gradients_of(both), wanted)


ZERO: dict[str, Read] = {
    "mean of each row": lambda zeros, h, y: ((h @ zeros.gate) * y[:, :, 0]).mean(0).sum(),
    "sum over rows": lambda zeros, h, y: torch.einsum("tb,tb->", h @ zeros.gate, y[:, :, 0]),
    "neither": lambda zeros, h, y: (h @ zeros.gate * y[:, :, 0]).sum() * y.square().mean(),
}


@pytest.mark.parametrize("name", ZERO)
def test_a_loss_of_zero_has_its_gradient(name: str) -> None:
    """A head that begins at zero gives 0 for every chunk, which shows neither a mean nor a sum."""
    model, zeros, y = Model(), Zeros(6), numbers()
    x = torch.randint(WORDS, (STEPS, ROWS))

    def read(h: Tensor, y: Tensor) -> Any:
        return ZERO[name](zeros, h, y)

    loss: Any = read(model.rnn(model.embed(x))[0], y)
    loss.backward()
    wanted = gradients_of(zeros)
    if name == "neither":
        with pytest.raises(RevRNNError, match="readout: got a scalar of 0 whose gradient"):
            value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)
        return
    assert value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK).loss == 0
    made = gradients_of(zeros)
    assert close({"gate": made["gate"]}, {"gate": wanted["gate"]})
    assert made["gate"].abs().max() > 0


@pytest.mark.rule("ERR-003", "ERR-004")
def test_a_count_that_requires_a_gradient_is_refused() -> None:
    """It would be lost."""
    model, zeros, y = Model(), Zeros(6), numbers()

    def read(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gates = (h @ zeros.gate).sigmoid()
        return (gates * (h - y).square().mean(2)).sum(), gates.sum()

    x = torch.randint(WORDS, (STEPS, ROWS))
    with pytest.raises(RevRNNError, match="readout: got a count that requires a gradient"):
        value_and_grad(model.rnn, x, y, read, embed=model.embed)
    value(model.rnn, x, y, read, embed=model.embed)
