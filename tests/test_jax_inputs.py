"""JAX: what a user gives that cannot be taken is named; steps of ``embed`` are kept apart."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax import export
from jax.experimental import sparse

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, encode, init, initial_state, value, value_and_grad
from revrnn.plan import plan

CONFIG = Config("revgru", 3, 4, max_forget_bits=3)
STEPS, ROWS = 7, 2
PARAMS = init(jax.random.key(0), CONFIG)
X: Any = np.asarray(jax.random.normal(jax.random.key(1), (STEPS, ROWS, 3)))
HX: Any = np.zeros((1, ROWS, 4), np.float32)


def _loss(outer: Any, outputs: jax.Array, targets: Any) -> jax.Array:
    return jnp.square(outputs).mean()


def _read(readout: Callable[..., Any], x: Any = X, targets: Any = X, **given: Any) -> Any:
    return value(PARAMS, {}, x, targets, CONFIG, readout=readout, chunk_size=3, **given)


def _masked(array: Any) -> Any:
    return np.ma.masked_array(array, mask=np.zeros(np.shape(array), bool))


def _deleted(array: Any) -> Any:
    gone = jnp.array(array)
    gone.delete()
    return gone


GONE = initial_state(CONFIG, ROWS)._replace(h=_deleted(HX))
SPARSE: Any = sparse.BCOO.fromdense(PARAMS["weight_hh_l0"])
NODE: Any = optax.MaskedNode()

REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "masked x": (lambda: apply(PARAMS, _masked(X), CONFIG), "E_DTYPE", "x"),
    "masked hx": (lambda: apply(PARAMS, X, CONFIG, hx=_masked(HX)), "E_DTYPE", "hx"),
    "masked mask": (
        lambda: apply(PARAMS, X, CONFIG, mask=_masked(X[..., 0] > 0)),
        "E_DTYPE",
        "mask",
    ),
    "masked inputs": (lambda: _read(_loss, _masked(X)), "E_DTYPE", "inputs"),
    "masked targets": (lambda: _read(_loss, targets={"y": _masked(X)}), "E_DTYPE", "targets['y']"),
    "tensor x": (lambda: apply(PARAMS, torch.ones(7, 2, 3), CONFIG), "E_DTYPE", "x"),  # type: ignore[arg-type]
    "tensor inputs": (lambda: _read(_loss, torch.ones(7, 2, 3)), "E_DTYPE", "inputs"),
    "tensor targets": (lambda: _read(_loss, targets=torch.ones(7)), "E_DTYPE", "targets"),
    "sparse x": (lambda: apply(PARAMS, SPARSE, CONFIG), "E_DTYPE", "x"),
    "sparse weights": (
        lambda: apply(PARAMS | {"weight_hh_l0": SPARSE}, X, CONFIG),
        "E_DTYPE",
        "params['weight_hh_l0']",
    ),
    "no weights": (
        lambda: apply(PARAMS | {"weight_hh_l0": NODE}, X, CONFIG),
        "E_DTYPE",
        "params['weight_hh_l0']",
    ),
    "deleted x": (lambda: apply(PARAMS, _deleted(X), CONFIG), "E_ARGUMENT", "x"),
    "donated state": (lambda: apply(PARAMS, X, CONFIG, state=GONE), "E_ARGUMENT", "state.h"),
    "deleted targets": (lambda: _read(_loss, targets=_deleted(X)), "E_ARGUMENT", "targets"),
    "wide key": (lambda: init(jnp.zeros(4, jnp.uint32), CONFIG), "E_ARGUMENT", "key"),
    "narrow key": (lambda: init(jnp.zeros(1, jnp.uint32), CONFIG), "E_ARGUMENT", "key"),
    "key under jit": (
        lambda: jax.jit(lambda key: init(key, CONFIG))(jnp.zeros(3, jnp.uint32)),
        "E_ARGUMENT",
        "key",
    ),
    "rows": (lambda: initial_state(CONFIG, 2**40), "E_ARGUMENT", "batch_size"),
    "layers": (
        lambda: init(jax.random.key(0), Config("revgru", 3, 4, 2**40)),
        "E_ARGUMENT",
        "num_layers",
    ),
    "features": (
        lambda: init(jax.random.key(0), Config("revgru", 2**40, 4)),
        "E_SHAPE",
        "input_size",
    ),
    "units": (lambda: initial_state(Config("revgru", 3, 2**40), 1), "E_SHAPE", "hidden_size"),
    "weights": (
        lambda: init(jax.random.key(0), Config("revgru", 3, 2**20)),
        "E_ARGUMENT",
        "hidden_size",
    ),
    "readout of one": (lambda: _read(lambda outputs: outputs.mean()), "E_ARGUMENT", "readout"),
    "readout with more": (
        lambda: _read(lambda o, y, t: (y.mean(), {"n": 1})),
        "E_SHAPE",
        "readout",
    ),
    "complex loss": (lambda: _read(lambda o, y, t: y.mean() * 1j), "E_DTYPE", "readout"),
    "embed of one": (lambda: _read(_loss, embed=lambda x: x), "E_ARGUMENT", "embed"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_what_cannot_be_taken_is_named(case: str) -> None:
    call, code, argument = REFUSED[case]
    with pytest.raises(RevRNNError) as caught:
        call()
    assert (caught.value.code, caught.value.argument) == (code, argument)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64 of NumPy", "float64"])
@pytest.mark.rule("QNT-003")
def test_floats_of_other_types_are_converted(kind: str) -> None:
    """Whatever is given in a narrow type is the same in float32; gradients have its type."""
    narrow = jnp.dtype(kind.split()[0] if "64" not in kind else "float32")
    params, x, hx = jax.tree.map(lambda v: jnp.asarray(v, narrow), (PARAMS, X, HX))
    plain = jax.tree.map(lambda v: v.astype(jnp.float32), (params, x, hx))
    with jax.enable_x64(kind == "float64"):
        if "64" in kind:
            make = np.asarray if "NumPy" in kind else jnp.asarray
            params, x, hx = jax.tree.map(lambda v: make(v, np.float64), (params, x, hx))
        wanted = jax.dtypes.canonicalize_dtype(np.float64) if "64" in kind else narrow
        out = apply(params, x, CONFIG, hx=hx)
        assert out.outputs.dtype == jnp.float32
        assert jnp.array_equal(out.outputs, apply(plain[0], plain[1], CONFIG, hx=plain[2]).outputs)

        def embed(_: Any, x: jax.Array) -> jax.Array:
            return x.astype(narrow)

        given: dict[str, Any] = {"readout": _loss, "chunk_size": 7}
        step = value_and_grad(params, {}, x, x, CONFIG, hx=hx, embed=embed, **given)
        same = value_and_grad(plain[0], {}, plain[1], plain[1], CONFIG, hx=plain[2], **given)
        assert step.loss == same.loss
        assert {v.dtype for v in jax.tree.leaves((step.grads, step.grad_hx))} == {wanted}


@pytest.mark.parametrize("kind", [ChainMap, MappingProxyType])
def test_mappings_that_jax_does_not_know(kind: Any) -> None:
    """They are taken for their arrays; gradients come by name."""
    wanted = value_and_grad(PARAMS, {}, X, X, CONFIG, readout=_loss)
    step = value_and_grad(kind(PARAMS), {}, X, X, CONFIG, readout=_loss)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, step.grads[0], wanted.grads[0]))
    assert value(kind(PARAMS), {}, X, X, CONFIG, readout=_loss).loss == step.loss
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT\] params\['a'\]"):
        value(kind({"a": X}), {}, X, X, CONFIG, readout=_loss)


FLAT = np.zeros((STEPS, ROWS, 3))


@pytest.mark.parametrize("kind", [">f4", ">f8", np.longdouble])
def test_arrays_that_jax_does_not_know_are_named(kind: Any) -> None:
    if np.dtype(kind) == np.float64:
        pytest.skip("no wider floats here")
    with pytest.raises(RevRNNError, match=r"E_DTYPE\] x:"):
        apply(PARAMS, FLAT.astype(kind), CONFIG)  # type: ignore[arg-type]
    with pytest.raises(RevRNNError, match=r"E_DTYPE\] targets:"):
        _read(_loss, targets=FLAT.astype(kind))


def _outputs(x: jax.Array) -> jax.Array:
    outputs: jax.Array = apply(PARAMS, x, CONFIG).outputs
    return outputs


def test_forward_mode_and_unknown_sizes_are_refused_by_name() -> None:
    x = jnp.asarray(X)
    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED\] apply: .*forward mode"):
        jax.jvp(lambda x: apply(PARAMS, x, CONFIG).outputs, (x,), (x,))
    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED\] streaming: .*forward mode"):
        jax.jvp(lambda x: value_and_grad(PARAMS, {}, x, x, CONFIG, readout=_loss).loss, (x,), (x,))
    # Under jit, and where the derivative is taken later, the error is JAX's own.
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(jax.jit(_outputs), (x,), (x,))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.linearize(_outputs, x)[1](x)
    rows = jax.ShapeDtypeStruct(export.symbolic_shape("7, b, 3"), jnp.float32)
    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED\] x: got shape \[7, b, 3\]"):
        export.export(jax.jit(lambda x: apply(PARAMS, x, CONFIG).outputs))(rows)


def _mean_of_some(outer: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    keep = targets[..., :1] > 0
    return (jnp.square(outputs) * keep).sum() / keep.sum()


@pytest.mark.parametrize("readout", [_loss, _mean_of_some])
def test_shard_map_outside_jit(readout: Any) -> None:
    """With the engine that this machine has for one device."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))

    def loss(x: jax.Array) -> jax.Array:
        step = value_and_grad(PARAMS, {}, x, x, CONFIG, readout=readout, chunk_size=4)
        mean: jax.Array = jax.lax.pmean(step.loss, "rows")
        return mean

    rows = jax.sharding.PartitionSpec(None, "rows")
    mapped = jax.shard_map(loss, mesh=mesh, in_specs=rows, out_specs=jax.sharding.PartitionSpec())
    wanted = value_and_grad(PARAMS, {}, X, X, CONFIG, readout=readout).loss
    assert jnp.allclose(mapped(jnp.asarray(X)), wanted)


def test_more_room_than_can_be_needed_is_not_taken() -> None:
    out = jax.grad(lambda x: apply(PARAMS, x, CONFIG, capacity=2**30 - 1).outputs.sum())(
        jnp.asarray(X)
    )
    assert jnp.isfinite(out).all()


def test_plans_may_be_of_any_size() -> None:
    assert plan(CONFIG, 2**40, 2**40).plain > 2**80


READOUTS: dict[str, Callable[..., Any]] = {
    "number of steps": lambda o, y, t: jnp.square(y * len(y) - 1).mean(),
    "places": lambda o, y, t: (jnp.arange(len(y))[:, None, None] * y).mean(),
    "places' sum": lambda o, y, t: jnp.square(y).sum() / jnp.arange(len(y)).sum(),
}


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_readouts_made_of_a_chunks_length_are_refused(name: str) -> None:
    with pytest.raises(RevRNNError) as caught:
        _read(READOUTS[name])
    assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", "readout")


PLACES = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None, None]
Embed = Callable[[Any, Any], Any]
MIXED: dict[str, Embed] = {
    "running sum": lambda o, x: x.cumsum(0),
    "shift": lambda o, x: jnp.concatenate([x[:1] * 0, x[:-1]]),
    "centred": lambda o, x: x - x.mean(0),
    "positions": lambda o, x: x + jnp.arange(len(x))[:, None, None],
    "places": lambda o, x: x + PLACES[: len(x)],
    "number of steps": lambda o, x: x * len(x),
    "loop": lambda o, x: jax.lax.scan(lambda s, a: (s + a, s + a), x[0], x)[1],
    "Python's loop": lambda o, x: jnp.stack([step * k for k, step in enumerate(x)]),
}
APART: dict[str, Embed] = {
    "features": lambda o, x: jnp.tanh(x) + x.mean(-1, keepdims=True),
    "loop": lambda o, x: jax.lax.map(jnp.tanh, x),
    "Python's loop": lambda o, x: jnp.stack([jnp.tanh(step) for step in x]),
    "closed-over key": lambda o, x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_steps_of_embed_that_depend_on_one_another_are_refused(name: str) -> None:
    with pytest.raises(RevRNNError, match="depend on one another") as caught:
        _read(_loss, embed=MIXED[name])
    assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", "embed")


def test_encoders_refuse_them_too() -> None:
    config = Config("revgru", 3, 4, slice_size=1)
    with pytest.raises(RevRNNError, match="depend on one another"):
        encode(PARAMS, {}, X, config, embed=MIXED["shift"], chunk_size=3)


@pytest.mark.parametrize("name", APART)
def test_steps_of_embed_that_are_kept_apart_are_taken(name: str) -> None:
    jax.eval_shape(lambda: _read(_loss, embed=APART[name]))
