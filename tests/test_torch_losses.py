"""The loss of a sequence by chunks is the loss of the whole sequence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, value, value_and_grad

STEPS, ROWS, WORDS, CHUNK = 14, 3, 11, 4


class Model(nn.Module):
    """Embedding, stack and linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.rnn = nn.Embedding(WORDS, 4), RevGRU(4, 6)
        self.linear = nn.Linear(6, WORDS)


def _targets(kind: str) -> Tensor:
    torch.manual_seed(1)
    targets = torch.randint(WORDS, (STEPS, ROWS))
    if kind == "padded":  # chunks without any target, and with some
        targets[6:, 0], targets[7:, 1], targets[3:, 2] = -100, -100, -100
    if kind == "nothing":
        targets[:] = -100
    if kind == "probabilities":
        return torch.rand(STEPS, ROWS, WORDS).softmax(-1)
    return targets


WEIGHT = torch.linspace(0.2, 2, WORDS)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "weight": {"weight": WEIGHT},
    "smoothing": {"label_smoothing": 0.2},
    "weight and smoothing": {"weight": WEIGHT, "label_smoothing": 0.2},
    "index": {"ignore_index": 3, "weight": WEIGHT},
}
KINDS = ("full", "padded", "nothing", "probabilities")


def whole(
    model: Model, x: Tensor, y: Tensor, options: dict[str, Any], scale: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what PyTorch gives of all steps at once."""
    logits = model.linear(model.rnn(model.embed(x))[0])
    flat = y.flatten(0, 1)
    loss = functional.cross_entropy(logits.flatten(0, 1), flat, **options)
    (loss * scale).backward()  # type: ignore[no-untyped-call]
    return loss.detach(), gradients_of(model)


def readouts(model: Model, options: dict[str, Any]) -> dict[str, Callable[[Tensor, Tensor], Any]]:
    """Return readouts that all mean the same."""
    cross = LinearCrossEntropy(model.linear, **options)

    def closure(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = model.linear(outputs)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), **options)

    class Own(LinearCrossEntropy):
        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().forward(outputs, targets) * 1.0

    hooked = LinearCrossEntropy(model.linear, **options)
    hooked.register_forward_hook(lambda module, given, made: made + 0)
    return {
        "known": cross,
        "closure": closure,
        "subclass": Own(model.linear, **options),
        "hooked": hooked,
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    # PyTorch ignores no probabilities.
    [(n, k) for n in OPTIONS for k in KINDS if (n, k) != ("index", "probabilities")],
)
def test_loss_and_gradients_are_those_of_cross_entropy(name: str, kind: str) -> None:
    options, y, model = OPTIONS[name], _targets(kind), Model()
    x = torch.randint(WORDS, (STEPS, ROWS))
    if name == "index":
        y = torch.where(y == -100, 3, y)
    loss, wanted = whole(model, x, y, options, 3.0)
    for read in readouts(model, options).values():
        known = isinstance(read, LinearCrossEntropy)
        plain: dict[str, Any] = {"reduction": options.get("reduction", "mean")} if not known else {}
        streamed = value_and_grad(
            model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK, loss_scale=3.0, **plain
        )
        assert torch.allclose(streamed.loss, loss, rtol=1e-5, equal_nan=True)
        assert close(gradients_of(model), wanted)
        only = value(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK, **plain)
        assert torch.allclose(only.loss, loss, rtol=1e-5, equal_nan=True)
    if kind == "nothing" and options.get("reduction") != "sum":
        assert loss.isnan()
        assert all(not g.any() for g in wanted.values())


def test_a_sum_is_asked_for_in_either_place() -> None:
    model, y = Model(), _targets("padded")
    x = torch.randint(WORDS, (STEPS, ROWS))
    loss, wanted = whole(model, x, y, {"reduction": "sum"})
    for inner, outer in (("sum", "mean"), ("mean", "sum"), ("sum", "sum")):
        for read in (
            LinearCrossEntropy(model.linear, reduction=inner),
            LinearCrossEntropy(nn.Sequential(model.linear), reduction=inner),  # the long way
        ):
            streamed = value_and_grad(
                model.rnn, x, y, read, embed=model.embed, reduction=outer, chunk_size=CHUNK
            )
            assert torch.allclose(streamed.loss, loss, rtol=1e-5)
            assert close(gradients_of(model), wanted)


@pytest.mark.parametrize("as_number", [True, False])
def test_own_readouts_say_how_much_a_chunk_weighs(as_number: bool) -> None:
    """Sum and count, with a scale, and added to gradients that are there already."""
    model, x = Model(), torch.randint(WORDS, (STEPS, ROWS))
    y = torch.randn(STEPS, ROWS)
    keep = torch.rand(STEPS, ROWS) < 0.3
    keep[4:8] = False
    pairs = torch.stack([y, keep.float()], 2)

    def own(outputs: Tensor, part: Tensor) -> tuple[Tensor, Tensor | float]:
        y, keep = part.unbind(2)
        count = keep.sum()
        losses = (model.linear(outputs)[:, :, 0] - y).square() * keep
        return losses.sum(), float(count) if as_number else count

    total, count = own(model.rnn(model.embed(x))[0], pairs)
    loss: Any = total / count
    (2 * loss).backward()
    wanted = gradients_of(model)
    before = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.grad = before[name].clone()
    streamed = value_and_grad(
        model.rnn, x, pairs, own, embed=model.embed, chunk_size=CHUNK, loss_scale=2.0
    )
    assert torch.allclose(streamed.loss, loss, rtol=1e-5)
    assert close(gradients_of(model), {n: g + before[n] for n, g in wanted.items()})
    only = value(model.rnn, x, pairs, own, embed=model.embed, chunk_size=CHUNK)
    assert torch.allclose(only.loss, loss, rtol=1e-5)
    summed = value(model.rnn, x, pairs, own, embed=model.embed, reduction="sum")
    assert torch.allclose(summed.loss, total, rtol=1e-5)


def test_masked_steps_count_unless_ignored() -> None:
    model, y = Model(), _targets("padded")
    x = torch.randint(WORDS, (STEPS, ROWS))
    mask = y != -100
    logits = model.linear(model.rnn(model.embed(x), mask=mask)[0])
    for targets in (y, y.clamp(min=0)):
        wanted = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        streamed = value(
            model.rnn, x, targets, LinearCrossEntropy(model.linear), embed=model.embed, mask=mask
        )
        assert torch.allclose(streamed.loss, wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_as_near_the_truth_as_pytorchs(dtype: torch.dtype) -> None:
    steps, classes = 64, 50
    torch.manual_seed(0)
    rnn, linear = RevGRU(8, 16), nn.Linear(16, classes)
    nn.init.normal_(linear.weight)
    x, y = torch.randn(steps, 8, 8), torch.randint(classes, (steps, 8))
    outputs = rnn.to(dtype)(x.to(dtype))[0].detach()
    errors = []

    def gradients(part: nn.Linear) -> list[Tensor]:
        return [p.grad.double() for p in part.parameters() if p.grad is not None]

    truth = copy.deepcopy(linear).to(dtype).double()
    functional.cross_entropy(truth(outputs.double()).flatten(0, 1), y.flatten()).backward()  # type: ignore[no-untyped-call]
    own, other = copy.deepcopy(linear).to(dtype), copy.deepcopy(linear).to(dtype)
    functional.cross_entropy(own(outputs).flatten(0, 1), y.flatten()).backward()  # type: ignore[no-untyped-call]
    streamed = value_and_grad(rnn, x.to(dtype), y, LinearCrossEntropy(other))
    for part in (own, other):
        wanted = gradients(truth)
        errors.append(
            max(
                float((a - b).norm() / b.norm())
                for a, b in zip(gradients(part), wanted, strict=True)
            )
        )
    assert streamed.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert errors[1] <= max(1.2 * errors[0], 1e-6)


def test_loss_in_float32_under_autocast() -> None:
    model, y = Model(), _targets("padded")
    x = torch.randint(WORDS, (STEPS, ROWS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, wanted = whole(model, x, y, {})
        streamed = value_and_grad(
            model.rnn,
            x,
            y,
            LinearCrossEntropy(model.linear),
            embed=nn.Sequential(model.embed),
            chunk_size=CHUNK,
        )
    assert streamed.loss.dtype == torch.float32
    assert torch.allclose(streamed.loss, loss, rtol=1e-2)
    gradients = gradients_of(model)
    assert set(gradients) == set(wanted)
    for name, g in gradients.items():
        assert (g - wanted[name]).abs().max() <= 0.05 * wanted[name].abs().max()


def _layer_of_nan() -> nn.Linear:
    layer = nn.Linear(6, 6)
    nn.init.constant_(layer.weight, float("nan"))
    return layer


Loss = Callable[[Tensor, Tensor], Any]
BAD_LOSSES: dict[str, tuple[Loss, str, str]] = {
    "NaN": (lambda h, y: h.mean() * float("nan"), "E_NONFINITE", "count"),
    "NaN as a sum": (lambda h, y: ((h * 0 - 1).log().sum(), y.numel()), "E_NONFINITE", "sum"),
    "NaN of logits": (
        lambda h, y: functional.cross_entropy((h * float("nan")).flatten(0, 1), y.flatten()),
        "E_NONFINITE",
        "sum",
    ),
    "NaN of a layer": (LinearCrossEntropy(_layer_of_nan()), "E_NONFINITE", "sum"),
    "part of a loss": (
        lambda h, y: functional.cross_entropy(h.flatten(0, 1), y.flatten()) + h.mean(),
        "E_ARGUMENT",
        "count",
    ),
    "weights in part": (
        lambda h, y: (
            functional.nll_loss(
                h.flatten(0, 1).log_softmax(1), y.clamp(min=0).flatten(), torch.arange(1.0, 7.0)
            )
            + h.mean()
        ),
        "E_ARGUMENT",
        "count",
    ),
    "mean and number": (lambda h, y: (h.mean(), 1), "E_ARGUMENT", "a mean in"),
    "mean and steps": (lambda h, y: (h.square().mean(), len(h)), "E_ARGUMENT", "a mean in"),
    "loss and share": (
        lambda h, y: (h.square().sum(), (h > 0).float().mean()),
        "E_ARGUMENT",
        "a mean in",
    ),
    "no scalar": (lambda h, y: h.sum(2), "E_SHAPE", "scalar"),
    "a number": (lambda h, y: 1.0, "E_SHAPE", "float"),
    "nothing of few": (lambda h, y: h.sum() if len(h) > 2 else None, "E_SHAPE", "None"),
    "three": (lambda h, y: (h.sum(), 1, 2), "E_SHAPE", "3"),
    "count": (lambda h, y: (h.sum(), "1"), "E_ARGUMENT", "str"),
    "negative": (lambda h, y: (h.sum(), -1), "E_ARGUMENT", "-1"),
    "both": (lambda h, y: (h.sum(), 1) if len(h) > 2 else h.sum(), "E_ARGUMENT", "every chunk"),
}


@pytest.mark.parametrize("case", BAD_LOSSES)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_what_cannot_be_put_together_is_said(case: str) -> None:
    """Also after chunks that went well, and no gradient has been touched."""
    read, code, text = BAD_LOSSES[case]
    model, y = Model(), _targets("padded").clamp(max=5)
    x = torch.randint(WORDS, (STEPS, ROWS))
    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError, match=text) as caught:
            run(model.rnn, x, y, read, embed=model.embed, chunk_size=CHUNK)
        assert (caught.value.code, caught.value.argument) == (code, "readout")
        assert not gradients_of(model)
