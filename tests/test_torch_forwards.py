"""Modules whose ``forward`` a library has set: taken where it is still that of their class."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_torch_outer_graph import Model, _data
from torch import nn
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, value, value_and_grad
from revrnn.torch_impl.shortcuts import is_plain_linear


@pytest.fixture
def accelerator() -> Iterator[Any]:
    pytest.importorskip("accelerate")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(reset_partial_state=True)


def _hooked(accelerator: Any, rnn: nn.Module) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

    add_hook_to_module(rnn, ModelHook())
    remove_hook_from_module(rnn)


# What leaves a forward on a module that is that of its class, or that under autocast.
TAKEN: dict[str, Callable[[Any, Any], object]] = {
    "prepared": lambda accelerator, rnn: accelerator.prepare(rnn),
    "prepared twice": lambda accelerator, rnn: accelerator.prepare(accelerator.prepare(rnn)),
    "unwrapped": lambda accelerator, rnn: accelerator.unwrap_model(
        accelerator.prepare(rnn), keep_fp32_wrapper=False
    ),
    "hooked before": _hooked,
    "its own": lambda _, rnn: setattr(rnn, "forward", rnn.forward),
}


@pytest.mark.parametrize("way", TAKEN)
def test_forwards_that_are_those_of_the_class_are_taken(way: str, accelerator: Any) -> None:
    model, (x, y, _) = Model(), _data()
    cross = LinearCrossEntropy(model.linear)
    for module in (model.rnn, model.linear):
        TAKEN[way](accelerator, module)
        assert "forward" in module.__dict__
    assert is_plain_linear(model.linear) == ("prepared" not in way)  # the short cut's condition
    loss: Any = cross(model.rnn(model.embed(x))[0], y)
    loss.backward()
    wanted = gradients_of(model)
    made = value_and_grad(model.rnn, x, y, cross, embed=model.embed)
    assert torch.allclose(made.loss, loss)
    assert close(gradients_of(model), wanted)


def _doubled(rnn: Any) -> None:
    before = rnn.forward

    @functools.wraps(before)
    def forward(*given: Any) -> Any:
        return before(2 * given[0])

    rnn.forward = forward


def _with_a_hook(rnn: Any) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module

    add_hook_to_module(rnn, ModelHook())


# Forwards that compute, or may compute, something else; and what the message says.
REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "around": (_doubled, "a forward of its own"),
    "of another": (lambda rnn: setattr(rnn, "forward", RevGRU(4, 6).forward), "of its own"),
    "no gradients": (lambda rnn: setattr(rnn, "forward", torch.no_grad()(rnn.forward)), "own"),
    "a hook": (_with_a_hook, "remove_hook_from_module"),
}


@pytest.mark.parametrize("way", REFUSED)
def test_other_forwards_are_refused(way: str, accelerator: Any) -> None:
    change, said = REFUSED[way]
    model, (x, y, _) = Model(), _data()
    if way == "around":  # what wraps a function takes over its attributes
        accelerator.prepare(model.rnn)
    change(model.rnn)
    with pytest.raises(RevRNNError, match=said) as caught:
        value(model.rnn, x, y, model.read, embed=model.embed)
    assert (caught.value.code, caught.value.argument) == ("E_UNSUPPORTED", "module")


def test_results_of_calls_are_loaded_without_trust() -> None:
    model, (x, y, _) = Model(), _data()
    rnn = RevGRU(4, 6, slice_size=2)
    streamed = value_and_grad(model.rnn, x, y, model.read, embed=model.embed, report=True)
    encoded = rnn.encode(model.embed(x))
    file = io.BytesIO()
    torch.save((streamed, encoded), file)
    file.seek(0)
    loaded, other = torch.load(file, weights_only=True)
    assert (loaded.state, loaded.report) == (streamed.state, streamed.report)
    assert torch.equal(loaded.loss, streamed.loss)
    assert encoded.context is not None
    assert torch.equal(other.context, encoded.context)
