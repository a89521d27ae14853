"""A readout's scalar, however it is made, gives the loss of all steps at once, or an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, init, value, value_and_grad
from revrnn.jax_impl.averages import average_of
from revrnn.jax_impl.flat import computing_of, flat_program

CONFIG = Config("revgru", 3, 4, max_forget_bits=3)
STEPS, ROWS = 7, 2
PARAMS = init(jax.random.key(0), CONFIG)
X = jax.random.normal(jax.random.key(1), (STEPS, ROWS, 3))
MASK = jnp.asarray(np.arange(STEPS)[:, None] < [[4, 6]])
OUTER = {"w": jnp.linspace(0.5, 1.5, 4)}
Tree = Any


def losses(outer: Tree, outputs: jax.Array) -> jax.Array:
    """Return a loss for each step and row."""
    made: jax.Array = jnp.square(outputs - 0.1) @ outer["w"]
    return made


def masked(outer: Tree, outputs: jax.Array, mask: jax.Array) -> jax.Array:
    return (losses(outer, outputs) * mask).sum()


READOUTS: dict[str, Callable[..., Any]] = {
    "mean": lambda o, y, m: losses(o, y).mean(),
    "mean of elements": lambda o, y, m: jnp.square(y).mean(),
    "mean of means": lambda o, y, m: losses(o, y).mean(0).mean(),
    "mean over rows, then steps": lambda o, y, m: losses(o, y).mean(1).mean(0),
    "mean and a term of its own": lambda o, y, m: losses(o, y).mean() + 0.1 * (o["w"] ** 2).sum(),
    "sum of means": lambda o, y, m: losses(o, y).mean() + 2 * jnp.abs(y).mean(),
    "sum": lambda o, y, m: losses(o, y).sum(),
    "sum over the rows' number": lambda o, y, m: losses(o, y).sum() / y.shape[1],
    "sum over steps, mean over rows": lambda o, y, m: losses(o, y).sum(0).mean(),
    "sum over all steps' number": lambda o, y, m: losses(o, y).sum() / STEPS,
    "scaled sum": lambda o, y, m: -0.5 * losses(o, y).sum(),
    "divided, then added": lambda o, y, m: (losses(o, y) / len(y)).sum(),
    "divided where it counts": lambda o, y, m: jnp.where(m, losses(o, y) / len(y), 0.0).sum(),
    "times one over the steps": lambda o, y, m: losses(o, y).sum() * (1 / (len(y) * y.shape[1])),
    "per cent": lambda o, y, m: 100 * losses(o, y).sum() / len(y),
    "mean times steps": lambda o, y, m: losses(o, y).mean() * len(y),
    "mean where any counts": lambda o, y, m: (losses(o, y) * m * m.any()).mean(),
    "normed by row and step": lambda o, y, m: (
        jnp.square(y / jnp.linalg.norm(y, axis=-1)[..., None]).mean() + jax.nn.softmax(y).mean()
    ),
    "masked mean": lambda o, y, m: masked(o, y, m) / m.sum(),
    "masked mean, clamped": lambda o, y, m: masked(o, y, m) / jnp.maximum(m.sum(), 1),
    "masked mean, clamped far above": lambda o, y, m: masked(o, y, m) / jnp.maximum(m.sum(), 99),
    "masked mean, eps": lambda o, y, m: 3 * masked(o, y, m) / (m.sum() + 1e-6),
    "masked mean, smoothed": lambda o, y, m: masked(o, y, m) / (m.sum() + 2.5),
    "masked mean, guarded": lambda o, y, m: jnp.where(m.any(), masked(o, y, m) / m.sum(), 0.0),
    "masked mean, safe count": lambda o, y, m: (
        masked(o, y, m) / jnp.where(m.sum() == 0, 1, m.sum())
    ),
    "masked mean, guarded twice": lambda o, y, m: jnp.where(
        m.sum() > 0, masked(o, y, m) / jnp.maximum(m.sum(), 1), 0.0
    ),
    "masked mean, 0 for NaN": lambda o, y, m: jnp.where(
        jnp.isnan(masked(o, y, m) / m.sum()), 0.0, masked(o, y, m) / m.sum()
    ),
    "masked mean by rows": lambda o, y, m: (
        jax.vmap(partial(masked, o), 1)(y, m).sum() / jax.vmap(jnp.sum, 1)(m).sum()
    ),
    "mean where": lambda o, y, m: losses(o, y).mean(where=m),
    "masked mean, guarded and scaled": lambda o, y, m: (
        o["w"][2] * jnp.where(m.any(), -3 * masked(o, y, m) / m.sum(), 0.0) + o["w"][1]
    ),
    "masked means of one count, made again": jax.checkpoint(
        lambda o, y, m: o["w"][0] - y.sum() / m.sum() + masked(o, y[::-1], m[::-1]) / m.sum()
    ),
    "means of both": lambda o, y, m: (losses(o, y) * m).mean() / m.mean(),
    "weighted average": lambda o, y, m: jnp.average(losses(o, y), weights=m + 0.5),
    "dot": lambda o, y, m: jnp.vdot(losses(o, y), m),
    "learned weights": lambda o, y, m: (
        (losses(o, y) * jax.nn.sigmoid(y[..., 0])).sum() / jax.nn.sigmoid(y[..., 0]).sum()
    ),
    "under jit": jax.jit(lambda o, y, m: masked(o, y, m) / m.sum()),
    "sum of a loop": lambda o, y, m: added(o, y),
    "mean of a loop": lambda o, y, m: added(o, y) / len(y),
    "loop in Python": lambda o, y, m: sum(losses(o, one).mean() for one in y) / len(y),
    "both turned": lambda o, y, m: (losses(o, y[::-1]) * m[::-1]).sum(),
}
OTHERS: dict[str, Callable[..., Any]] = {
    "count that is a product of bools": lambda o, y, m: masked(o, y, m) / jnp.vdot(m, m),
    "root": lambda o, y, m: jnp.sqrt(losses(o, y).mean()),
    "perplexity": lambda o, y, m: jnp.exp(losses(o, y).mean()),
    "last step": lambda o, y, m: losses(o, y)[-1].mean(),
    "largest": lambda o, y, m: losses(o, y).max(),
    "sum and a term of its own": lambda o, y, m: losses(o, y).sum() + (o["w"] ** 2).sum(),
    "mean and sum": lambda o, y, m: losses(o, y).mean() + losses(o, y).sum(),
    "rows with any": lambda o, y, m: masked(o, y, m) / m.any(0).sum(),
    "means of rows": lambda o, y, m: ((losses(o, y) * m).sum(0) / m.sum(0)).mean(),
    "count and steps": lambda o, y, m: masked(o, y, m) / (m.sum() + len(y)),
    "masked means of two counts": lambda o, y, m: (
        masked(o, y, m) / m.sum() + masked(o, y, ~m) / (~m).sum()
    ),
    "masked means, one smoothed": lambda o, y, m: (
        masked(o, y, m) / m.sum() + masked(o, y, m) / (m.sum() + 2)
    ),
    "masked mean and more, guarded": lambda o, y, m: jnp.where(
        m.any(), masked(o, y, m) / m.sum() + o["w"][0], 0.0
    ),
    "clamped by steps": lambda o, y, m: masked(o, y, m) / jnp.maximum(m.sum(), len(y)),
    "where many count": lambda o, y, m: jnp.where(m.sum() > 9, masked(o, y, m) / m.sum(), 0.0),
    "where not too many count": lambda o, y, m: (
        masked(o, y, m) / jnp.where(m.sum() > 9, 1, m.sum())
    ),
    "another number of nothing": lambda o, y, m: jnp.where(m.any(), masked(o, y, m) / m.sum(), 9),
    "where parameters say": lambda o, y, m: jnp.where(
        o["w"].sum() > 9, masked(o, y, m) / m.sum(), 0.0
    ),
    "loop where many count": lambda o, y, m: jnp.where(m.sum() > 9, added(o, y), 0.0),
    "over itself, held fixed": lambda o, y, m: (
        losses(o, y).mean() / jax.lax.stop_gradient(losses(o, y).mean())
    ),
}


@pytest.mark.parametrize("name", READOUTS)
def test_chunks_give_the_loss_of_all_steps(name: str) -> None:
    readout = READOUTS[name]

    def whole(params: Tree, outer: Tree) -> Any:
        return readout(outer, apply(params, X, CONFIG).outputs, MASK)

    wanted, grads = jax.value_and_grad(whole, (0, 1))(PARAMS, OUTER)
    step = value_and_grad(PARAMS, OUTER, X, MASK, CONFIG, readout=readout, chunk_size=3)
    measured = value(PARAMS, OUTER, X, MASK, CONFIG, readout=readout, chunk_size=3)
    np.testing.assert_allclose(step.loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(measured.loss, wanted, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), step.grads, grads
    )


def smoothed(outputs: jax.Array) -> jax.Array:
    """Return means of three steps."""
    kernel = jnp.ones((3, 4, 4)) / 12
    rows = outputs.swapaxes(0, 1)
    order = ("NWC", "WIO", "NWC")
    made = jax.lax.conv_general_dilated(rows, kernel, (1,), "SAME", dimension_numbers=order)
    return made.swapaxes(0, 1)


def moving(outputs: jax.Array) -> jax.Array:
    """Return moving averages."""

    def step(carry: jax.Array, one: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry = 0.9 * carry + 0.1 * one
        return carry, carry

    made: jax.Array = jax.lax.scan(step, outputs[0], outputs)[1]
    return made


def added(outer: Tree, outputs: jax.Array) -> jax.Array:
    """Return a sum, step by step."""

    def step(carry: jax.Array, one: jax.Array) -> tuple[jax.Array, None]:
        return carry + losses(outer, one).sum(), None

    made: jax.Array = jax.lax.scan(step, jnp.zeros(()), outputs)[0]
    return made


# Of these a chunk makes something else than the sequence does.
MIXED: dict[str, Callable[..., Any]] = {
    "softmax over steps": lambda o, y, m: (
        jax.nn.softmax(y, axis=0) * losses(o, y)[..., None]
    ).sum(),
    "norm over steps": lambda o, y, m: losses(o, (y - y.mean(0)) / (y.std(0) + 1)).mean(),
    "norm of all": lambda o, y, m: losses(o, y / jnp.linalg.norm(y)).mean(),
    "batch norm of rows": lambda o, y, m: jnp.square(
        y.reshape(-1, 4) - y.reshape(-1, 4).mean(0)
    ).mean(),
    "weights by their sum": lambda o, y, m: (losses(o, y) * (m / m.sum())).sum(),
    "above the mean": lambda o, y, m: jnp.where(
        losses(o, y) > losses(o, y).mean(), losses(o, y), 0
    ).sum(),
    "attention": lambda o, y, m: (
        jax.nn.softmax(jnp.einsum("tbh,sbh->bts", y, y)) @ y.swapaxes(0, 1)
    ).mean(),
    "running sum": lambda o, y, m: losses(o, jnp.cumsum(y, 0)).mean(),
    "convolution": lambda o, y, m: losses(o, smoothed(y)).mean(),
    "steps before": lambda o, y, m: (losses(o, jnp.roll(y, 1, 0)) * m).sum(),
    "steps before, padded": lambda o, y, m: losses(
        o, jnp.pad(y, ((1, 0), (0, 0), (0, 0)))[:-1]
    ).mean(),
    "steps joined": lambda o, y, m: (losses(o, jnp.concatenate([y[1:], y[:1]])) * m).sum(),
    "turned": lambda o, y, m: (losses(o, y[::-1]) * m).sum(),
    "next targets": lambda o, y, m: ((losses(o, y)[:-1] * m[1:]).sum(), m.size),
    "matrix": lambda o, y, m: losses(
        o, jnp.einsum("st,tbh->sbh", jnp.tril(jnp.ones((len(y), len(y)))), y)
    ).mean(),
    "scan": lambda o, y, m: losses(o, moving(y)).mean(),
    "tree of sums": lambda o, y, m: losses(o, jax.lax.associative_scan(jnp.add, y)).mean(),
    "places": lambda o, y, m: (losses(o, y) * 0.9 ** jnp.arange(len(y))[:, None]).mean(),
    "another layout": lambda o, y, m: losses(
        o, jax.nn.softmax(y.reshape(y.shape[1], -1)).reshape(y.shape)
    ).mean(),
    "one by one": lambda o, y, m: sum(losses(o, y[t] - y[t - 1]).mean() for t in range(1, len(y))),
    "sum of a loop, and another": lambda o, y, m: jnp.sqrt(added(o, y)),
    "two counts": lambda o, y, m: losses(o, y).sum() / (m.sum() + (y > 0.1).sum()),
    "guarded by another": lambda o, y, m: jnp.where(
        m.any(), losses(o, y).sum() / (y > -9).sum(), 0.0
    ),
    "counts of rows": lambda o, y, m: (masked(o, y, m) / jnp.stack([m.sum(0)] * 2)).sum(),
    "loop switched off": lambda o, y, m: jnp.where(m.any(), added(o, y) / len(y), 0.0),
    "switched off": lambda o, y, m: losses(o, y).mean() * m.any(),
    "switched off by where": lambda o, y, m: jnp.where(m.any(), losses(o, y).mean(), 0.0),
    "switched off by cond": lambda o, y, m: jax.lax.cond(
        m.any(), lambda: losses(o, y).mean(), lambda: 0.0
    ),
    "largest steps": lambda o, y, m: jnp.sort(losses(o, y), 0)[-2:].mean(),
    "under jit": jax.jit(lambda o, y, m: (jax.nn.softmax(y, axis=0)).sum()),
}


@pytest.mark.parametrize("name", MIXED)
def test_steps_that_depend_on_one_another_are_told(name: str) -> None:
    arguments = PARAMS, OUTER, X, MASK, CONFIG
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout.*(depend on one|neither a mean)"):
        value(*arguments, readout=MIXED[name], chunk_size=3)
    whole = jax.eval_shape(lambda: value(*arguments, readout=MIXED[name], chunk_size=STEPS))
    assert whole.loss.shape == ()


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_put_together_is_told(name: str) -> None:
    readout = OTHERS[name]
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout.*neither a mean nor a sum"):
        value(PARAMS, OUTER, X, MASK, CONFIG, readout=readout, chunk_size=3)
    whole = value(PARAMS, OUTER, X, MASK, CONFIG, readout=readout, chunk_size=STEPS)
    wanted = readout(OUTER, apply(PARAMS, X, CONFIG).outputs, MASK)
    np.testing.assert_allclose(whole.loss, wanted, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 12, 125, 128, 1000, 3001])
def test_means_over_many_elements_are_means(rows: int) -> None:
    """Their number is larger than float32 holds exactly."""
    y = jax.ShapeDtypeStruct((10_007, rows, 64), jnp.float32)
    for kind, readout in (
        ("mean", lambda _, y, __: y.mean()),
        ("mean", lambda _, y, __: y.sum() / y.size),
        ("mean", lambda _, y, __: y.sum() * (1 / y.size)),
        ("sum", lambda _, y, __: y.mean() * y.size),
        ("sum", lambda _, y, __: y.sum() / (rows * 64)),
        ("sum", lambda _, y, __: y.sum() * (1e-3 / rows)),
    ):
        assert average_of(readout, {}, y, y).kind == kind


def test_numbers_made_in_a_program_are_none_of_its_computations() -> None:
    """In ``shard_map`` JAX 0.12 makes ``x > 0`` a comparison with an integer that is converted."""

    def as_written(x: jax.Array) -> jax.Array:
        return (x > 0).sum()

    def computed(x: jax.Array) -> jax.Array:
        return (x > lax.convert_element_type(lax.neg(0), jnp.float32)).sum()

    x = jnp.ones((STEPS, 2))
    made, other = (flat_program(function, (x,)).jaxpr for function in (as_written, computed))
    assert len(other.eqns) > len(made.eqns)
    names, others = (
        [jaxpr.eqns[place].primitive.name for place in computing_of(jaxpr)]
        for jaxpr in (made, other)
    )
    assert names == others


def test_dropout_of_a_key_closed_over() -> None:
    """The same in every chunk; steps that depend on one another are told all the same."""
    key = jax.random.key(0)

    def kept(outputs: jax.Array) -> jax.Array:
        return outputs * jax.random.bernoulli(key, 0.5, outputs.shape)

    outputs = apply(PARAMS, X, CONFIG).outputs
    cuts = [outputs[k : k + 3] for k in range(0, STEPS, 3)]
    wanted = sum(losses(OUTER, kept(cut)).sum() for cut in cuts) / (STEPS * ROWS)
    arguments = PARAMS, OUTER, X, MASK, CONFIG
    out = value(*arguments, readout=lambda o, y, m: losses(o, kept(y)).mean(), chunk_size=3)
    np.testing.assert_allclose(out.loss, wanted, rtol=1e-5)
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout.*depend on one"):
        value(*arguments, readout=lambda o, y, m: losses(o, smoothed(kept(y))).mean(), chunk_size=3)
