"""Calls outside ``jit`` are compiled once, and see what has changed all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from revrnn import Config
from revrnn.jax_impl import apply, encode, evaluate_programs, init, value, value_and_grad

CONFIG = Config("revgru", 3, 4, max_forget_bits=3, slice_size=1)
PARAMS = init(jax.random.key(0), CONFIG)
X = jax.random.normal(jax.random.key(1), (5, 2, 3))
OUTER = {"scale": jnp.float32(2)}
Tree = Any

_compiled: list[str] = []


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event.endswith("backend_compile_duration"):
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture
def compiled() -> list[str]:
    """What is compiled from now on."""
    _compiled.clear()
    return _compiled


class Model:
    """A user's object, whose numbers change between calls."""

    shift: Any = 1.0
    weight = jnp.ones(4)

    def embed(self, outer: Tree, x: jax.Array) -> jax.Array:
        moved: jax.Array = x * outer["scale"] + self.shift
        return moved

    def readout(self, outer: Tree, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        loss: jax.Array = ((outputs @ self.weight - targets) ** 2).mean() * outer["scale"]
        return loss

    def loss(self, x: jax.Array, function: Callable[..., Any] = value) -> jax.Array:
        first: Any = PARAMS, OUTER, x, x[:, :, 0], CONFIG
        out = function(*first, readout=self.readout, embed=self.embed, chunk_size=3)
        loss: jax.Array = out.loss
        return loss


@pytest.mark.parametrize("on_mesh", [False, True])
def test_what_changes_is_seen_and_nothing_is_compiled_again(
    on_mesh: bool, compiled: list[str]
) -> None:
    x, model = X, Model()
    if on_mesh:
        mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
        x = jax.device_put(X, NamedSharding(mesh, PartitionSpec(None, "data")))
    first, doubled = float(model.loss(x)), 2 * Model.weight
    compiled.clear()
    assert float(model.loss(x)) == first
    assert not compiled
    model.weight = doubled
    changed = float(model.loss(x))
    assert changed != first
    if not on_mesh:
        assert not compiled
        # A number of Python's is a part of the program.
        model.shift = 0.5
        by_program = float(model.loss(x))
        model.shift = jnp.float32(0.5)
        assert by_program == float(model.loss(x)) != first


def test_an_encoder_is_compiled_once(compiled: list[str]) -> None:
    model = Model()
    first = encode(PARAMS, OUTER, X, CONFIG, embed=model.embed, chunk_size=3)
    compiled.clear()
    again = encode(PARAMS, OUTER, X, CONFIG, embed=model.embed, chunk_size=3)
    assert not compiled
    assert again.state == first.state


def test_functions_of_the_host_are_those_of_the_call() -> None:
    like = jax.ShapeDtypeStruct((5, 2, 3), jnp.float32)

    def end(factor: float) -> Any:
        def embed(_: Tree, x: jax.Array) -> Any:
            return jax.pure_callback(lambda x: np.float32(factor) * np.asarray(x), like, x)

        return encode(PARAMS, OUTER, X, CONFIG, embed=embed).state

    assert end(1.0) == encode(PARAMS, OUTER, X, CONFIG).state != end(2.0)


def test_outer_transformations_see_through() -> None:
    """What functions close over has its gradient, though the arguments are plain arrays."""

    def loss(shift: jax.Array) -> jax.Array:
        model = Model()
        model.shift = shift
        return model.loss(X, value_and_grad)

    at, little = jnp.float32(1), jnp.float32(0.02)
    near = (loss(at + little) - loss(at - little)) / (2 * little)
    np.testing.assert_allclose(jax.grad(loss)(at), near, rtol=0.1)


@pytest.mark.parametrize(("steps", "programs"), [(70, 1), (71, 2), (16, 1), (0, 0)])
def test_chunks_leave_no_rest_where_they_need_not(steps: int, programs: int) -> None:
    """A rest of a chunk is compiled as a program of its own."""
    x = jnp.zeros((steps, 1, 3))
    text = jax.jit(lambda x: apply(PARAMS, x, CONFIG).outputs).lower(x).as_text()
    assert text.count("@revrnn_advance") == programs


def test_options_that_this_xla_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, options = evaluate_programs.QUICKLY, evaluate_programs.known_options
    options.cache_clear()
    known = options()
    options.cache_clear()
    monkeypatch.setattr(evaluate_programs, "QUICKLY", {**usual, "xla_gone": False})
    try:
        assert options() == known
        twice = evaluate_programs.quick_jit(lambda x: 2 * x)
        assert int(twice(jnp.int32(3))) == 6
    finally:
        options.cache_clear()
