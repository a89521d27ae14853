"""Numbers that a readout or an embed makes of the number of steps: a chunk has fewer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, init, value, value_and_grad
from revrnn.jax_impl.averages import average_of
from revrnn.jax_impl.flat import STEPS

CONFIG = Config("revgru", 3, 4, forgetting=False)
PARAMS = init(jax.random.key(0), CONFIG)
X = jax.random.normal(jax.random.key(1), (7, 2, 3))
MASK = jnp.asarray(np.arange(7)[:, None] < [[4, 6]])
Tree = Any


def losses(outputs: jax.Array) -> jax.Array:
    """Return a loss for each step and row."""
    return jnp.square(outputs - 0.1).sum(-1)


def counted(y: jax.Array, m: jax.Array) -> jax.Array:
    return jnp.where(m, losses(y), 0)


TAKEN: dict[str, Callable[..., Any]] = {
    "means of both, clamped": lambda o, y, m: counted(y, m).mean() / jnp.maximum(m.mean(), 0.8),
    "means of both, eps": lambda o, y, m: counted(y, m).mean() / (m.mean() + 1e-3),
    "weights that are one over their number": lambda o, y, m: (
        losses(y) * jnp.full(m.shape, 1 / m.size)
    ).sum(),
    "at least one step": lambda o, y, m: losses(y).sum() / max(len(y), 1),
}
REFUSED: dict[str, Callable[..., Any]] = {
    "one less": lambda o, y, m: losses(y).sum() / (m.size - 1),
    "root": lambda o, y, m: losses(y).sum() / len(y) ** 0.5,
    "root, by JAX": lambda o, y, m: losses(y).sum() / jnp.sqrt(len(y)),
    "square": lambda o, y, m: losses(y).sum() / len(y) ** 2,
    "logarithm": lambda o, y, m: losses(y).mean() / math.log(len(y) + 1),
    "at least so many": lambda o, y, m: losses(y).sum() / max(len(y), 13),
    "at most so many": lambda o, y, m: losses(y).sum() / min(len(y), 100),
    "product of a shape": lambda o, y, m: losses(y).sum() / jnp.array(m.shape).prod(),
    "inverse, by JAX": lambda o, y, m: losses(y).sum() * jnp.reciprocal(jnp.float32(m.size)),
    "outputs over a root": lambda o, y, m: losses(y / jnp.sqrt(len(y))).mean(),
    "a count that is kept from being small": lambda o, y, m: (
        counted(y, m).sum() / jnp.maximum(m.sum(), len(y) ** 0.5)
    ),
    "another loss for few steps": lambda o, y, m: (
        losses(y).mean() if len(y) > 3 else losses(y).sum()
    ),
    "every other step": lambda o, y, m: losses(y)[::2].sum(),
    "twos of steps": lambda o, y, m: losses(y)[: len(y) // 2 * 2].reshape(-1, 2, 2).prod(1).sum(),
    "pair with one less": lambda o, y, m: (losses(y).sum(), m.size - 1),
    "pair with a root": lambda o, y, m: (losses(y).sum(), m.size**0.5),
    "pair with at least so many": lambda o, y, m: (losses(y).sum(), max(m.size, 20)),
}
EMBEDS: dict[str, Callable[..., Any]] = {
    "over a root": lambda o, x: x / len(x) ** 0.5,
    "over a root, by JAX": lambda o, x: x / jnp.sqrt(len(x)),
    "every other step": lambda o, x: x * (jnp.arange(len(x)) % 2)[:, None, None],
}


@pytest.mark.parametrize("name", TAKEN)
def test_chunks_give_the_loss_of_all_steps(name: str) -> None:
    readout = TAKEN[name]
    wanted = readout(None, apply(PARAMS, X, CONFIG).outputs, MASK)
    given = PARAMS, None, X, MASK, CONFIG
    np.testing.assert_allclose(value(*given, readout=readout, chunk_size=3).loss, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_other_numbers_made_of_the_length_are_refused(name: str) -> None:
    with pytest.raises(RevRNNError, match="readout: got"):
        traced(readout=REFUSED[name])


@pytest.mark.parametrize("name", EMBEDS)
def test_so_they_are_of_an_embed(name: str) -> None:
    with pytest.raises(RevRNNError, match="embed: got a result whose steps depend"):
        traced(embed=EMBEDS[name], readout=lambda o, y, m: losses(y).mean())


def traced(**functions: Any) -> None:
    """Trace a training step of chunks of three steps."""

    def step(params: Tree) -> Any:
        return value_and_grad(params, None, X, MASK, CONFIG, chunk_size=3, **functions)

    jax.eval_shape(step, PARAMS)


def test_plain_means_leave_no_doubt() -> None:
    """What numbers have to show is compiled; a mean needs none."""
    like = jax.ShapeDtypeStruct((STEPS, 2, 4), jnp.float32)
    for readout in (
        lambda _, y: losses(y).mean(),
        lambda _, y: losses(y).sum() / y.shape[1],
        lambda _, y: losses(y).mean(1).mean(),
        lambda _, y: -jax.nn.log_softmax(y)[..., 0].mean(),
        lambda _, y: (losses(y).sum(), len(y)),
    ):
        assert not average_of(readout, None, like).doubt
