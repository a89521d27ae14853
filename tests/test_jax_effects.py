"""Readouts and embeds that do more than compute: that print, or write to references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, init, value

CONFIG = Config("revgru", 3, 4, forgetting=False)
PARAMS = init(jax.random.key(0), CONFIG)
X = jax.random.normal(jax.random.key(1), (7, 2, 3))
OUTER_REFERENCE = jax.new_ref(jnp.zeros(()))
Tree = Any


def traced(**functions: Any) -> None:
    """Trace a loss by chunks of three steps."""
    given: Any = {"readout": lambda o, y, t: jnp.square(y).mean()} | functions
    jax.eval_shape(lambda: value(PARAMS, {}, X, X, CONFIG, chunk_size=3, **given))


def centred(_: Tree, outputs: jax.Array, *__: Tree) -> jax.Array:
    """Return a loss of steps that depend on one another through a reference."""
    mean = jax.new_ref(jnp.zeros(outputs.shape[1:]))
    mean[...] = outputs.mean(0)
    return jnp.square(outputs - mean[...]).mean()


def added(_: Tree, outputs: jax.Array, *__: Tree) -> jax.Array:
    """Return a mean that is added up in a reference."""
    total = jax.new_ref(jnp.zeros(()))

    def step(carry: None, one: jax.Array) -> tuple[None, None]:
        total[...] += jnp.square(one).mean()
        return carry, None

    jax.lax.scan(step, None, outputs)
    mean: jax.Array = total[...] / len(outputs)
    return mean


def counting(_: Tree, x: jax.Array, *__: Tree) -> jax.Array:
    """Write to a reference that is not the function's own."""
    OUTER_REFERENCE[...] += 1
    return x


def test_steps_that_depend_on_one_another_through_a_reference() -> None:
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] readout: got a loss of steps that dep"):
        traced(readout=centred)


def test_a_mean_made_in_a_reference() -> None:
    wanted = jnp.square(apply(PARAMS, X, CONFIG).outputs).mean()
    loss = value(PARAMS, {}, X, X, CONFIG, readout=added, chunk_size=3).loss
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_references_of_others_are_not_written_to() -> None:
    for name, function in (("embed", counting), ("readout", lambda o, y, t: counting(o, y).mean())):
        with pytest.raises(RevRNNError, match=rf"E_UNSUPPORTED\] {name}: got a function that wr"):
            traced(**{name: function})
    assert OUTER_REFERENCE[...] == 0
    traced(readout=lambda o, y, t: y.mean() * OUTER_REFERENCE[...])


def test_what_a_host_gives_anew_at_each_call() -> None:
    """Else ``embed`` would be another on the way back, and a trial would draw from the host."""
    seen: list[Any] = []

    def host(a: Any) -> Any:
        seen.append(a)
        return a

    def fed(_: Tree, x: jax.Array, *__: Tree) -> jax.Array:
        read = jax.jit(lambda x: io_callback(host, x, x))
        return jnp.asarray(read(x))

    for name, function in (("embed", fed), ("readout", lambda o, y, t: fed(o, y).mean())):
        with pytest.raises(RevRNNError, match=rf"E_UNSUPPORTED\] {name}: got an io_callback with"):
            traced(**{name: function})
    assert not seen


def noisy(tell: Callable[[jax.Array], Any]) -> Callable[..., jax.Array]:
    """Return a loss of which random numbers must show what it is, and that tells them."""

    def step(carry: jax.Array, one: jax.Array) -> tuple[jax.Array, None]:
        tell(one)
        return carry + one.sum(), None

    def readout(_: Tree, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        tell(outputs)
        total: jax.Array = jax.lax.scan(step, jnp.zeros(()), outputs)[0]
        return total

    return readout


def test_nobody_is_told_of_random_numbers(capfd: pytest.CaptureFixture[str]) -> None:
    """Only those of the sequence are printed, or given to the host."""
    seen: list[Any] = []
    tells: list[Callable[[jax.Array], Any]] = [
        lambda a: jax.debug.print("told {}", a),
        lambda a: jax.debug.print("told {}", a, ordered=True),
        lambda a: jax.debug.callback(seen.append, a),
        lambda a: io_callback(seen.append, None, a),
    ]
    for tell in tells:
        traced(readout=noisy(tell))
    with pytest.raises(RevRNNError, match="readout: got"):
        traced(readout=lambda *given: jax.lax.erf(noisy(tells[1])(*given)))
    jax.effects_barrier()
    assert not seen
    assert "told" not in capfd.readouterr().out
