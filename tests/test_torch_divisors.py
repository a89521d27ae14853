"""What a readout divides by: the loss is that of all steps at once, or refused; never another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import ROWS, STEPS, WORDS, Model
from test_torch_readouts import each_loss, keep, numbers
from torch import Tensor
from torch.nn import functional
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import value, value_and_grad

Read = Callable[[Tensor, Tensor], Any]
CHUNKS = (1, 2)


def _targets(kind: str) -> Tensor:
    torch.manual_seed(1)
    y = torch.randint(6, (STEPS, ROWS))
    if kind == "first steps padded":
        y[:8] = -100
    if kind == "most steps padded":
        y[6:, 0], y[7:, 1], y[3:, 2:] = -100, -100, -100
    if kind == "a row padded":
        y[:, 1] = -100
    if kind == "last step padded":
        y[-1:] = -100
    return y


KINDS = ("first steps padded", "last step padded", "most steps padded", "a row padded")


def _total(h: Tensor, y: Tensor) -> Tensor:
    return (each_loss(h, y) * keep(y).flatten()).sum()


def _mean(h: Tensor, y: Tensor) -> Tensor:
    return _total(h, y) / (y >= 0).sum().clamp(min=1)


def _count(y: Tensor) -> Tensor:
    return (y >= 0).sum()


def _largest(y: Tensor) -> Tensor:
    return (y >= 0).sum(0).max()


def _weighted(h: Tensor, y: Tensor) -> Tensor:
    weight = keep(y) / keep(y).mean()
    return (each_loss(h, y).view(y.shape) * weight.nan_to_num()).mean()


def _cross(h: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(h.flatten(0, 1), y.flatten())


def _by_number(h: Tensor, y: Tensor) -> Tensor:
    loss = _mean(h, y)
    return loss / (loss.item() + 1e-8)


def _logs(h: Tensor, y: Tensor) -> Tensor:
    loss = h.square().mean()
    LOG.append(loss.item())
    return loss


def _rows(h: Tensor) -> Tensor:
    return h.view(len(h), -1, 6)  # does not take no steps


def _logs_nan(h: Tensor, y: Tensor) -> Tensor:
    loss = _cross(h, y)
    LOG.append(loss.item())  # NaN of a chunk of which nothing counts
    return loss


LOG: list[float] = []
FACTOR = torch.nn.Parameter(torch.tensor(1.7))
RIGHT: dict[str, Read] = {
    "beyond a threshold": lambda h, y: (
        _total(h, y) / torch.where((n := _count(y)) > 9, torch.sqrt(n), n)
    ),
    "counted twice": lambda h, y: _total(h, y) / torch.where(_count(y) > 0, _count(y), 1),
    "one if none": lambda h, y: _total(h, y) / ((n := _count(y)) + (n == 0)),
    "at most": lambda h, y: _total(h, y) / _count(y).clamp(1, 5),
    "a scalar's own shape": lambda h, y: (
        _total(h, y) / (n if (n := _count(y).clamp(min=1).reshape(())) > 0 else 1)
    ),
    "halved": lambda h, y: _total(h, y) / (_count(y) // 2 + 1e-3),
    "a pair, taken out": lambda h, y: (_total(h, y), int(_count(y))),
    "steps of accumulation": lambda h, y: _mean(h, y) / 4,
    "as many as a chunk's steps": lambda h, y: 5 * _cross(h, y) / 10,
    "in bits": lambda h, y: _cross(h, y) / torch.log(torch.tensor(2.0)),
    "by a learned factor": lambda h, y: _cross(h, y) / FACTOR,
    "times a learned factor": lambda h, y: each_loss(h, y)[y.flatten() >= 0].mean() * FACTOR,
    "a sum held fixed": lambda h, y: _total(h, y) / h.square().sum().detach(),
    "logged": _logs,
    "logged where it is NaN": _logs_nan,
}
# Of some chunks it is right; it must be right or refused.
REFUSED: dict[str, Read] = {
    "an if": lambda h, y: _total(h, y) / (1 if _count(y) > 9 else _count(y).clamp(min=1)),
    "a row's": lambda h, y: _total(h, y) / _largest(y).clamp(min=1),
    "any": lambda h, y: _total(h, y) / (y >= 0).any(0).sum().clamp(min=1),
    "two counts": lambda h, y: _total(h, y) / (_count(y) + (_count(y) == 0)),
    "a number of the loss": _by_number,
    "taken out": lambda h, y: _total(h, y) / max(1, _count(y).item()),
    "a threshold in Python": lambda h, y: _total(h, y) / min(5, max(1, int(_count(y)))),
    "an if in Python": lambda h, y: _total(h, y) / (1 if (n := int(_count(y))) > 9 else max(1, n)),
    "a number of what is kept below": lambda h, y: (
        _total(h, y) / max(1, _count(y).clamp(max=5).item())
    ),
    "a pair's threshold in Python": lambda h, y: (_total(h, y), min(5, int(_count(y)))),
    "weights over their mean": _weighted,
    "0 where nothing counts": lambda h, y: each_loss(h, y)[y.flatten() >= 0].mean().nan_to_num(),
    "a penalty": lambda h, y: torch.where(_count(y) > 0, _mean(h, y), 0) + 0.1,
    "two means": lambda h, y: _mean(h, y) + 0.1 * h.square().mean(),
    "a length": lambda h, y: _total(h, y) / (_count(y) + len(y)),
    "a row's if any": lambda h, y: _total(h, y) / torch.where(_count(y) > 0, _largest(y), 1),
    "skipped if large": lambda h, y: _mean(h, y) * (0 if _total(h, y).item() > 40 else 1),
    "the larger of two": lambda h, y: (
        _total(h, y) / torch.maximum(_count(y), (y > 3).sum() * 3).clamp(min=1)
    ),
    "a pair, kept below, taken out": lambda h, y: (_total(h, y), _count(y).clamp(max=5).item()),
    "a pair's larger of two": lambda h, y: (
        _total(h, y),
        torch.maximum(_count(y), 2 * _largest(y)),
    ),
    "two over one count": lambda h, y: (
        _total(h, y) / (n := _count(y).clamp(min=1))
        - 0.3 * (h.square().mean(-1) * keep(y)).sum() / n
    ),
    "over two counts": lambda h, y: (
        _total(h, y) / _count(y) - 0.3 * (h.square().mean(-1) * (y > 3)).sum() / (y > 3).sum()
    ),
    "a chunk's mean of rows": lambda h, y: _total(h, y) / keep(y).mean(0).sum(),
    "a mean over the steps": lambda h, y: _cross(h, y) / len(h),
    "a mean over a tensor of the steps": lambda h, y: _cross(h, y) / torch.tensor(len(h)),
    "times the steps": lambda h, y: _total(h, y) * len(h) / _count(y),
    "over a tensor of the steps": lambda h, y: _total(h, y) / (_count(y) * torch.tensor(len(h))),
    "weights of the steps": lambda h, y: (
        (each_loss(h, y).view(y.shape) * keep(y) * torch.full((len(y), 1), 1 / len(y))).sum()
        / _count(y)
    ),
    "a pair kept below": lambda h, y: (_total(h, y).clamp(max=5), _count(y)),
    "a pair beyond a threshold": lambda h, y: (
        _total(h, y),
        torch.where((n := _count(y)) > 9, 1, n),
    ),
    "a pair's at most": lambda h, y: (_total(h, y), _count(y).clamp(max=5)),
    "a pair's largest": lambda h, y: (_total(h, y), _largest(y)),
    "a pair of some steps": lambda h, y: (_total(_rows(h), y), max(1, len(y[y >= 0]))),
}


def _whole(model: Model, x: Tensor, y: Tensor, read: Read) -> tuple[Tensor, dict[str, Tensor]]:
    made: Any = read(model.rnn(model.embed(x))[0], y)
    loss: Tensor = made[0] / made[1] if isinstance(made, tuple) else made
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), gradients_of(model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*RIGHT, *REFUSED])
@pytest.mark.rule("ERR-003", "ERR-004")
def test_what_divides_is_that_of_all_steps_or_refused(name: str, kind: str) -> None:
    read, model, y = (RIGHT | REFUSED)[name], Model(), _targets(kind)
    model.register_parameter("factor", FACTOR)
    x = torch.randint(WORDS, (STEPS, ROWS))
    loss, wanted = _whole(model, x, y, read)
    for size in CHUNKS:
        try:
            step = value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=size)
        except RevRNNError as caught:
            error = caught
        else:
            assert torch.allclose(step.loss, loss, rtol=1e-4)
            assert close(gradients_of(model), wanted)
            continue
        assert name in REFUSED
        assert (error.code, error.argument) == ("E_ARGUMENT", "readout")
        assert not gradients_of(model)
    if name in RIGHT:
        only = value(model.rnn, x, y, read, embed=model.embed, chunk_size=5)
        assert torch.allclose(only.loss, loss, rtol=1e-4)


def _asks(h: Tensor, y: Tensor) -> Tensor:
    assert y.max() < WORDS
    return _mean(h, y)


@pytest.mark.parametrize(
    ("read", "once"),
    [(_mean, True), (_asks, False), (lambda h, y: _mean(h + 0 * h.flip(0), y), False)],
    ids=["sums", "a choice", "a doubt"],
)
def test_a_mean_over_what_counts_is_tried_once(read: Read, once: bool) -> None:
    """Sums over steps show that they are sums, so parts of one chunk are enough."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), _targets("last step padded")
    calls = list[int]()

    def counted(h: Tensor, y: Tensor) -> Any:
        calls.append(h.numel() // (ROWS * 6))
        return read(h, y)

    value_and_grad(model.rnn, x, y, counted, embed=model.embed, chunk_size=4)
    assert calls == [2, 1, 1, *([4, 4, 4] if once else [4, 1, 2, 1] * 3)]


CHOSEN: dict[str, Read] = {
    "a loss": lambda h, y: functional.mse_loss(h[k := ~y.isnan()], y[k]),
    "a difference": lambda h, y: (h[k := ~y.isnan()] - y[k]).square().mean(),
    "by places": lambda h, y: functional.mse_loss(
        h[k := (~y.isnan()).nonzero(as_tuple=True)], y[k]
    ),
}


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("left_out", [(0, 1, 2, 0), (2, 0, 1, 1)])
@pytest.mark.rule("ERR-003", "ERR-004")
def test_as_many_numbers_chosen_as_each_step_might_have(
    name: str, left_out: tuple[int, ...]
) -> None:
    """In each chunk a multiple of its steps × rows, which are not so many of each step."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers() * 3
    for chunk, count in zip(torch.split(y, 4), left_out, strict=True):
        for numbers_of in chunk.permute(2, 0, 1)[:count]:
            numbers_of[:] = float("nan")
        if len(chunk) == 4:  # from other places
            chunk.view(-1)[:] = chunk.flatten()[torch.randperm(chunk.numel())]
    loss, wanted = _whole(model, x, y, CHOSEN[name])
    step = value_and_grad(model.rnn, x, y, CHOSEN[name], embed=model.embed, chunk_size=4)
    assert torch.allclose(step.loss, loss, rtol=1e-4)
    assert close(gradients_of(model), wanted)


@pytest.mark.rule("ERR-003", "ERR-004")
def test_one_target_a_chunk_does_not_hide_what_divides() -> None:
    """Of each chunk alone a mean over each row's targets is their sum."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), _targets("")
    y[torch.arange(STEPS) % 4 > 0] = -100

    def read(h: Tensor, y: Tensor) -> Tensor:
        losses = torch.stack([each_loss(one[None], of[None]) for one, of in zip(h, y, strict=True)])
        return ((losses * keep(y)).sum(0) / keep(y).sum(0).clamp(min=1)).mean()

    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError, match=r"readout: .*along the steps"):
            run(model.rnn, x, y, read, embed=model.embed, chunk_size=4)
