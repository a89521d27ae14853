"""A readout's scalar is put together as what it is: a mean or a sum; or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import CHUNK, ROWS, STEPS, WORDS, Model
from torch import Tensor, nn
from torch.nn import functional
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import value, value_and_grad

Read = Callable[[Tensor, Tensor], Tensor]
WEIGHT = torch.linspace(0.2, 2, WORDS)


def numbers() -> Tensor:
    return torch.randn(STEPS, ROWS, 6, generator=torch.Generator().manual_seed(2))


def padded() -> Tensor:
    """Return classes; a chunk has none, another all, and others some."""
    targets = torch.randint(6, (STEPS, ROWS), generator=torch.Generator().manual_seed(3))
    targets[:4], targets[6:, 0], targets[9:11, 1] = -100, -100, -100
    return targets


def keep(y: Tensor) -> Tensor:
    return (y >= 0).float()


def each_loss(h: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(h.flatten(0, 1), y.clamp(min=0).flatten(), reduction="none")


def _added(h: Tensor, y: Tensor) -> Tensor:
    loss = (h - y).square().mean()
    loss += 0.5 * h.abs().mean()
    return loss


def _by_steps(h: Tensor, y: Tensor) -> Tensor:
    losses = [(h[t] - y[t]).square().mean() for t in range(len(h))]
    return torch.stack(losses).mean()


F = functional
NUMBERS: dict[str, Read] = {
    "mse": lambda h, y: F.mse_loss(h, y),
    "module": lambda h, y: nn.SmoothL1Loss(beta=0.5)(h, y),
    "bce": lambda h, y: F.binary_cross_entropy_with_logits(h, y.sigmoid(), pos_weight=WEIGHT[:6]),
    "kl": lambda h, y: F.kl_div(h.log_softmax(-1), y.softmax(-1), reduction="batchmean"),
    "gaussian": lambda h, y: F.gaussian_nll_loss(h, y, (0.1 * h).exp()),
    "cosine": lambda h, y: F.cosine_embedding_loss(
        h.flatten(0, 1), y.flatten(0, 1), torch.ones(h.shape[0] * h.shape[1])
    ),
    "sum": lambda h, y: F.mse_loss(h, y, reduction="sum"),
    "sum over rows": lambda h, y: F.mse_loss(h, y, reduction="sum") / h.shape[1],
    "sum over steps": lambda h, y: (h - y).square().sum((0, 2)).mean(),
    "sum over a known count": lambda h, y: (h - y).abs().sum() / torch.tensor(200.0),
    "mean, made by hand": lambda h, y: (h - y).abs().sum() / y.numel(),
    "over the targets' mean": lambda h, y: F.mse_loss(h, y) / y.square().mean().clamp(min=0.5),
    "over its own mean": lambda h, y: (a := (h - y).square()).mean() / a.detach().mean(),
    "two means": lambda h, y: F.mse_loss(h, y) + 0.1 * h.square().mean() - 3,
    "added in place": _added,
    "step by step": _by_steps,
    "batch first": lambda h, y: F.mse_loss(h.transpose(0, 1), y.transpose(0, 1)),
    "chunk's length": lambda h, y: F.mse_loss(h, y) * len(h),
    "einsum": lambda h, y: torch.einsum("tbh,tbh->", h, y),
}
CLASSES: dict[str, Read] = {
    "cross-entropy, scaled": lambda h, y: 2 * F.cross_entropy(h.flatten(0, 1), y.flatten()).float(),
    "weights below 0": lambda h, y: F.cross_entropy(
        h.flatten(0, 1), y.flatten(), -WEIGHT[:6], reduction="mean"
    ),
    "sum over count": lambda h, y: (each_loss(h, y) * keep(y).flatten()).sum() / keep(y).sum(),
    "sum over clamped count": lambda h, y: (h.sum(-1) * keep(y)).sum() / keep(y).sum().clamp(min=1),
    "sum over count and a bit": lambda h, y: (h.sum(-1) * keep(y)).sum() / (keep(y).sum() + 1e-8),
    "sum over two counts": lambda h, y: (
        (h.sum(-1) * keep(y)).sum() / (keep(y).sum() + (h > 0.1).sum())
    ),
    "sum over count and steps": lambda h, y: (
        (each_loss(h, y) * keep(y).flatten()).sum() / (keep(y).sum() + len(h))
    ),
    "mean over a mean": lambda h, y: (h.sum(-1) * keep(y)).mean() / (keep(y).mean() + 1e-6),
    "sum over a number": lambda h, y: (h.sum(-1) * keep(y)).sum() / max(1, int(keep(y).sum())),
    "mean of chosen": lambda h, y: h.sum(-1)[y >= 0].mean(),
    "mse of chosen": lambda h, y: F.mse_loss(h[y >= 0], h[y >= 0].detach() + 1),
    "chosen targets": lambda h, y: F.cross_entropy(h[y >= 0], y[y >= 0]),
    "masked sum over rows": lambda h, y: (h.sum(-1) * keep(y)).sum() / h.shape[1],
    "chosen or nothing": lambda h, y: (
        each_loss(h, y)[y.flatten() >= 0].mean() if (y >= 0).any() else h.sum() * 0
    ),
    "mean without NaN": lambda h, y: torch.where(y >= 0, h.sum(-1), float("nan")).nanmean(),
    "masked mean of each row": lambda h, y: (each_loss(h, y).view(y.shape) * keep(y)).mean(0).sum(),
    "a loss of a loss": lambda h, y: F.l1_loss(h.square().mean(), h.new_zeros(())),
    "margins": lambda h, y: F.multi_margin_loss(h.flatten(0, 1), y.clamp(min=0).flatten()),
}
CASES = [("numbers", name) for name in NUMBERS] + [("classes", name) for name in CLASSES]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_scalar_is_put_together_as_what_it_is(kind: str, name: str) -> None:
    read = (NUMBERS if kind == "numbers" else CLASSES)[name]
    y = numbers() if kind == "numbers" else padded()
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    loss: Any = read(model.rnn(model.embed(x))[0], y)
    loss.backward()
    wanted = gradients_of(model)
    step = value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)
    assert torch.allclose(step.loss, loss.detach(), rtol=1e-4)
    assert close(gradients_of(model), wanted)
    only = value(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)
    assert torch.allclose(only.loss, loss.detach(), rtol=1e-4)


@pytest.mark.parametrize("size", [1, STEPS - 1])
@pytest.mark.parametrize(
    "name", ["sum over count", "sum over clamped count", "mean of chosen", "cross-entropy, scaled"]
)
def test_counts_are_seen_in_chunks_of_one_step(name: str, size: int) -> None:
    model, x, y, read = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded(), CLASSES[name]
    wanted = read(model.rnn(model.embed(x))[0], y).detach()
    step = value(model.rnn, x, y, read, embed=model.embed, chunk_size=size)
    assert torch.allclose(step.loss, wanted, rtol=1e-4)


NEITHER: dict[str, Read] = {
    "a loss of a mean": lambda h, y: F.mse_loss(h.mean(), h.new_ones(())),
    "root": lambda h, y: F.mse_loss(h, y).sqrt(),
    "exponential": lambda h, y: F.mse_loss(9 * h, y).exp(),
    "last step": lambda h, y: (h[-1] - y[-1]).square().mean(),
    "differences": lambda h, y: (h[1:] - h[:-1]).square().mean(),
    "largest": lambda h, y: h.max(),
    "other power": lambda h, y: (h.sum(-1) * y.exp()[:, :, 0]).sum() / float(y.exp().sum()) ** 1.5,
    "scaled by what is kept": lambda h, y: F.mse_loss(h, y) * (y > 0).float().mean(),
    "over the steps": lambda h, y: ((h.softmax(0) - y).square()).sum() ** 2,
    "lengths of the whole": lambda h, y: F.ctc_loss(
        h.log_softmax(-1),
        torch.ones(ROWS, 2).long(),
        torch.full((ROWS,), len(h)),
        torch.full((ROWS,), 2),
    ),
    "one step": lambda h, y: h.norm(),
}


@pytest.mark.parametrize("name", NEITHER)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_what_is_neither_mean_nor_sum_is_refused(name: str) -> None:
    read, model, y = NEITHER[name], Model(), numbers()
    x = torch.randint(WORDS, (STEPS, ROWS))
    size = 1 if name == "one step" else CHUNK
    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError, match=r"readout: .*(count|chunk_size)") as caught:
            run(model.rnn, x, y, read, embed=model.embed, chunk_size=size)
        # The way back meets an infinite chunk first, the way forward two chunks with another mean.
        infinite = "lengths" in name and run is value_and_grad
        assert caught.value.code == ("E_NONFINITE" if infinite else "E_ARGUMENT")
        assert not gradients_of(model)
    # In one chunk any scalar is the loss of the whole.
    loss: Any = read(model.rnn(model.embed(x))[0], y)
    loss.backward()
    wanted = gradients_of(model)
    step = value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=STEPS)
    assert torch.allclose(step.loss, loss.detach(), rtol=1e-5)
    assert close(gradients_of(model), wanted)


GATED: dict[str, Read] = {
    "product": lambda h, y: each_loss(h, y).mean() * (y >= 0).any(),
    "choice": lambda h, y: torch.where((y >= 0).any(), each_loss(h, y).mean(), 0.0),
    "sum": lambda h, y: (y >= 0).any() * each_loss(h, y).sum(),
    "Python's if": lambda h, y: each_loss(h, y).mean() if (y >= 0).any() else 0 * h.sum(),
    "a constant": lambda h, y: each_loss(h, y).mean() if (y >= 0).any() else torch.zeros(()),
}


@pytest.mark.parametrize("name", GATED)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_a_loss_that_is_switched_off_for_a_chunk_is_refused(name: str) -> None:
    """Of all steps at once it would not be switched off."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded()
    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError, match=r"readout: .*0 for a chunk|readout: .*neither"):
            run(model.rnn, x, y, GATED[name], embed=model.embed, chunk_size=CHUNK)
        assert not gradients_of(model)


DETACHED: dict[str, Read] = {
    "one": lambda h, y: F.mse_loss(h, y) / F.mse_loss(h, y).detach(),
    "adapted": lambda h, y: (a := F.mse_loss(h, y)) + (b := h.square().mean()) * (a / b).detach(),
}


@pytest.mark.parametrize("run", [value_and_grad, value])
@pytest.mark.rule("ERR-003", "ERR-004")
def test_a_mean_over_what_counts_is_no_mean_beside_a_chunk_of_which_nothing_does(run: Any) -> None:
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded().clamp(min=0)
    y[:CHUNK] = -100

    def read(h: Tensor, y: Tensor) -> Tensor:
        kept = each_loss(h, y)[y.flatten() >= 0]
        return F.adaptive_avg_pool1d(kept[None], 1).squeeze() if len(kept) else h.sum() * 0

    with pytest.raises(RevRNNError, match=r"readout: got a loss (with|of several chunks)"):
        run(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)


@pytest.mark.parametrize("name", DETACHED)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_losses_of_chunks_held_fixed_are_refused(name: str) -> None:
    """Values add up, gradients do not."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers()
    with pytest.raises(RevRNNError, match=r"readout: .*detach") as caught:
        value_and_grad(model.rnn, x, y, DETACHED[name], embed=model.embed, chunk_size=CHUNK)
    assert caught.value.code == "E_ARGUMENT"
    value_and_grad(model.rnn, x, y, DETACHED[name], embed=model.embed, chunk_size=STEPS)


def test_one_chunk_may_have_any_loss() -> None:
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded()

    def read(h: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(h.flatten(0, 1), y.flatten()).exp()

    wanted = read(model.rnn(model.embed(x))[0], y).detach()
    step = value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=STEPS)
    assert torch.allclose(step.loss, wanted)


def test_parts_under_autocast_are_compared_without_it() -> None:
    """Numbers of 8 bits would pass a ratio for the mean of ratios."""
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    y = 1 + 0.01 * numbers().exp()

    def read(h: Tensor, y: Tensor) -> Tensor:
        losses: Tensor = model.linear(h).square().mean()
        return losses.add(9).mul(y.mean()).div(y.square().mean())

    with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(RevRNNError, match="readout"):
        value(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)


def test_a_step_of_which_nothing_counts_is_not_left_out_of_a_mean_over_steps() -> None:
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), padded()
    y[-1] = -100

    def read(h: Tensor, y: Tensor) -> Tensor:
        kept = (each_loss(h, y).view(y.shape) * keep(y)).sum(1) / keep(y).sum(1).clamp(min=1)
        return kept.mean()

    with pytest.raises(RevRNNError, match="one step does not show"):
        value(model.rnn, x[1:], y[1:], read, embed=model.embed, chunk_size=2)


def test_trying_parts_leaves_no_trace() -> None:
    """Neither in buffers of the readout nor in random numbers; what is a mean is read once."""
    model, x, y = Model(), torch.randint(WORDS, (STEPS, ROWS)), numbers()
    norm, calls = nn.BatchNorm1d(6), list[int]()

    def read(h: Tensor, y: Tensor) -> Tensor:
        calls.append(h.numel() // (ROWS * 6))
        return F.mse_loss(norm(h.flatten(0, 1)).view_as(h) * 0 + h, y)

    norm.train()
    value_and_grad(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)
    # BatchNorm leaves a doubt, which one chunk settles, or three of so few steps.
    assert calls == [2, 1, 1, 4, 1, 2, 1, 4, 1, 2, 1, 4]
    once = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.reset_running_stats()
    torch.manual_seed(5)
    value_and_grad(
        model.rnn,
        x,
        y,
        lambda h, y: torch.stack([read(h, y), torch.zeros(())]).sum(),
        embed=model.embed,
        chunk_size=CHUNK,
    )
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    # Of a mean that only parts show, each chunk is tried in three, and with the one before.
    assert len(calls) == 12 + 3 + 3 * 4 + 3 * 4
    assert all(torch.allclose(value, once[name]) for name, value in norm.state_dict().items())
