"""The Flax and Equinox modules: the same numbers as :func:`apply`, trained as such modules are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization

import revrnn.jax_impl.equinox as in_equinox
import revrnn.jax_impl.flax as in_flax
from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, check, dropout_gains, initial_state

X = jax.random.normal(jax.random.key(1), (7, 2, 3))
KEY = jax.random.key(0)
EQUINOX: Any = in_equinox
STEPS = jnp.arange(7, dtype=jnp.int32)
both = pytest.mark.parametrize("cell", ["RevGRU", "RevLSTM"])


@both
def test_flax_module(cell: str) -> None:
    kind = getattr(in_flax, cell)
    model = kind(3, 4, 2, max_forget_bits=3, dropout=0.4, rngs=nnx.Rngs(0))
    wanted = apply(model.params(), X, model.config)
    with pytest.warns(UserWarning, match=r"without rngs nothing is dropped.*eval\(\)") as told:
        out = model(X)
    assert told[0].filename == __file__
    assert np.array_equal(out.outputs, wanted.outputs)
    wide = kind(3, 4, 2, max_forget_bits=3, batch_first=True, rngs=nnx.Rngs(0))
    assert np.array_equal(wide(X.swapaxes(0, 1)).outputs.swapaxes(0, 1), wanted.outputs)
    key = nnx.Rngs(dropout=5).dropout()
    gains = dropout_gains(key, 0.4, model.config, STEPS, 2)
    dropped = apply(model.params(), X, model.config, gains=gains)
    assert np.array_equal(model(X, rngs=nnx.Rngs(dropout=5)).outputs, dropped.outputs)
    assert not np.array_equal(dropped.outputs, wanted.outputs)
    assert np.array_equal(model(X, gains=gains).outputs, dropped.outputs)
    model.eval()
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
    with pytest.warns(UserWarning, match="without key nothing is dropped.*inference_mode") as told:
        assert np.array_equal(model(X).outputs, wanted.outputs)
    assert told[0].filename == __file__
    wide = kind(3, 4, 2, max_forget_bits=3, batch_first=True, key=key)
    assert np.array_equal(wide(X.swapaxes(0, 1)).outputs.swapaxes(0, 1), wanted.outputs)
    gains = dropout_gains(key, 0.4, model.config, STEPS, 2)
    dropped = apply(model.params, X, model.config, gains=gains)
    assert np.array_equal(model(X, key=key).outputs, dropped.outputs)
    assert not np.array_equal(dropped.outputs, wanted.outputs)
    assert np.array_equal(model(X, gains=gains).outputs, dropped.outputs)
    model = eqx.nn.inference_mode(model)
    assert np.array_equal(eqx.filter_jit(model)(X).outputs, wanted.outputs)
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


def test_dropout_of_one_layer_warns() -> None:
    """At construction alone: with or without a key, a call has nothing to drop."""
    with pytest.warns(UserWarning, match=r"dropout=0\.5 .* num_layers=1") as told:
        model: Any = in_flax.RevGRU(3, 4, dropout=0.5, rngs=nnx.Rngs(0))
    with pytest.warns(UserWarning, match=r"dropout=0\.5 .* num_layers=1") as also:
        other = EQUINOX.RevLSTM(3, 4, dropout=0.5, key=KEY)
    assert [warning.filename for warning in (*told, *also)] == [__file__] * 2
    for module in (model, other):
        module(X)


def without(module: Any, name: str, **more: Any) -> Any:
    """Return an Equinox module without one of its parameters, and with others."""
    kept = {n: v for n, v in module.params.items() if n != name}
    return eqx.tree_at(lambda m: m.params, module, kept | more)


def test_parameters_that_are_missing_are_no_zeros() -> None:
    for bias in (True, False):
        model = EQUINOX.RevGRU(3, 4, bias=bias, key=jax.random.key(0))
        weights = model.params["weight_hh_l0"]
        for changed in (without(model, "weight_hh_l0"), without(model, "", weight_hh_l00=weights)):
            with pytest.raises(RevRNNError, match=r"^\[E_ARGUMENT\] params\['weight_hh_l0"):
                changed(X)
    model = EQUINOX.RevGRU(3, 4, key=jax.random.key(0))
    with pytest.raises(RevRNNError, match=r"^\[E_ARGUMENT\] params\['bias_l0'\]"):
        without(model, "bias_l0")(X)


def test_what_a_call_does_not_know_is_named() -> None:
    for model in (in_flax.RevGRU(3, 4, rngs=nnx.Rngs(0)), EQUINOX.RevGRU(3, 4, key=KEY)):
        for name in ("seq_lengths", "initial_carry", "inference"):
            with pytest.raises(RevRNNError, match=rf"^\[E_ARGUMENT\] {name}: .*'hx'"):
                model(X, **{name: None})


def test_flax_modules_without_keys_or_arrays() -> None:
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] rngs: got no stream 'params'"):
        in_flax.RevGRU(3, 4, rngs=nnx.Rngs(dropout=0))
    model = in_flax.RevGRU(3, 4, 2, dropout=0.4, rngs=nnx.Rngs(0))
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] rngs: got no stream 'dropout'"):
        model(X, rngs=nnx.Rngs(params=0))
    with pytest.raises(RevRNNError, match=r"E_DTYPE\] params\['bias_l0'\]: got a ShapeDtypeStruct"):
        nnx.eval_shape(lambda: in_flax.RevGRU(3, 4, rngs=nnx.Rngs(0)))(X)


CHANGES: dict[str, tuple[Any, str]] = {
    "config": (None, r"E_ARGUMENT\] config"),
    "config.num_layers": (Config("revgru", 3, 4), r"E_ARGUMENT\] config"),
    "bias": (False, r"E_ARGUMENT\] bias"),
    "bidirectional": (True, r"E_ARGUMENT\] bidirectional"),
    "hidden_size": (8, r"E_ARGUMENT\] hidden_size"),
    "z_max": (900, r"E_ARGUMENT\] z_max.*replace"),
    "dropout": (2, r"E_ARGUMENT\] dropout"),
    "weight_hh_l0": (None, r"E_DTYPE\] params\['weight_hh_l0'\]"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_after_construction_are_refused(name: str) -> None:
    value, words = CHANGES[name]
    model = in_flax.RevGRU(3, 4, 2, rngs=nnx.Rngs(0))

    def changed_and_called() -> None:
        setattr(model, name.split(".")[0], value)
        model(X)

    with pytest.raises(RevRNNError, match=words):
        changed_and_called()


def test_another_limit_may_be_given_after_construction() -> None:
    model = in_flax.RevGRU(3, 4, max_forget_bits=3, rngs=nnx.Rngs(0))
    model.config = replace(model.config, max_forget_bits=5)
    assert model.initial_state(2).config == model(X).state.config == model.config
    model.hidden_size = 4  # as it is


def test_sources_of_keys_are_told_apart() -> None:
    """Of Flax and of Equinox; also where nothing is dropped."""
    key: Any = KEY
    rngs: Any = nnx.Rngs(0)
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] rngs: got a PRNGKey"):
        in_flax.RevGRU(3, 4, rngs=rngs)(X, rngs=key)
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] key: got Rngs"):
        EQUINOX.RevGRU(3, 4, key=rngs)


def test_states_by_flax_serialization() -> None:
    """Alone or in a tree, with the stack that they belong to."""
    state = in_flax.RevLSTM(3, 4, rngs=nnx.Rngs(0))(X).state
    for one, fresh in ((state, zeros_of(4)), ((0, {"s": state}), (0, {"s": zeros_of(4)}))):
        again = serialization.from_bytes(fresh, serialization.to_bytes(one))
        assert again == one
    assert serialization.from_bytes(zeros_of(4), serialization.to_bytes(state)).config
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] state: .*max_forget_bits"):
        serialization.from_bytes(zeros_of(5), serialization.to_bytes(state))


def zeros_of(bits: int) -> Any:
    """Return a fresh state of a stack."""
    return initial_state(Config("revlstm", 3, 4, max_forget_bits=bits - 1), 2)
