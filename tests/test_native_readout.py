"""The compiled readout gives what PyTorch's operations give, on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, engine, value, value_and_grad
from revrnn.torch_impl.native import engine as native
from revrnn.torch_impl.native import threads

tiles = pytest.importorskip("revrnn.native.tiles")
kernels = pytest.importorskip("revrnn.native.readout")
helpers = pytest.importorskip("revrnn.native.threads")
ROWS, UNITS, CLASSES = 35, 26, 83


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the compiled readout at every size, on every processor, with threads."""
    from revrnn.torch_impl.native import readout

    monkeypatch.setattr(native, "_LARGE", 1)
    monkeypatch.setattr(tiles, "AHEAD", True)
    monkeypatch.setattr(threads, "_WORTH", 1)
    monkeypatch.setattr(readout, "_LOGITS", 2 * CLASSES * kernels.ROWS)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(name: str, linear: nn.Linear, **settings: Any) -> tuple[Tensor, list[Tensor | None]]:
    """Return the loss and gradients of a small model by one engine."""
    torch.manual_seed(3)
    module, x = RevGRU(5, UNITS, max_forget_bits=2), torch.randn(7, ROWS, 5)
    targets = torch.randint(CLASSES, (7, ROWS))
    targets[2, :4] = targets[6] = settings.get("ignore_index", -100)
    readout = LinearCrossEntropy(linear, **settings)
    linear.zero_grad()
    with engine(name):
        step = value_and_grad(module, x, targets, readout, chunk_size=5, loss_scale=8.0)
        measured = value(module, x, targets, readout, chunk_size=5).loss
    torch.testing.assert_close(measured, step.loss, rtol=0, atol=0)
    return step.loss, [p.grad for p in (*module.parameters(), *linear.parameters())]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "class weights": {"weight": torch.linspace(0, 2, CLASSES)},
    "another number is ignored": {"ignore_index": 7},
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_eager_engine(case: str, bias: bool) -> None:
    """Losses and all gradients, of classes and rows that fill no panel."""
    torch.manual_seed(0)
    linear = nn.Linear(UNITS, CLASSES, bias=bias)
    wanted, gradients = trained("eager", linear, **CASES[case])
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append(trained("native", linear, **CASES[case]))
    for loss, others in results:
        assert torch.allclose(loss, wanted, rtol=1e-5)
        for a, b in zip(others, gradients, strict=True):
            assert a is not None
            assert b is not None
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(others, results[0][1], strict=True):
            assert torch.equal(a, b)  # type: ignore[arg-type]


def test_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests compare with is another computation."""
    linear, x = nn.Linear(UNITS, CLASSES), torch.zeros(3, UNITS)
    assert native.compiled_readout(linear, x) is not None
    with monkeypatch.context() as without:  # where compiled code has no threads
        without.setattr(helpers, "POSIX", False)
        for count in (1, 2):
            torch.set_num_threads(count)
            assert (native.compiled_readout(linear, x) is None) == (count == 2)
    assert native.compiled_readout(linear.double(), x.double()) is None
    with engine("eager"):
        assert native.compiled_readout(linear.float(), x) is None


def test_frozen_parameters_get_no_gradient() -> None:
    """A weight, a bias, or neither wants one."""
    torch.manual_seed(0)
    for weight, bias in ((False, True), (True, False), (False, False)):
        linear = nn.Linear(UNITS, CLASSES)
        linear.weight.requires_grad_(weight)
        linear.bias.requires_grad_(bias)
        _, gradients = trained("native", linear)
        assert [g is not None for g in gradients[-2:]] == [weight, bias]


def against_autograd(linear: nn.Linear, x: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return what the compiled readout gives beside PyTorch's: losses and gradients."""
    ones, parameters = torch.ones(len(x)), list(linear.parameters())
    of_weight, *of_bias = map(torch.zeros_like, parameters)
    compiled = native.compiled_readout(linear, x)
    added = of_bias[0] if of_bias else None
    losses, dx = compiled(linear, x, targets, ones, ones, of_weight, added)
    x = x.clone().requires_grad_()
    wanted = nn.functional.cross_entropy(linear(x), targets, reduction="none")
    grads = torch.autograd.grad(wanted.sum(), (x, *parameters))
    return [(losses, wanted.detach()), *zip((dx, of_weight, *of_bias), grads, strict=True)]


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_what_is_not_finite_stays_so(number: float) -> None:
    """In the bias: losses and gradients are finite where PyTorch's are."""
    torch.manual_seed(0)
    linear, x = nn.Linear(UNITS, CLASSES), torch.randn(ROWS, UNITS)
    with torch.no_grad():
        linear.bias[4] = number
    for got, wanted in against_autograd(linear, x, torch.randint(CLASSES, (ROWS,))):
        assert torch.equal(got.isfinite(), wanted.isfinite())


@pytest.mark.parametrize("name", ["eager", "native"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_losses_that_are_nan_are_refused(number: float, name: str) -> None:
    linear = nn.Linear(UNITS, CLASSES)
    with torch.no_grad():
        linear.bias[4] = number
    with pytest.raises(RevRNNError, match="readout: got NaN"):
        trained(name, linear)


def test_many_classes() -> None:
    """More than are handled together."""
    torch.manual_seed(0)
    linear, x = nn.Linear(UNITS, 1025), torch.randn(ROWS, UNITS)
    for got, wanted in against_autograd(linear, x, torch.arange(ROWS) * 29 + 38):
        assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_no_rows() -> None:
    """A part of a batch may be empty."""
    linear, x, ones = nn.Linear(UNITS, CLASSES), torch.empty(0, UNITS), torch.empty(0)
    of_weight = torch.ones(CLASSES, UNITS)
    compiled, targets = native.compiled_readout(linear, x), torch.empty(0, dtype=torch.long)
    losses, dx = compiled(linear, x, targets, ones, ones, of_weight, None)
    assert (losses.shape, dx.shape) == ((0,), (0, UNITS))
    assert (of_weight == 1).all()


def test_short_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the call says of it is an error in Python."""
    from revrnn.torch_impl.native import readout

    linear, x, ones = nn.Linear(UNITS, CLASSES), torch.zeros(ROWS, UNITS), torch.ones(ROWS)
    monkeypatch.setattr(readout, "read", lambda *told: False)
    with pytest.raises(MemoryError, match="readout"):
        readout.losses_and_gradients(linear, x, ones.long(), ones, None, None, None)


def test_logits_of_any_size() -> None:
    """Differences far beyond what exp can hold are 0 or 1."""
    linear = nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        linear.weight[:] = torch.tensor([[0.0], [-80.0], [-2e5]])
    x, targets = torch.tensor([[0.0], [0.5], [1.0], [-1.0]]), torch.tensor([0, 1, 2, 0])
    for got, wanted in against_autograd(linear, x, targets):
        assert torch.allclose(got, wanted)
