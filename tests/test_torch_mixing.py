"""A readout whose steps depend on one another is refused; what keeps them apart is read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_torch_losses import CHUNK, ROWS, STEPS, WORDS, Model
from test_torch_readouts import numbers
from torch import Tensor, nn
from torch.nn import functional
from torch_results import gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import value, value_and_grad

F = functional
NORMED = nn.BatchNorm1d(6).eval()
PLACES = torch.linspace(-1, 1, STEPS * ROWS).view(STEPS, ROWS).requires_grad_()
SEEN: list[Tensor] = []


def _noted(h: Tensor, y: Tensor) -> Tensor:
    """Use a softmax over the steps for something else than the loss."""
    SEEN.append(h.softmax(0).amax())
    return F.mse_loss(h, y)


def _each_step(h: Tensor, y: Tensor) -> Tensor:
    """Use a softmax over features where the first axis is as long as a chunk."""
    losses = [F.mse_loss(a.T.softmax(0).T, b) for a, b in zip(h, y, strict=True)]
    return torch.stack(losses).mean()


def _smoothed(h: Tensor, y: Tensor) -> Tensor:
    """Average over the steps before, one after the other."""
    means = [h[0]]
    for one in h[1:]:
        means.append(0.9 * means[-1] + 0.1 * one)
    return F.mse_loss(torch.stack(means), y)


def _in_place(h: Tensor, y: Tensor) -> Tensor:
    shifted = h.clone()
    shifted[1:] += h[:-1]
    return F.mse_loss(shifted, y)


def _heads(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (h.transpose(0, 1),) * 3


CONV = nn.Conv1d(6, 6, 3, padding=1)
Reads = Callable[[Tensor, Tensor], Any]
MIXED: dict[str, Reads] = {
    "softmax": lambda h, y: F.mse_loss(h.softmax(0), y),
    "module": lambda h, y: F.mse_loss(nn.Softmax(dim=0)(2 * h), y),
    "log_softmax": lambda h, y: F.kl_div(h.log_softmax(dim=-3), y.exp(), reduction="sum"),
    "attention": lambda h, y: ((h.sum(2).softmax(0).unsqueeze(2) * h) - y).square().mean(),
    "running sum": lambda h, y: ((h.cumsum(0) - y).square().sum(), y.numel()),
    "running sum, moved": lambda h, y: F.mse_loss(h.movedim(0, -1).cumsum(-1).movedim(-1, 0), y),
    "norm": lambda h, y: (F.normalize(h, dim=0) - y).abs().mean(),
    "convolution": lambda h, y: F.mse_loss(CONV(h.permute(1, 2, 0)).permute(2, 0, 1), y),
    "convolution, dropout": lambda h, y: F.mse_loss(
        CONV(F.dropout(h, 0.5).permute(1, 2, 0)).permute(2, 0, 1), y
    ),
    "pooling": lambda h, y: F.mse_loss(
        F.avg_pool1d(h.permute(1, 2, 0), 3, 1, 1).permute(2, 0, 1), y
    ),
    "rolled": lambda h, y: F.mse_loss(h.roll(1, 0), y),
    "rolled targets": lambda h, y: F.mse_loss(h, y.roll(-1, 0)),
    "joined": lambda h, y: F.mse_loss(torch.cat([h[1:], h[:1]]), y),
    "padded": lambda h, y: F.mse_loss(F.pad(h, (0, 0, 0, 0, 1, 0))[:-1], y),
    "next targets": lambda h, y: ((h[:-1] * y[1:]).sum(), h.numel()),
    "turned": lambda h, y: F.mse_loss(h.flip(0), y),
    "sorted": lambda h, y: F.mse_loss(h.sort(0)[0], y),
    "chosen steps": lambda h, y: F.mse_loss(h[torch.arange(len(h) - 1, -1, -1)], y),
    "matrix": lambda h, y: F.mse_loss(
        torch.einsum("st,tbh->sbh", torch.ones(len(h), len(h)), h), y
    ),
    "norm over": lambda h, y: F.mse_loss(F.instance_norm(h.permute(1, 2, 0)).permute(2, 0, 1), y),
    "centred": lambda h, y: F.mse_loss(h - h.mean(0), y),
    "scaled": lambda h, y: F.mse_loss(h / h.abs().max(), y),
    "self-attention": lambda h, y: F.mse_loss(
        F.scaled_dot_product_attention(*_heads(h)).transpose(0, 1), y
    ),
    "another layout": lambda h, y: F.mse_loss(
        h.reshape(h.shape[1], -1).softmax(-1).view(h.shape), y
    ),
    "places": lambda h, y: F.mse_loss(h + torch.arange(len(h))[:, None, None], y),
    "one by one": _smoothed,
    "in place": _in_place,
    "NumPy": lambda h, y: F.mse_loss(h, torch.from_numpy(np.roll(y.numpy(), 1, 0))),
    "centred by NumPy": lambda h, y: F.mse_loss(
        h - torch.from_numpy(h.detach().numpy().mean(0)), y
    ),
    "largest, as a number": lambda h, y: F.mse_loss(h, y) * (1 + float(h.detach().max())),
    "array's deviation": lambda h, y: F.mse_loss(h, y) * float(np.asarray(h.detach()).std()),
    "chunk's length": lambda h, y: F.mse_loss(h * len(h), y),
    "mean over the chunk's length": lambda h, y: F.mse_loss(h, y) / len(h),
    "cosine": lambda h, y: 1 - F.cosine_similarity(h, y, dim=0).mean(),
    "products of steps": lambda h, y: (
        (h.permute(1, 2, 0) @ y.permute(1, 0, 2)).square().sum() / h.numel()
    ),
    "BatchNorm": lambda h, y: F.mse_loss(
        F.batch_norm(h.permute(1, 2, 0), None, None, training=True).permute(2, 0, 1), y
    ),
    "first steps": lambda h, y: (h - y).square().sum(-1)[:9].mean(),
    "steps after the first": lambda h, y: (h - y).square().sum(-1)[STEPS - 2 :].mean(),
    "last steps": lambda h, y: F.mse_loss(h[-6:], y[-6:]),
    "chosen, then indexed": lambda h, y: (
        -h.log_softmax(-1).gather(-1, y.argmax(-1)[..., None])[:9].mean()
    ),
    "too few steps": lambda h, y: (F.max_pool1d(h.permute(1, 2, 0), 2).sum(), len(h)),
}


NOT_MIXED: dict[str, Reads] = {
    "features": lambda h, y: F.mse_loss(h.softmax(-1), y),
    "rows": lambda h, y: F.mse_loss(h.softmax(1), y),
    "each step": _each_step,
    "BatchNorm, evaluated": lambda h, y: F.mse_loss(NORMED(h.permute(1, 2, 0)).permute(2, 0, 1), y),
    "logged": lambda h, y: (F.mse_loss(h, y), float((h > y).float().mean()))[0],
    "not in the loss": _noted,
    "of a parameter": lambda h, y: (h * PLACES.softmax(0).amax()).square().mean(),
    "both turned": lambda h, y: F.mse_loss(h.flip(0), y.flip(0)),
    "attention over rows": lambda h, y: F.mse_loss(F.scaled_dot_product_attention(h, h, h), y),
    "convolution over features": lambda h, y: F.mse_loss(
        F.conv1d(h.flatten(0, 1)[:, None], torch.ones(1, 1, 3), padding=1)[:, 0].view(h.shape), y
    ),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_functions_along_the_steps_are_refused(name: str) -> None:
    read, model, y = MIXED[name], Model(), numbers()
    x = torch.randint(WORDS, (STEPS, ROWS))
    calls: list[tuple[Any, int, str]] = [(value_and_grad, CHUNK, "mean")]
    if name != "mean over the chunk's length":  # a sum may be of whatever a chunk gives
        calls.append((value, CHUNK, "sum"))
    if name not in ("too few steps", "norm over", "another layout"):  # one step cannot show these
        calls.append((value, 1, "mean"))
    for run, size, reduction in calls:
        with pytest.raises(RevRNNError, match=r"along the steps|neither|may be") as caught:
            run(model.rnn, x, y, read, embed=model.embed, chunk_size=size, reduction=reduction)
        assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", "readout")
        assert not gradients_of(model)
    value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=STEPS)


@pytest.mark.parametrize("name", NOT_MIXED)
def test_functions_of_each_step_are_not_refused(name: str) -> None:
    read, model, y = NOT_MIXED[name], Model(), numbers()
    x = torch.randint(WORDS, (STEPS, ROWS))
    value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=6)  # as many features
    assert gradients_of(model)


BY_SEVERAL: dict[str, Reads] = {
    "halves": lambda h, y: torch.stack([part.square().mean() for part in h.chunk(2)]).sum(),
    "twos": lambda h, y: sum(part.square().mean() for part in torch.split(h, 2)),
    "ranged": lambda h, y: (((h - y) / (y.amax(0) - y.amin(0))).square().sum(), y.numel()),
    "counted": lambda h, y: (sum(part.square().mean() for part in h.chunk(2)), torch.ones(())),
}


@pytest.mark.parametrize("name", BY_SEVERAL)
def test_what_is_done_by_halves_is_refused_in_chunks_too_short_to_show_it(name: str) -> None:
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    for run in (value_and_grad, value):
        for size, reduction in ((2, "mean"), (2, "sum"), (3, "mean")):
            given: dict[str, Any] = {"chunk_size": size, "reduction": reduction}
            with pytest.raises(RevRNNError) as caught:
                run(model.rnn, x, numbers(), BY_SEVERAL[name], embed=model.embed, **given)
            assert caught.value.argument == "readout"


CHANGING: dict[str, Reads] = {
    "nothing of few": lambda h, y: F.mse_loss(h.roll(1, 0), y) if len(h) > 1 else None,
    "a pair of few": lambda h, y: F.mse_loss(h.roll(1, 0), y) if len(h) > 1 else (h.sum(), len(h)),
    "an array of few": lambda h, y: h.roll(1, 0).sum() if len(h) > 1 else h.sum(2),
    "a pair of many": lambda h, y: h.sum() if len(h) < 9 else (h.sum(), len(h)),
}


@pytest.mark.parametrize("name", CHANGING)
def test_results_of_another_kind_for_other_steps_are_named(name: str) -> None:
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] readout: got a scalar for some steps, "):
        value(model.rnn, x, numbers(), CHANGING[name], embed=model.embed, chunk_size=CHUNK)


def _each(parts: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return the sum of the losses of parts along the features."""
    each = [F.mse_loss(h, y) for h, y in zip(parts, targets, strict=True)]
    return each[0] + sum(each[1:])


LAYER, NORM = nn.Linear(6, 6), nn.LayerNorm(6)
PLAIN: dict[str, Reads] = {
    "layers": lambda h, y: F.mse_loss(nn.Sequential(LAYER, nn.GELU(), NORM, nn.Dropout())(h), y),
    "cross-entropy": lambda h, y: F.cross_entropy(LAYER(h).flatten(0, 1), y.argmax(-1).flatten()),
    "second axis": lambda h, y: F.cross_entropy(h.permute(0, 2, 1), y.argmax(-1)),
    "chosen": lambda h, y: F.mse_loss(h[y[..., 0] > 0], y[y[..., 0] > 0]),
    "masked": lambda h, y: (
        ((h - y).square().sum(-1) * (y[..., 0] > 0)).sum(),
        (y[..., 0] > 0).sum(),
    ),
    "rows": lambda h, y: F.mse_loss(
        h.transpose(0, 1).reshape(-1, 6), y.transpose(0, 1).flatten(0, 1)
    ),
    "features": lambda h, y: F.mse_loss(F.normalize(h[..., :4].softmax(2), dim=-1), y[:, :, 2:]),
    "halves of features": lambda h, y: _each(h.chunk(2, -1), torch.split(y, [3, 3], 2)),
    "thirds of features": lambda h, y: _each(
        h.tensor_split(3, dim=-1), [y.narrow(-1, n, 2) for n in (0, 2, 4)]
    ),
    "each feature": lambda h, y: _each(h.unbind(-1), [y.select(2, n) for n in range(6)]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_keeps_steps_apart_is_read_once(name: str) -> None:
    model, x, y, calls = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers(), list[int]()

    def read(h: Tensor, y: Tensor) -> Any:
        calls.append(h.numel() // (ROWS * 6))  # len() would have more steps tried
        return PLAIN[name](h, y)

    for run, lengths in ((value_and_grad, [2, 4, 4, 4]), (value, [4, 4, 4, 2])):
        run(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)
        if name == "chosen":
            assert len(calls) > 4  # what a mean of chosen elements is, parts tell
        else:
            assert calls == lengths
        calls.clear()
