"""Slices of the states, and encoders that keep nothing else."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_jax_apply import CELLS, close, problem, same

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, check, dropout_gains, encode


@pytest.mark.rule("SEQ-007")
def test_slices_are_the_first_units_of_outputs() -> None:
    """And so are their gradients, where no other outputs are made."""
    config = Config("revgru", 3, 6, max_forget_bits=3, slice_size=1)
    params, x = problem(config, 5, 2)
    weights = jax.random.normal(jax.random.key(4), (5, 2, 1))

    def by_outputs(params: Any) -> Any:
        out = apply(params, x, config)
        return (out.outputs[:, :, :1] * weights).sum() + out.h_n.sum(), out.state

    def by_context(params: Any) -> Any:
        out = apply(params, x, config, with_outputs=False)
        assert out.outputs.shape == (0, 2, 6)
        assert out.context is not None
        return (out.context * weights).sum() + out.h_n.sum(), out.state

    one, other = (
        jax.jit(jax.value_and_grad(loss, has_aux=True))(params) for loss in (by_outputs, by_context)
    )
    assert same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.rule("SEQ-007")
def test_encoder_slices_carry_gradients(cell: str) -> None:
    """By chunks and checkpoints, with inputs that have parameters of their own."""
    config = CELLS[cell]
    params, _ = problem(config, 1, 1)
    table = jax.random.normal(jax.random.key(2), (7, 3))
    tokens = jax.random.randint(jax.random.key(3), (20, 2), 0, 7)
    weights = jax.random.normal(jax.random.key(4), (20, 2, 1))
    mask = jnp.arange(20)[:, None] < jnp.array([20, 11])

    def applied(params: Any, table: Any) -> Any:
        out = apply(params, table[tokens], config, mask=mask, with_outputs=False)
        assert out.context is not None
        return (out.context * weights).sum() + out.h_n.sum(), out.state

    def encoded(params: Any, table: Any, **options: Any) -> Any:
        out = encode(params, table, tokens, config, embed=lambda t, i: t[i], mask=mask, **options)
        return (out.context * weights).sum() + out.h_n.sum(), out.state

    (value, state), grads = jax.jit(jax.value_and_grad(applied, (0, 1), has_aux=True))(
        params, table
    )
    for options in ({}, {"chunk_size": 4, "checkpoint_every": 8}):
        program = jax.value_and_grad(
            lambda p, t, options=options: encoded(p, t, **options), (0, 1), has_aux=True
        )
        for run in (program, jax.jit(program)):
            (other, other_state), other_grads = run(params, table)
            assert np.isclose(value, other)
            assert same(state, other_state)
            assert close(other_grads, grads)


@pytest.mark.rule("SEQ-007", "SEQ-012", "GRAD-016")
def test_encoder_takes_and_gives_what_apply_does() -> None:
    """A carried state and gains go in, the final states' gradients come back; faults are told."""
    config = CELLS["lstm"]
    params, x = problem(config, 8, 2)
    state = apply(params, x[::-1], config).state  # not zero, heads not fresh
    gains = dropout_gains(jax.random.key(3), 0.3, config, jnp.arange(8, dtype=jnp.int32), 2)

    def loss(run: Any, params: Any, scale: Any) -> Any:
        out = run(params, scale)
        total = jnp.float32(0)
        for value in (out.context, out.h_n, out.c_n):
            total += (value * jnp.cos(jnp.arange(value.size)).reshape(value.shape)).sum()
        return total, out

    def applied(params: Any, scale: Any) -> Any:
        return apply(params, scale * x, config, state=state, gains=gains, with_outputs=False)

    def encoded(params: Any, scale: Any) -> Any:
        return encode(
            params,
            scale,
            x,
            config,
            embed=lambda scale, x: scale * x,
            state=state,
            gains=gains,
            chunk_size=4,
        )

    scale = jnp.float32(1)
    gradients = partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    (value, wanted), grads = jax.jit(gradients(partial(loss, applied)))(params, scale)
    program = jax.jit(gradients(partial(loss, encoded)))
    (other, out), other_grads = program(params, scale)
    check(out.status)
    assert np.isclose(other, value, rtol=1e-5)
    assert same(
        (out.context, out.h_n, out.c_n, out.state),
        (wanted.context, wanted.h_n, wanted.c_n, wanted.state),
    )
    assert close(other_grads, grads)
    with pytest.raises(RevRNNError, match="slice_size"):
        encode(params, scale, x, dataclasses.replace(config, slice_size=0))
    with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
        jax.eval_shape(jax.grad(jax.grad(lambda s: encoded(params, s).context.sum())), scale)
    spoilt = params | {"bias_l1": params["bias_l1"].at[0].set(jnp.nan)}
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        encoded(spoilt, scale)
    (_, out), grads = program(spoilt, scale)
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        check(out.status)
    for value in jax.tree.leaves((out.context, out.h_n, out.c_n, grads)):
        assert np.isnan(value).all()
