"""Numbers that a readout or an embed makes of the number of steps: a chunk has fewer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apart, apply, draws, init, value, value_and_grad
from revrnn.jax_impl.averages import average_of
from revrnn.jax_impl.flat import STEPS
from revrnn.jax_impl.ratios import as_pair

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
    "inverse, by JAX": lambda o, y, m: losses(y).sum() * jnp.reciprocal(jnp.float32(m.size)),
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
# Where the numbers that are tried at first are no later steps, nothing counts.
BEYOND: dict[str, Callable[..., Any]] = {
    "a ratio, or its double": lambda o, y, t: lax.cond(
        o > 0, lambda one: one, lambda one: 2 * one, (losses(y) * (t >= 4)).sum() / (t >= 4).sum()
    ),
    "of no numbers at all": lambda o, y, t: lax.cond(
        o > 0, lambda one: one, lambda one: 2 * one, (losses(y) * (t == 6)).sum() / (t == 6).sum()
    ),
}
# Of five steps they give what a mean or a sum does.
LATER: dict[str, Callable[..., Any]] = {
    "at least so many, by JAX": lambda o, y, m: losses(y).sum() / jnp.maximum(len(y), 13),
    "another factor": lambda o, y, m: losses(y).mean() * (2 if len(y) > 9 else 1),
    "without the first": lambda o, y, m: (losses(y) * (jnp.arange(len(y)) > 5)[:, None]).mean(),
    "in eights": lambda o, y, m: losses(y).sum() / -(-len(y) // 8),
    "eight steps before": lambda o, y, m: jnp.where(
        jnp.arange(len(y))[:, None, None] > 7, jnp.square(y - jnp.roll(y, 8, 0)), 0
    ).sum(),
    "pair": lambda o, y, m: (losses(y).sum() / jnp.maximum(len(y), 13), len(y)),
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


def traced(times: int = 1, chunk_size: int = 3, **functions: Any) -> None:
    """Trace a training step by chunks of three steps."""
    x, mask = (jnp.concatenate([v] * times) for v in (X, MASK))

    def step(params: Tree) -> Any:
        return value_and_grad(params, None, x, mask, CONFIG, chunk_size=chunk_size, **functions)

    jax.eval_shape(step, PARAMS)


@pytest.mark.parametrize("name", LATER)
def test_what_shows_beyond_five_steps_is_refused(name: str) -> None:
    with pytest.raises(RevRNNError, match="readout: got"):
        traced(3, 8, readout=LATER[name])


@pytest.mark.parametrize("name", BEYOND)
def test_what_counts_of_larger_numbers_alone_is_refused(name: str) -> None:
    steps = jnp.broadcast_to(jnp.arange(7)[:, None], (7, 2))
    given: Any = {"readout": BEYOND[name], "chunk_size": 3}
    with pytest.raises(RevRNNError, match="readout: got"):
        jax.eval_shape(lambda s: value(PARAMS, s, X, steps, CONFIG, **given), jnp.zeros(()))


def test_so_it_is_of_an_embed() -> None:
    later = {"embed": lambda _, x: x * (jnp.arange(len(x)) > 5)[:, None, None]}
    with pytest.raises(RevRNNError, match="embed: got a result whose steps depend"):
        traced(3, 8, readout=lambda o, y, m: losses(y).mean(), **later)
    for scalar in (lambda _, x: 0.0, lambda _, x: x.sum()):  # without steps: no doubt, but no shape
        with pytest.raises(RevRNNError, match=r"E_SHAPE. embed: got shape \[\]"):
            traced(embed=scalar, readout=lambda o, y, m: losses(y).mean())


def test_large_arrays_are_not_made_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that the program makes of the length show all the same."""
    monkeypatch.setattr(draws, "_LARGEST", 1)
    with pytest.raises(RevRNNError, match="readout: got"):
        traced(3, 8, readout=LATER["at least so many, by JAX"])
    with pytest.raises(RevRNNError, match="readout: got"):
        traced(3, 8, readout=LATER["another factor"])
    for function in (
        lambda o, y, m: (losses(y) * (jnp.arange(len(y)) > 11)[:, None]).mean(),
        lambda o, y, m: ((losses(y) * (jnp.arange(len(y)) > 11)[:, None]).sum(), m.size),
    ):
        with pytest.raises(RevRNNError, match="readout: got"):
            traced(3, 13, readout=function)
    later = {"embed": lambda _, x: x * (jnp.arange(len(x)) > 11)[:, None, None]}
    with pytest.raises(RevRNNError, match="embed: got"):
        traced(3, 13, readout=lambda o, y, m: losses(y).mean(), **later)
    traced(3, 13, readout=lambda o, y, m: y[jnp.arange(len(y))[:, None], jnp.arange(2), 0].mean())
    y = jax.ShapeDtypeStruct((8, 2, 4), jnp.float32)
    many = lambda _, y: losses(y).mean() * (2 if len(y) > 12_000 else 1), (None, y)
    assert apart._bends(*many, steps=12_001)
    assert not apart._bends(*many, steps=12_000)
    assert not draws.in_full(lambda _, y: losses(y).mean(), None, (y,), steps=21, chunk=8)


def test_a_chunk_that_is_an_exception_leaves_a_doubt() -> None:
    like = jax.ShapeDtypeStruct((STEPS, 2, 4), jnp.float32)
    given = lambda _, y: losses(y).mean() * (2 if len(y) == 16 else 1), None, like
    assert not average_of(*given).doubt
    assert average_of(*given, others=(16, 0)).doubt


def by_row(y: jax.Array) -> jax.Array:
    """Return a loss for each row and step; JAX writes it otherwise for one step."""
    places = jnp.zeros((*y.shape[1::-1], 1), jnp.int32)
    picked: jax.Array = jnp.take_along_axis(jnp.square(y).swapaxes(0, 1), places, axis=-1)
    return picked[..., 0]


ONE: dict[str, Callable[..., Any]] = {
    "factor": lambda o, y, m: losses(y).mean() * (2 if len(y) == 1 else 1),
    "by row": lambda o, y, m: by_row(y).mean() * (2 if len(y) == 1 else 1),
}


@pytest.mark.parametrize("chunk_size", [3, 1])
def test_a_chunk_of_one_step_is_tried_where_it_is_another(chunk_size: int) -> None:
    traced(1, chunk_size, readout=lambda o, y, m: (by_row(y) * m.T).sum() / m.sum())
    if chunk_size == 3:
        for readout in ONE.values():
            with pytest.raises(RevRNNError, match="readout: got"):
                traced(readout=readout)


def test_what_is_added_to_0_stays_what_it_is() -> None:
    """Python's ``sum`` begins with 0."""
    like = jax.ShapeDtypeStruct((STEPS, 2, 4), jnp.float32)
    parts: list[tuple[str, float, Callable[..., Any]]] = [
        ("sum", 1, lambda _, y: sum([losses(y).sum(), jnp.abs(y).sum()])),
        ("mean", 1, lambda _, y: (0 + losses(y).sum() + jnp.abs(y).sum()) / len(y)),
        ("ratio", 1, lambda _, y: sum([losses(y).sum() / (y > 0).sum()])),
        (
            "ratio",
            1,
            lambda _, y: jax.random.uniform(jax.random.key(0)) * losses(y).sum() / y.sum(),
        ),
        ("ratio", -1, lambda _, y: 0 - losses(y).sum() / (y > 0).sum()),
        (
            "other",
            0,
            lambda _, y: jnp.where((y > 0).any(), 1 + losses(y).sum() / (y > 0).sum(), 0.0),
        ),
    ]
    for kind, factor, readout in parts:
        made = average_of(readout, None, like)
        assert made.kind == kind
        if kind == "ratio":
            total, count = as_pair(readout, made)(None, jnp.full((3, 2, 4), 0.5))
            assert count in (12, 24)
            assert total * factor > 0
    traced(readout=lambda o, y, m: (losses(y) / m.size + jnp.abs(y).sum(-1) / m.size).sum())


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
