"""JAX where something fails in the middle: the next call gives what a first one gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from revrnn import Config
from revrnn.jax_impl import flax as modules
from revrnn.jax_impl import init, initial_state, value_and_grad

CONFIG = Config("revgru", 3, 4, max_forget_bits=3)
TOKENS = np.random.default_rng(0).integers(5, size=(7, 2))
OUTER = {"table": np.linspace(-1, 1, 15, dtype="f").reshape(5, 3), "read": np.ones((4, 5), "f")}
FAULTS = (ValueError, MemoryError, KeyboardInterrupt)


class Setting:
    """A call that trains; ``trip`` is called by embed and readout, while they are traced."""

    def __init__(self) -> None:
        self.trip: Callable[[str], None] = lambda where: None
        self.params = init(jax.random.key(0), CONFIG)
        self.fails = np.zeros((), np.bool_)

    def embed(self, outer: Any, tokens: jax.Array) -> jax.Array:
        self.trip("embed")
        made: jax.Array = outer["table"][tokens]
        return made

    def readout(self, outer: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        self.trip("readout")
        logits = jax.nn.log_softmax(outputs @ outer["read"])
        return -jnp.take_along_axis(logits, targets[..., None], -1).mean()

    def gradients(self, params: Any, outer: Any) -> Any:
        step = value_and_grad(
            params,
            outer,
            TOKENS[:-1],
            TOKENS[1:],
            CONFIG,
            embed=self.embed,
            readout=self.readout,
            state=initial_state(CONFIG, 2),
            chunk_size=3,
        )
        return step.loss, step.grads, step.state.h


def settings() -> list[Any]:
    """Return what a call must not leave otherwise."""
    config = jax.config
    names = ("jax_enable_x64", "jax_numpy_rank_promotion", "jax_debug_nans", "jax_disable_jit")
    return [getattr(config, name) for name in names] + [jnp.zeros(1).dtype, jnp.arange(2.0).dtype]


def test_the_callers_functions_fail() -> None:
    """At every time that they are traced, in whatever way; flags of JAX are as they were."""
    setting = Setting()
    call = jax.jit(setting.gradients)
    before, calls, at = settings(), 0, 1

    def trip(where: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise FAULTS[at % 3](f"in {where}")

    setting.trip = trip
    while True:
        calls = 0
        try:
            made = call(setting.params, OUTER)
        except FAULTS:
            assert settings() == before
            at += 1
            continue
        break
    assert at > 2, "nothing failed"
    fresh = Setting()
    due = jax.jit(fresh.gradients)(fresh.params, OUTER)
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(due), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.slow
def test_a_program_that_fails_while_it_runs() -> None:
    """A callback of the host raises in a chunk; the same program then runs to its end."""
    failing = [False]

    def look(value: Any) -> None:
        if failing[0]:
            raise MemoryError("no memory left")

    class Looking(Setting):
        def readout(self, outer: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
            jax.debug.callback(look, outputs[0, 0, 0])
            return super().readout(outer, outputs, targets)

    setting = Looking()
    call = jax.jit(setting.gradients)
    first = jax.block_until_ready(call(setting.params, OUTER))
    failing[0] = True
    with pytest.raises(Exception, match="no memory left"):  # noqa: PT012 - raised at any of them
        jax.block_until_ready(call(setting.params, OUTER))
        jax.effects_barrier()
    failing[0] = False
    again = jax.block_until_ready(call(setting.params, OUTER))
    jax.effects_barrier()
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_module_of_flax_is_unchanged() -> None:
    rnn = modules.RevGRU(3, 4, rngs=nnx.Rngs(0))
    before = nnx.state(rnn)
    with pytest.raises(ValueError, match="E_SHAPE"):
        rnn(jnp.zeros((2, 2, 5)))
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(nnx.state(rnn)), strict=True):
        assert np.array_equal(one, other)
