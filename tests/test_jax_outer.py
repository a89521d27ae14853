"""Under jit nothing is finite and wrong; what functions close over gets its gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, check, encode, init, initial_state, value, value_and_grad

CONFIG = Config("revgru", 3, 4, max_forget_bits=None)
SLICED = Config("revgru", 3, 4, max_forget_bits=None, slice_size=1)
STEPS, ROWS = 24, 2
X = jax.random.normal(jax.random.key(0), (STEPS, ROWS, 3))
Y = jax.random.normal(jax.random.key(1), (STEPS, ROWS, 4))
Tree = Any


def forgetful(config: Config) -> dict[str, jax.Array]:
    """Return parameters whose gates forget nearly all, so that many words are pushed."""
    params = init(jax.random.key(2), config)
    return params | {"bias_l0": params["bias_l0"] - 9.0}


def readout(outer: Tree, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    loss: jax.Array = ((outputs - targets) ** 2).mean() * outer["scale"]
    return loss


OUTER = {"scale": jnp.float32(1.5)}


def test_a_store_too_small_is_told_by_status_and_values() -> None:
    """With ``checkpoint_every`` the forward pass keeps nothing, and must know all the same."""
    params = forgetful(CONFIG)
    step = jax.jit(
        lambda: value_and_grad(
            params,
            OUTER,
            X,
            Y,
            CONFIG,
            readout=readout,
            checkpoint_every=8,
            chunk_size=8,
            capacity=2,
        )
    )()
    assert np.isnan(step.loss)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(step.grads))
    with pytest.raises(RevRNNError, match="capacity"):
        check(step.status)


def test_an_encoder_whose_store_is_too_small() -> None:
    params = forgetful(SLICED)

    def loss(params: Tree) -> Any:
        out = encode(params, {}, X, SLICED, chunk_size=8, capacity=2)
        return out.context.sum(), out.status

    (total, status), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert np.isnan(total)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(grads))
    with pytest.raises(RevRNNError, match="capacity"):
        check(status)


def test_resets_beyond_their_capacity() -> None:
    params, resets = forgetful(CONFIG), jnp.ones((STEPS, ROWS), jnp.bool_)

    def step(resets: jax.Array) -> Any:
        return value_and_grad(
            params,
            OUTER,
            X,
            Y,
            CONFIG,
            readout=readout,
            checkpoint_every=8,
            chunk_size=8,
            resets=resets,
            reset_capacity=1,
        )

    out = jax.jit(step)(resets)
    assert np.isnan(out.loss)
    with pytest.raises(RevRNNError, match="reset_capacity"):
        check(out.status)


def test_variables_closed_over_get_their_gradient() -> None:
    params = init(jax.random.key(2), CONFIG)

    def streamed(scale: jax.Array, shift: jax.Array) -> jax.Array:
        out = value_and_grad(
            params,
            {},
            X,
            Y,
            CONFIG,
            chunk_size=8,
            embed=lambda _, x: x * scale,
            readout=lambda _, outputs, y: ((outputs + shift - y) ** 2).mean(),
        )
        return out.loss

    def plain(scale: jax.Array, shift: jax.Array) -> jax.Array:
        return ((apply(params, X * scale, CONFIG).outputs + shift - Y) ** 2).mean()

    at = jnp.asarray([0.5, 1.0, 2.0]), jnp.float32(0.25)
    got, wanted = (jax.grad(function, (0, 1))(*at) for function in (streamed, plain))
    for a, b in zip(got, wanted, strict=True):
        assert np.abs(b).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.rule("GRAD-022")
def test_what_has_its_gradient_in_the_result_has_no_other() -> None:
    params = init(jax.random.key(2), CONFIG)

    def loss(params: Tree) -> jax.Array:
        return value_and_grad(params, OUTER, X, Y, CONFIG, readout=readout).loss

    with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
        jax.grad(loss)(params)
    with pytest.raises((RevRNNError, TypeError), match=r"E_UNSUPPORTED|forward-mode|jvp"):
        jax.jvp(loss, (params,), (params,))


def test_a_state_of_another_stack_is_told() -> None:
    state = initial_state(Config("revgru", 3, 4, max_forget_bits=2), ROWS)
    with pytest.raises(RevRNNError, match="state"):
        value_and_grad(
            init(jax.random.key(2), CONFIG), OUTER, X, Y, CONFIG, readout=readout, state=state
        )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reduction": "average"}, "reduction"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"chunk_size": 2.0}, "chunk_size"),
        ({"checkpoint_every": True}, "checkpoint_every"),
        ({"readout": 3}, "readout"),
        ({"embed": 3}, "embed"),
        ({"mask": jnp.ones((STEPS, ROWS))}, "mask"),
        ({"hx": jnp.zeros((1, ROWS + 1, 4))}, "hx"),
        ({"hx": initial_state(CONFIG, ROWS)}, "hx"),
    ],
)
def test_doors_name_the_argument(change: dict[str, Any], named: str) -> None:
    arguments = (init(jax.random.key(2), CONFIG), OUTER, X, Y, CONFIG)
    with pytest.raises(RevRNNError, match=f"^E_[A-Z_]+: {named}|{named}"):
        value_and_grad(*arguments, **({"readout": readout} | change))


def test_numpy_whole_numbers_are_whole_numbers() -> None:
    arguments = (init(jax.random.key(2), CONFIG), OUTER, X, Y, CONFIG)
    one = value_and_grad(*arguments, readout=readout, chunk_size=8)
    whole: Any = np.int64(8)
    other = value_and_grad(*arguments, readout=readout, chunk_size=whole)
    assert one.loss == other.loss


@pytest.mark.rule("SEQ-012")
def test_gains_out_of_range_are_told_by_apply() -> None:
    config = Config("revgru", 3, 4, 2)
    params, x = init(jax.random.key(0), config), jnp.ones((2, 2, 3))
    program = jax.jit(lambda gains: apply(params, x, config, gains=gains))
    for gain in (-1, (16 << 12) + 1):
        out = program(jnp.full((2, 1, 2, 4), gain, jnp.int32))
        assert np.isnan(out.outputs).all()
        with pytest.raises(RevRNNError, match=r"E_RANGE.*gains"):
            check(out.status)
    for gain in (0, 16 << 12):
        check(program(jnp.full((2, 1, 2, 4), gain, jnp.int32)).status)


def test_functions_of_the_caller_fetch_what_is_in_the_memory_of_a_host() -> None:
    params = init(jax.random.key(2), CONFIG)
    x, y = jax.device_put((X[:3], Y[:3]), jax.memory.Space.Host)
    there = jax.memory.Space.Device
    wanted = value(params, OUTER, X[:3], Y[:3], CONFIG, readout=readout, chunk_size=2)
    out = value(
        params,
        OUTER,
        x,
        y,
        CONFIG,
        embed=lambda _, x: jax.device_put(x, there),
        readout=lambda o, h, y: readout(o, h, jax.device_put(y, there)),
        chunk_size=2,
    )
    assert out.loss == wanted.loss
