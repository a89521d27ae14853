"""JAX's stricter modes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    LinearCrossEntropy,
    apply,
    encode,
    init,
    step_dropout,
    value,
    value_and_grad,
)

CONFIGS = (
    Config("revgru", 3, 4, 2, max_forget_bits=3, slice_size=1),
    Config("revlstm", 3, 4, 2, buffer="wordlist"),
)
Tree = Any


def everything(config: Config) -> Tree:
    """Return results of all functions, with masks, gains, resets and initial states."""
    params = init(jax.random.key(0), config)
    x = jax.random.normal(jax.random.key(1), (5, 2, 3))
    mask = jnp.ones((5, 2), jnp.bool_).at[3:, 1].set(False)
    resets = None if config.slice_size else jnp.zeros((5, 2), jnp.bool_).at[2, 0].set(True)
    gains = jnp.full((5, 1, 2, 4), 4096, jnp.int32)
    h = jnp.zeros((2, 2, 4))
    hx = (h, h) if config.has_cell_state else h
    outer = {"kernel": jnp.ones((4, 5)), "bias": jnp.arange(5.0)}
    readout = LinearCrossEntropy(lambda o: (o["kernel"], o["bias"]), label_smoothing=0.1)
    targets = jnp.arange(10, dtype=jnp.int32).reshape(5, 2) % 5

    def loss(params: Tree, x: jax.Array, hx: Tree) -> jax.Array:
        given: Any = {"hx": hx, "mask": mask, "gains": gains, "resets": resets}
        out = apply(params, x, config, **given, reset_capacity=2, chunk_size=2)
        return (out.outputs**2).mean()

    results: list[Any] = [jax.value_and_grad(loss, (0, 1, 2))(params, x, hx)]
    step = value_and_grad(
        params,
        outer,
        x,
        targets,
        config,
        readout=readout,
        hx=hx,
        mask=mask,
        gains=gains,
        chunk_size=2,
        checkpoint_every=2,
    )
    results += [step.loss, step.grads]
    results += [value(params, outer, x, targets, config, readout=readout, chunk_size=2).loss]
    if config.slice_size:
        results += [encode(params, {}, x, config).context]
    return results


both = pytest.mark.parametrize("config", CONFIGS, ids=["gru", "lstm"])


@both
def test_strict_promotion_of_ranks(config: Config) -> None:
    """Ranks are looked at while tracing."""
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(lambda: everything(config))


@both
def test_strict_promotion_of_types(config: Config) -> None:
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(lambda: everything(config))


def test_keys_of_another_default_kind() -> None:
    """Old keys, mere numbers, are of the kind that is the default when they are used."""
    for kind in ("threefry2x32", "rbg", "threefry2x32"):
        with jax.default_prng_impl(kind):
            init(jax.random.PRNGKey(0), CONFIGS[0])


@pytest.mark.slow
@both
def test_strict_promotion_of_ranks_changes_nothing(config: Config) -> None:
    with jax.numpy_rank_promotion("raise"):
        strict = everything(config)
    jax.tree.map(np.testing.assert_array_equal, strict, everything(config))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_meshes_of_one_device(kind: str) -> None:
    config = CONFIGS[0]
    types = (getattr(jax.sharding.AxisType, kind),)
    mesh = jax.make_mesh((1,), ("data",), axis_types=types)
    spec = jax.sharding.PartitionSpec(None, "data")
    params, x = init(jax.random.key(0), config), jnp.ones((5, 2, 3))
    wanted = apply(params, x, config).outputs
    sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
    np.testing.assert_array_equal(apply(params, sharded, config).outputs, wanted)
    with jax.set_mesh(mesh):
        got = jax.jit(lambda x: apply(params, x, config).outputs)(sharded)
    np.testing.assert_array_equal(got, wanted)


KEYED = Config("revgru", 3, 4, max_forget_bits=3, slice_size=1)
WEIGHTS = init(jax.random.key(0), KEYED)
DATA = jax.random.normal(jax.random.key(1), (5, 2, 3))


def noisy(outer: Tree, inputs: Tree) -> jax.Array:
    """Add noise from keys among the inputs."""
    x, keys = inputs
    noise: jax.Array = jax.vmap(lambda key: jax.random.normal(key, (2, 3)))(keys)
    made: jax.Array = x * outer["scale"] + 0.1 * noise
    return made


def thinned(outer: Tree, outputs: jax.Array, keys: Tree) -> jax.Array:
    """Drop outputs by keys among the targets."""
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (2, 4)))(keys["targets"])
    loss: jax.Array = (outputs * kept).mean() * outer["scale"]
    return loss


def keyed(keys: Tree) -> Tree:
    """Return results of all functions that take keys among their data."""
    outer = {"scale": jnp.float32(1)}
    one, two = keys
    first = WEIGHTS, outer, (DATA, one), {"targets": two}, KEYED
    settings: Any = {"embed": noisy, "chunk_size": 2}
    step = value_and_grad(*first, readout=thinned, **settings)
    loss = value(*first, readout=thinned, **settings).loss
    context = encode(WEIGHTS, outer, (DATA, one), KEYED, **settings).context
    return step.loss, step.grads, loss, context


def closed_key(key: jax.Array) -> Tree:
    """Return a loss with dropout from one key, and from step numbers among the inputs."""

    def embed(_: Tree, inputs: Tree) -> jax.Array:
        return step_dropout(key, 0.5, *inputs)

    data = DATA, jnp.arange(5)
    return value(
        WEIGHTS, {}, data, (), KEYED, embed=embed, readout=lambda _, h, __: h.mean(), chunk_size=2
    ).loss


def test_the_check_for_keys_used_again() -> None:
    def keys() -> Tree:
        return tuple(jax.random.split(jax.random.key(seed), 5) for seed in (3, 4))

    wanted = jax.jit(keyed)(keys()), closed_key(jax.random.key(5))
    with jax.debug_key_reuse(True):
        drawn = jax.jit(keyed)(keys()), closed_key(jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, drawn, wanted)
    np.testing.assert_allclose(wanted[0][0], wanted[0][2], rtol=1e-6)


def test_dropout_with_types_of_64_bits() -> None:
    """It drops the same."""
    given = jax.random.key(3), 0.5, jnp.ones((2, 3, 4)), jnp.arange(2)
    wanted = step_dropout(*given)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(step_dropout(*given), wanted)


@pytest.mark.parametrize("locked", [True, False])
def test_one_key_of_dropout_serves_all_chunks(locked: bool) -> None:
    key, x = jax.random.key(3), jnp.ones((2, 3, 4))
    with jax.debug_key_reuse(True):
        for first in (0, 2):
            step_dropout(key, 0.5, x, jnp.arange(first, first + 2), locked=locked)


def test_checks_of_indices_and_floats() -> None:
    """``checkify`` finds nothing in gradients by reversal, of streams, resets, class numbers."""
    outer, targets = {"kernel": jnp.ones((4, 300))}, jnp.full((5, 2), 200, jnp.uint8)
    readout = LinearCrossEntropy(lambda outer: outer["kernel"], ignore_index=7)
    plain = Config("revgru", 3, 4, max_forget_bits=3)
    resets = jnp.zeros((5, 2), jnp.bool_).at[2, 0].set(True)

    def both(params: Tree, x: jax.Array) -> Tree:
        out = value_and_grad(
            params, outer, x, targets, plain, readout=readout, resets=resets, reset_capacity=3
        )
        return out.loss, out.grads

    errors, (loss, grads) = jax.jit(checkify.checkify(both, errors=checkify.all_checks))(
        WEIGHTS, DATA
    )
    assert errors.get() is None
    np.testing.assert_allclose(loss, np.log(300), rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(grads), jax.tree.leaves(jax.jit(both)(WEIGHTS, DATA)[1]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_debugging_of_nans_and_other_mappings() -> None:
    """A pass without a fault makes no NaN; gradients come in the mapping that was given."""
    outer, targets = {"kernel": jnp.ones((4, 5))}, jnp.ones((5, 2), jnp.int32)
    readout = LinearCrossEntropy(lambda outer: outer["kernel"])
    plain = Config("revgru", 3, 4, max_forget_bits=3)
    params = OrderedDict(reversed(WEIGHTS.items()))
    wrong = np.full_like(DATA, np.nan)
    with jax.debug_nans(True):
        out = value_and_grad(params, outer, DATA, targets, plain, readout=readout)
        apply(params, DATA, plain)
        for call, name in (
            (lambda: apply(params, wrong, plain), "x"),  # type: ignore[arg-type]
            (lambda: value(params, outer, wrong, targets, plain, readout=readout), "inputs"),
        ):
            with pytest.raises(RevRNNError, match=rf"E_NONFINITE\] {name}: got NaN"):
                call()
    assert type(out.grads[0]) is OrderedDict
    assert list(out.grads[0]) == list(params)
    for name, grad in out.grads[0].items():
        assert grad.shape == params[name].shape
