"""PyTorch where something fails in the middle of a call: all is done, or nothing has changed."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from revrnn.torch_impl import RevGRU, dropout, engine, value_and_grad

ENGINES = ("eager", "native")
POINTS = int(os.environ.get("REVRNN_FAULTS", "6"))


class Norm(nn.Module):
    """A layer with buffers that change and random numbers."""

    calls: Tensor

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.drop: nn.Module = nn.Dropout(0.2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        made: Tensor = self.drop(self.norm(x.flatten(0, 1)).view(x.shape))
        return made


class Setting:
    """A model, its data, and a call that trains it; always the same one.

    Attributes:
        trip: is called by embed and readout, forwards and back.
    """

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.embed = nn.Sequential(nn.Embedding(7, 4), Norm(nn.BatchNorm1d(4)))
        self.rnn = RevGRU(4, 4, num_layers=2, dropout=0.2, chunk_size=2, slice_size=2)
        self.read = nn.Sequential(Norm(nn.LayerNorm(4)), nn.Linear(4, 7))
        self.model = nn.ModuleList([self.embed, self.rnn, self.read])
        self.data = torch.randint(7, (6, 2))
        self.outer = nn.Linear(4, 4)
        self.model.append(self.outer)
        for number, parameter in enumerate(self.model.parameters()):
            if number % 3:  # some begin without a gradient
                parameter.grad = torch.randn_like(parameter)
        self.trip: Callable[[str], None] = lambda where: None
        # A hook that looks at the sum, and one of parts.
        self.seen: list[Tensor] = []
        weights: list[Any] = [self.rnn.weight_hh_l0, self.read[1].weight]
        weights[0].register_post_accumulate_grad_hook(self._after)
        weights[1].register_hook(lambda gradient: self.trip("hook of a parameter"))
        self.make_outer()

    def make_outer(self) -> None:
        """Make an outer graph, which can be gone through once."""
        self.offset = self.outer(torch.ones(1, 1, 4))
        self.offset.register_hook(lambda gradient: self.trip("outer graph"))

    def _after(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.seen.append(parameter.grad.clone())
        self.trip("after a gradient was added to")

    def embedded(self, tokens: Tensor) -> Tensor:
        made: Tensor = self.embed(tokens) + self.offset
        self.trip("embed")
        if made.requires_grad:
            made.register_hook(lambda gradient: self.trip("backward of embed"))  # type: ignore[no-untyped-call]
        return made

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = self.read(outputs)
        self.trip("readout")
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self.trip("backward of readout"))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def train(self) -> None:
        step = value_and_grad(
            self.rnn, self.data[:-1], self.data[1:], self.loss, embed=self.embedded
        )
        assert step.loss.isfinite()

    def everything(self, names: bool = True) -> list[Any]:
        """Return what a call may change; with ``names`` also which tensors these are."""
        parameters, buffers = list(self.model.parameters()), list(self.model.buffers())
        values: list[Any] = [None if p.grad is None else p.grad.clone() for p in parameters]
        values += [buffer.clone() for buffer in buffers]
        values.append(torch.get_rng_state())
        for module in self.model.modules():
            values.append((module.training, len(module._forward_hooks), len(module._buffers)))
        values += [len(p._backward_hooks or ()) for p in parameters]
        values += [signal.getsignal(signal.SIGINT), len(dropout._open.sequences)]
        values += [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
        if names:
            values += [id(p.grad) for p in parameters] + [id(buffer) for buffer in buffers]
        return values


def equal(a: list[Any], b: list[Any]) -> bool:
    """Say whether two sets of values are the same, bit for bit."""
    pairs = list(zip(a, b, strict=True))
    return all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x is y or x == y
        for x, y in pairs
        if not (isinstance(x, Tensor) ^ isinstance(y, Tensor))
    ) and not any(isinstance(x, Tensor) ^ isinstance(y, Tensor) for x, y in pairs)


@pytest.fixture(scope="module", params=ENGINES)
def wanted(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """What an undisturbed call leaves behind."""
    with engine(request.param):
        setting = Setting()
        setting.train()
        yield setting.everything(names=False)


def gradient_of(rnn: Any) -> Tensor:
    """Return the gradient of a parameter that has one."""
    gradient: Tensor = rnn.weight_hh_l0.grad
    return gradient


def check(wanted: list[Any], setting: Setting, before: list[Any], where: object) -> None:
    """Fail unless a call is done, or has changed nothing and is done when called again."""
    if not equal(setting.everything(names=False), wanted):
        assert equal(setting.everything(), before), where
        setting.trip = lambda where: None
        setting.make_outer()
        setting.train()
        assert equal(setting.everything(names=False), wanted), where


PLACES = {
    "embed": 6,
    "readout": 3,
    "backward of embed": 3,
    "backward of readout": 3,
    "hook of a parameter": 1,
    "after a gradient was added to": 1,
    "outer graph": 1,
}
FAULTS = (ValueError, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt)


@pytest.mark.parametrize("place", PLACES)
def test_the_callers_functions_fail(place: str, wanted: list[Any]) -> None:
    """Wherever and in whatever way: forwards, again, in autograd, in hooks."""
    for number in range(PLACES[place]):
        setting, calls = Setting(), 0
        fault = FAULTS[number % 4] if place != "embed" else FAULTS[(number + 1) % 4]

        def trip(where: str, last: int = number, fault: Any = fault) -> None:
            nonlocal calls
            calls += where == place
            if where == place and calls > last:
                raise fault("here")

        setting.trip, before = trip, setting.everything()
        with pytest.raises(fault, match="here"):
            setting.train()
        assert equal(setting.everything(), before), (place, number)
        setting.seen.clear()
        check(wanted, setting, before, (place, number))
        assert torch.equal(setting.seen[-1], gradient_of(setting.rnn))


class OutOfMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Memory runs out in an operation."""

    def __init__(self, at: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left = at

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left == 0:
            raise torch.OutOfMemoryError("no memory left")
        return func(*args, **(kwargs or {}))


@contextmanager
def interrupt(at: int) -> Iterator[list[int]]:
    """Have a real SIGINT come at a call of a Python function; give how many are left till then."""
    left = [at]

    def listen(frame: FrameType, event: str, argument: object) -> None:
        left[0] -= event == "call"
        if event == "call" and left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    # A process that a shell started in the background ignores SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.setprofile(listen)
    try:
        yield left
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, handler)


def test_memory_runs_out_anywhere(wanted: list[Any]) -> None:
    never, setting = 10**9, Setting()
    with OutOfMemory(never) as mode:
        setting.train()
    total, generator = never - mode.left, random.Random(5)
    # And at the end, where gradients are added to what was there.
    for at in [*generator.sample(range(1, total), POINTS), *range(total - 6, total + 1)]:
        setting = Setting()
        before = setting.everything()
        with pytest.raises(torch.OutOfMemoryError), OutOfMemory(at):
            setting.train()
        check(wanted, setting, before, at)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_control_c_anywhere(wanted: list[Any]) -> None:
    never, stopped = 10**9, 0
    for _ in range(2):  # the first time more is called
        setting = Setting()
        with interrupt(never) as left:
            setting.train()
    total, generator = never - left[0], random.Random(6)
    for at in generator.sample(range(1, total), POINTS):
        setting = Setting()
        before = setting.everything()
        try:
            with interrupt(at):
                setting.train()
        except KeyboardInterrupt:
            stopped += 1
        check(wanted, setting, before, at)
    # Python passes over those that come while it lets go of an object.
    assert stopped > POINTS // 2


def test_a_backward_pass_that_failed_is_not_gone_on_with() -> None:
    """Its states are half-way back: a second one begins anew."""
    rnn = RevGRU(3, 4, chunk_size=2)
    x = torch.randn(6, 2, 3)
    total = rnn(x)[0].sum()
    with pytest.raises(torch.OutOfMemoryError), OutOfMemory(20):
        total.backward(retain_graph=True)
    assert rnn.weight_hh_l0.grad is None
    total.backward()
    first = gradient_of(rnn).clone()
    rnn.zero_grad()
    rnn(x)[0].sum().backward()
    assert torch.equal(first, gradient_of(rnn))


def test_gradients_of_all_kinds_are_added_to() -> None:
    """Sparse and dense ones, with and without an old one, as a plain backward pass adds them."""
    table: Any = nn.Embedding(7, 4, sparse=True)
    rnn: Any = RevGRU(4, 4, chunk_size=2)
    data = torch.randint(7, (5, 2))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.square().mean()

    def embed(tokens: Tensor) -> Tensor:
        made: Tensor = table(tokens) * 1.0
        return made

    for _ in range(2):
        value_and_grad(rnn, data, data, loss, embed=embed)
    twice = [table.weight.grad.to_dense(), rnn.weight_ih_l0.grad]
    held = rnn.weight_ih_l0.grad
    table.weight.grad = rnn.weight_ih_l0.grad = None
    value_and_grad(rnn, data, data, loss, embed=embed)
    once = [table.weight.grad.to_dense(), rnn.weight_ih_l0.grad]
    assert all(torch.equal(a, 2 * b) for a, b in zip(twice, once, strict=True))
    rnn.weight_ih_l0.grad = held
    value_and_grad(rnn, data, data, loss, embed=embed)
    assert rnn.weight_ih_l0.grad is held
    table.sparse = False  # from now on they are dense, beside a sparse one
    value_and_grad(rnn, data, data, loss, embed=embed)
    assert torch.allclose(table.weight.grad, 3 * once[0])
