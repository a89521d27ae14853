"""The handlers by which XLA packs a stack's weights, without XLA: what PyTorch's engine packs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from mutation.fenced import FencedNumPy
from xla_frames import Array, Error, Frame

from revrnn import Config
from revrnn.native import weights_handlers
from revrnn.native.compiling import callback
from revrnn.native.sums import NORMS
from revrnn.torch_impl.native.weights import Weights

fenced = FencedNumPy()
REFUSED = Error(13, "revrnn: a call frame is not as its kernels expect it")
STACKS = {
    "revgru": Config("revgru", 3, 6, num_layers=3),
    "revlstm": Config("revlstm", 5, 4, num_layers=2),
    "one layer": Config("revgru", 4, 2),
}
stacks = pytest.mark.parametrize("name", STACKS)
both = pytest.mark.parametrize("gradients", [False, True], ids=["for sums", "for gradients"])


@cache
def handler(gradients: bool) -> Any:
    """Return a handler, compiled, that lives as long as the process."""
    return callback(weights_handlers.handler(gradients))


def drawn(config: Config) -> dict[str, Array]:
    """Return parameters with numbers of all sizes; the last layer has no biases."""
    generator, made = np.random.default_rng(0), dict[str, Array]()
    for name, shape in config.parameter_shapes().items():
        if name.startswith("bias"):
            most = 0 if name == f"bias_l{config.num_layers - 1}" else 2**30
            made[name] = generator.integers(-most, most // 2 + 1, shape, np.int32)
        else:
            largest = generator.choice([3, 2**9, 32512], (shape[0], 1))
            made[name] = generator.integers(-largest, largest + 1, shape).astype(np.int16)
    return made


def arrays(config: Config, gradients: bool) -> tuple[list[Array], list[Array], list[Array]]:
    """Return a call's arguments, its results before it is made, and those that are due."""
    params, layers = drawn(config), range(config.num_layers)
    inputs = [params[f"weight_ih_l{k}"] for k in layers]
    none = np.zeros((0, len(inputs[0]), config.hidden_size), np.int16)
    given = [inputs[0], np.stack(inputs[1:]) if inputs[1:] else none]
    given.append(np.stack([params[f"weight_hh_l{k}"] for k in layers]))
    weights = Weights(config, {name: torch.from_numpy(v) for name, v in params.items()})
    stack = weights.stack
    if gradients:
        given.append(np.full(1, 2.0**-config.formats.weight_bits, np.float32))
        due = [weights.of_input, *weights.floats]
    else:
        given.append(stack.bias)
        no_u = np.zeros((0, 2, 0), np.int16)
        w_u = no_u if weights.w_u is None else weights.w_u
        due = [stack.w_x, stack.w_l, stack.w_h, w_u, stack.norms]
        assert stack.norms.shape == (config.num_layers, NORMS)
    made = [fenced.empty(array.shape, array.dtype) for array in due]
    return [fenced.copy_of(array, array.dtype) for array in given], made, due


@pytest.mark.rule("PROD-001", "GRAD-020")
@stacks
@both
def test_weights_are_those_of_the_other_engine(name: str, gradients: bool) -> None:
    """By layer and group, what a product sees of a state apart from a candidate's."""
    given, made, due = arrays(STACKS[name], gradients)
    assert Frame(given, made).call(handler(gradients).address) is None
    for got, wanted in zip(made, due, strict=True):
        np.testing.assert_array_equal(got, wanted)


@both
def test_each_array_of_weights_is_looked_at(gradients: bool) -> None:
    """Its type, the number of its axes, and how many there are."""
    given, made, _ = arrays(STACKS["one layer"], gradients)
    before = [array.copy() for array in made]
    for side in ("given", "made"):
        for n in range(len(given if side == "given" else made)):
            for field in ("dtype", "rank"):
                for by in (1, -1):
                    frame = Frame(given, made)
                    buffer = getattr(frame, side)[n]
                    setattr(buffer, field, getattr(buffer, field) + by)
                    assert frame.call(handler(gradients).address) == REFUSED, (side, n, field)
    for less in (Frame(given[:-1], made), Frame(given, made[:-1]), Frame([*given, given[0]], made)):
        assert less.call(handler(gradients).address) == REFUSED
    for was, array in zip(before, made, strict=True):
        np.testing.assert_array_equal(was, array)


@both
def test_weights_handlers_say_their_version(gradients: bool) -> None:
    """Asked for it, they do nothing else: there is no array to look at."""
    version = Frame([], []).metadata(handler(gradients).address).version
    assert (version.major, version.minor) == (0, 1)
