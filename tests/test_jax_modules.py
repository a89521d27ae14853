"""The Flax and Equinox modules: the same numbers as :func:`apply`, trained as such modules are."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import revrnn.jax_impl.equinox as in_equinox
import revrnn.jax_impl.flax as in_flax
from revrnn.jax_impl import apply, check, dropout_gains

X = jax.random.normal(jax.random.key(1), (7, 2, 3))
STEPS = jnp.arange(7, dtype=jnp.int32)
both = pytest.mark.parametrize("cell", ["RevGRU", "RevLSTM"])


@both
def test_flax_module(cell: str) -> None:
    kind = getattr(in_flax, cell)
    model = kind(3, 4, 2, max_forget_bits=3, dropout=0.4, rngs=nnx.Rngs(0))
    wanted = apply(model.params(), X, model.config)
    out = model(X)
    assert np.array_equal(out.outputs, wanted.outputs)
    wide = kind(3, 4, 2, max_forget_bits=3, batch_first=True, rngs=nnx.Rngs(0))
    assert np.array_equal(wide(X.swapaxes(0, 1)).outputs.swapaxes(0, 1), wanted.outputs)
    key = nnx.Rngs(dropout=5).dropout()
    gains = dropout_gains(key, 0.4, model.config, STEPS, 2)
    dropped = apply(model.params(), X, model.config, gains=gains)
    assert np.array_equal(model(X, rngs=nnx.Rngs(dropout=5)).outputs, dropped.outputs)
    assert not np.array_equal(dropped.outputs, wanted.outputs)
    optimiser = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def train(model: Any, optimiser: Any) -> Any:
        def loss(model: Any) -> Any:
            out = model(X)
            return (out.outputs**2).mean(), out.status

        (value, status), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        optimiser.update(model, grads)
        return value, status

    losses = []
    for _ in range(5):
        value, status = train(model, optimiser)
        check(status)
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@both
def test_equinox_module(cell: str) -> None:
    kind = getattr(in_equinox, cell)
    key = jax.random.key(0)
    model = kind(3, 4, 2, max_forget_bits=3, dropout=0.4, key=key)
    wanted = apply(model.params, X, model.config)
    assert np.array_equal(eqx.filter_jit(model)(X).outputs, wanted.outputs)
    wide = kind(3, 4, 2, max_forget_bits=3, batch_first=True, key=key)
    assert np.array_equal(wide(X.swapaxes(0, 1)).outputs.swapaxes(0, 1), wanted.outputs)
    gains = dropout_gains(key, 0.4, model.config, STEPS, 2)
    dropped = apply(model.params, X, model.config, gains=gains)
    assert np.array_equal(model(X, key=key).outputs, dropped.outputs)
    assert not np.array_equal(dropped.outputs, wanted.outputs)
    optimiser = optax.sgd(0.1)
    moments = optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def train(model: Any, moments: Any) -> Any:
        def loss(model: Any) -> Any:
            out = model(X)
            return (out.outputs**2).mean(), out.status

        (value, status), grads = eqx.filter_value_and_grad(loss, has_aux=True)(model)  # type: ignore[no-untyped-call]
        changes, moments = optimiser.update(grads, moments)
        return eqx.apply_updates(model, changes), moments, value, status

    losses = []
    for _ in range(5):
        model, moments, value, status = train(model, moments)
        check(status)
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
