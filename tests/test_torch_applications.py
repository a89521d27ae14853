"""Losses of whole applications: by chunks what they are of all steps at once, or an error."""

from __future__ import annotations

import functools
import gc
import operator
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import ROWS, STEPS, WORDS, Model
from test_torch_readouts import numbers
from torch import Tensor, nn
from torch.nn import functional
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, value, value_and_grad

F = functional
Read = Callable[[Tensor, Tensor], Any]
Case = tuple[Read, tuple[int, ...]]
WEIGHT = nn.Parameter(torch.linspace(-1, 1, 36).sin().view(6, 6))


def _ahead(lag: int) -> Read:
    def read(h: Tensor, y: Tensor) -> Tensor:
        """Predict steps to come; of too few steps nothing."""
        if len(h) <= lag:
            return h.sum() * 0
        alike = h[:-lag] @ y[lag:].mT
        return F.cross_entropy(alike.flatten(0, 1), torch.arange(ROWS).repeat(len(alike)))

    return read


def _ahead_as_pair(h: Tensor, y: Tensor) -> tuple[Tensor, int]:
    if len(h) < 6:
        return h.sum() * 0, 0
    return (h[:-5] - y[5:]).square().sum(), y[5:].numel()


def _smooth(h: Tensor, y: Tensor) -> Tensor:
    total = F.mse_loss(h, y, reduction="sum")
    return total + h.diff(n=2, dim=0).square().sum() if len(h) > 2 else total


def _large(h: Tensor) -> Tensor:
    with torch.no_grad():
        return h.abs().mean()


def _smooth_if_long(lag: int, reduction: str = "mean") -> Read:
    def read(h: Tensor, y: Tensor) -> Tensor:
        loss = F.mse_loss(h, y, reduction=reduction)
        if h.shape[0] > lag:
            loss = loss + (h[lag:] - h[:-lag]).square().sum()
        return loss

    return read


UNSEEN: dict[str, Case] = {
    "ahead by more than two chunks": (
        lambda h, y: F.mse_loss(h[:-9], y[9:]) if len(h) > 9 else h.sum() * 0,
        (2, 3, 4),
    ),
    "a window longer than two chunks": (_smooth_if_long(9), (1, 2, 3, 4)),
    "a window, of a sum": (_smooth_if_long(12, "sum"), (1, 3, 4, 5)),
    "a window, as a pair": (lambda h, y: (_smooth_if_long(9, "sum")(h, y), y.numel()), (1, 3, 4)),
    "some steps ahead": (_ahead(2), (3, 4, 5)),
    "ahead by more than a chunk": (_ahead(5), (4, 5)),
    "ahead, as a pair": (_ahead_as_pair, (3, 4, 5)),
    "by the number of steps": (_smooth, (2,)),
    "an if on the loss": (lambda h, y: a if (a := F.mse_loss(h, y)) < 9 else a / 2, (4,)),
    "an if on what is held fixed": (
        lambda h, y: a if (a := F.mse_loss(h, y)).detach() < 9 else a / 2,
        (4,),
    ),
    "Python's min": (lambda h, y: min(a := F.mse_loss(h, y), 0 * a + 9), (4,)),
    "two ifs": (lambda h, y: a if 0.1 < (a := F.mse_loss(h, y)) < 9 else a / 2, (4,)),
    "an if without gradients": (lambda h, y: F.mse_loss(h, y) * (1 if _large(h) < 2 else 2), (4,)),
    "an if on its number": (
        lambda h, y: F.mse_loss(h, y) * (1 if _large(h).item() > 0.01 else 2),
        (4,),
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_what_a_chunk_does_not_show_is_refused(name: str) -> None:
    read, sizes = UNSEEN[name]
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers()
    for run in (value_and_grad, value):
        for size in sizes:
            with pytest.raises(RevRNNError) as caught:
                run(model.rnn, x, y, read, embed=model.embed, chunk_size=size)
            assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", "readout")
            assert not gradients_of(model)


@pytest.mark.parametrize("size", [4, STEPS])
def test_a_loss_and_an_accuracy_are_no_sum_and_count(size: int) -> None:
    """Also where one chunk is the whole, of which a loss over an accuracy would be computed."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers()

    def read(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return F.mse_loss(h, y), (h > y).float().mean()

    with pytest.raises(RevRNNError, match="accuracy"):
        value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=size)


def _over(values: Tensor, keep: Tensor) -> Tensor:
    return (values * keep).sum() / keep.sum().clamp(min=1)


def _heads(h: Tensor, y: Tensor) -> Tensor:
    classes = torch.where(y[..., 0] > 1, -100, (y[..., 1] > 0).long())
    heads = torch.split(h, 3, dim=-1)
    one, other = (F.cross_entropy(head.flatten(0, 1), classes.flatten()) for head in heads)
    return one + other


def _ignored(y: Tensor) -> Tensor:
    return torch.where((y[..., 1] > 0.3) & (y[..., 1] < y[..., 1].amax(1, keepdim=True)), -100, 2)


def _penalised(h: Tensor, y: Tensor) -> Tensor:
    scores = h.tanh().square().sum(-1)
    (slopes,) = torch.autograd.grad(scores.sum(), h, create_graph=True)
    losses = (scores - y[..., 0]).square() + (slopes.norm(dim=-1) - 1).square()
    return torch.stack([each.mean() for each in losses]).mean()


def _warns(h: Tensor, y: Tensor) -> Tensor:
    loss = F.mse_loss(h, y)
    SEEN.append("large" if loss > 2 else "small")
    assert loss < 99
    return loss if torch.isfinite(loss) and loss > 0 else loss * 0


SEEN: list[str] = []
RIGHT: dict[str, Read] = {
    "asked for its shape": lambda h, y: F.mse_loss(h.reshape(-1, h.shape[-1]), y.view(-1, 6)),
    "as many rows as it knows": lambda h, y: F.mse_loss(h.view(len(h), ROWS, 6), y),
    "squeezed": lambda h, y: (h[..., 0].squeeze() - y[..., 0]).abs().mean() / h.shape[-1],
    "a helper, twice": lambda h, y: (
        _over((h - y).square().mean(-1), y[..., 0] > 0) + 0.5 * _over(h.mean(-1), y[..., 0] > 0)
    ),
    "a sum of several": lambda h, y: sum(
        WEIGHT[0, 1] * _over(part.square().mean(-1), y[..., 0] > 0) / 5 for part in (h, h - y)
    ),
    "added up in place": lambda h, y: functools.reduce(
        operator.iadd, [_over(part.abs().mean(-1), y[..., 0] > 0) for part in (h, h - y)]
    ),
    "two heads": lambda h, y: _heads(h, y) - 0.1 * _heads(h.flip(-1), y),
    "a loop over the steps": lambda h, y: sum(
        F.cross_entropy(one, of.argmax(-1)) for one, of in zip(h, y, strict=True)
    ),
    "a loop of what is not ignored": lambda h, y: sum(
        F.cross_entropy(h[at], _ignored(y)[at]) for at in range(len(h))
    ),
    "two of what is chosen": lambda h, y: (
        F.mse_loss(h[keep := y[..., 0] > 0], y[keep]) + 0.1 * h[keep].abs().mean()
    ),
    "a penalty on slopes": _penalised,
    "looked at": _warns,
}


def _whole(model: Model, x: Tensor, y: Tensor, read: Read) -> tuple[Tensor, dict[str, Tensor]]:
    made: Any = read(model.rnn(model.embed(x))[0], y)
    made.backward()
    return made.detach(), gradients_of(model)


@pytest.mark.parametrize("name", RIGHT)
def test_losses_of_applications_are_those_of_all_steps(name: str) -> None:
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers()
    loss, wanted = _whole(model, x, y, RIGHT[name])
    for size in (3, 4):
        step = value_and_grad(model.rnn, x, y, RIGHT[name], embed=model.embed, chunk_size=size)
        assert torch.allclose(step.loss, loss, rtol=1e-4)
        assert close(gradients_of(model), wanted)


def test_more_steps_are_tried_in_no_more_memory_than_a_chunk_takes() -> None:
    model, seen = Model(), list[tuple[int, ...]]()
    x, y = torch.randint(WORDS, (400, 16)), torch.randn(400, 16, 6)

    def read(h: Tensor, y: Tensor) -> Tensor:
        seen.append(tuple(h.shape))
        return F.mse_loss(h, y)

    value(model.rnn, x, y, read, embed=model.embed, chunk_size=20)
    assert max(steps for steps, *_ in seen) == 160
    assert max(steps * rows for steps, rows, _ in seen) == 20 * 16


@pytest.mark.parametrize("size", [2, 3, 4])
def test_what_embed_leaves_for_the_readout_is_that_of_its_chunk(size: int) -> None:
    """A step's cut of it would be broadcast, and seem to be mixed with others."""
    model, y, left = Model(), numbers(), list[Tensor]()
    x = torch.randint(WORDS, (STEPS, ROWS))

    def embed(x: Tensor) -> Tensor:
        left[:] = [model.embed(x)]
        return left[0]

    def read(h: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(h + left[0].mean(-1, keepdim=True), y)

    made: Any = read(model.rnn(embed(x))[0], y)
    made.backward()
    wanted = gradients_of(model)
    step = value_and_grad(model.rnn, x, y, read, embed=embed, chunk_size=size)
    assert torch.allclose(step.loss, made.detach(), rtol=1e-5)
    assert close(gradients_of(model), wanted)


def _einsum(h: Tensor) -> Tensor:
    return torch.einsum("tbh,hv->tbv", h, WEIGHT.to(h.dtype))


LOW: dict[str, Read] = {
    "products": lambda h, y: F.mse_loss(_einsum(h), y),
    "masked": lambda h, y: _over((_einsum(h) - y).square().mean(-1), y[..., 0] > 0),
    "chosen": lambda h, y: (_einsum(h)[y > 0] - y[y > 0]).square().mean(),
    "a pair": lambda h, y: ((_einsum(h) - y).square().sum(), y.numel()),
}


@pytest.mark.parametrize("name", LOW)
@pytest.mark.parametrize("how", ["autocast", "autocast inside", "bfloat16"])
def test_few_bits_are_no_reason_to_refuse(name: str, how: str) -> None:
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers()
    inside = torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast inside")
    wide = torch.linspace(-1, 1, model.rnn.input_size**2).cos().view(-1, model.rnn.input_size)

    def embed(x: Tensor) -> Tensor:
        made: Tensor = model.embed(x)
        with inside:
            return torch.einsum("tbi,io->tbo", made, wide.to(made.dtype)).to(made.dtype)

    def read(h: Tensor, y: Tensor) -> Any:
        with inside:
            return LOW[name](h, y)

    if how == "bfloat16":
        model, y = model.bfloat16(), y.bfloat16()
    made = read(model.rnn(embed(x))[0], y)
    loss = (made[0] / made[1] if isinstance(made, tuple) else made).detach().float()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        step = value_and_grad(model.rnn, x, y, read, embed=embed, chunk_size=4)
    assert torch.allclose(step.loss, loss, rtol=0.02)


def test_memory_that_runs_out_in_a_trial_is_no_fault_of_the_readout() -> None:
    model, x, y, calls = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers(), list[int]()

    def read(h: Tensor, y: Tensor) -> Tensor:
        calls.append(len(h))
        if len(calls) > 1:
            raise torch.OutOfMemoryError("no memory left")
        return F.mse_loss(_einsum(h), y)

    with pytest.raises(torch.OutOfMemoryError):
        value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=4)


@pytest.mark.parametrize("run", [value_and_grad, value])
def test_nothing_of_a_call_waits_for_the_garbage_collector(run: Any) -> None:
    """Inputs, and graphs of what was tried, would stay in memory for a while."""
    model, y = Model(), torch.randint(WORDS, (STEPS, ROWS))
    watched = list[Any]()

    def read(h: Tensor, y: Tensor) -> Tensor:
        watched.append(weakref.ref(h))
        return (F.cross_entropy(_einsum(h).flatten(0, 1), y.clamp(max=5).flatten()),)[0]

    readouts: list[Any] = [LinearCrossEntropy(nn.Linear(6, WORDS)), read]
    gc.collect()
    gc.disable()
    try:
        for readout in readouts:
            x = torch.randn(STEPS, ROWS, model.rnn.input_size)
            watched.append(weakref.ref(x))
            run(model.rnn, x, y, readout, embed=torch.tanh, chunk_size=4)
            del x
        assert len(watched) > 2
        assert [one() for one in watched] == [None] * len(watched)
    finally:
        gc.enable()
