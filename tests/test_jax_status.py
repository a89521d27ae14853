"""What a call reports, outside jit as an error and inside as a status; and what it refuses."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_jax import floats, initial_floats, loss_of

from revrnn import Config, RevRNNError
from revrnn.conformance.contents import Shape
from revrnn.jax_impl import apply, check, initial_state
from revrnn.jax_impl.buffer import StreamBuffer, WordlistBuffer
from revrnn.jax_impl.call import Inputs, _backward, _forward
from revrnn.jax_impl.settings import settings_of
from revrnn.jax_impl.status import OVERFLOW, REVERSAL, UNDERFLOW
from revrnn.jax_impl.x64 import with_x64
from strategies import FIXED


@pytest.mark.rule("BUF-035")
def test_a_store_that_is_too_small_is_reported() -> None:
    """Never silent: an error outside jit; inside a status, and gradients that are NaN."""
    config, shape = Config("revgru", 3, 6), Shape(9, 3)
    params, x = floats(config, shape)
    params["bias_l0"] = params["bias_l0"] - 6  # forget almost everything
    hx = initial_floats(config, shape)
    with pytest.raises(RevRNNError, match="E_OVERFLOW"):
        jax.value_and_grad(loss_of(config, capacity=4), has_aux=True)(params, x, hx)
    program = jax.jit(jax.value_and_grad(loss_of(config, capacity=4), has_aux=True))
    (_, out), grads = program(params, x, hx)
    with pytest.raises(RevRNNError, match="E_OVERFLOW"):
        check(out.status)
    assert all(np.isnan(value).all() for value in grads.values())
    program = jax.jit(jax.value_and_grad(loss_of(config, capacity=400), has_aux=True))
    (_, out), grads = program(params, x, hx)
    check(out.status)
    assert all(np.isfinite(value).all() for value in grads.values())


@pytest.mark.parametrize("layout", ["stream", "wordlist"])
@pytest.mark.rule("BUF-035")
def test_a_store_may_be_filled_to_its_end(layout: str) -> None:
    """Two words, or two planes; with room for one the second is too much."""
    full, kind = (2**30, jnp.int32) if layout == "stream" else (2**53, jnp.int64)
    heads = np.array([full, full + 1])
    z, low, active = jnp.ones((1, 2), jnp.int32), jnp.array([[5, 6]]), jnp.ones((1, 2), jnp.bool_)

    @with_x64
    def run(room: int) -> tuple[int, int, bool]:
        def full_heads(buffer: Any) -> Any:
            return buffer._replace(heads=jnp.array([heads], kind))

        none, empty = jnp.int32(0), jnp.zeros((1, 2), kind)
        buffer: Any = StreamBuffer(empty, jnp.zeros(room, jnp.uint16), none, none)
        if layout == "wordlist":
            planes = jnp.zeros((room, 1, 2), jnp.int64)
            buffer = WordlistBuffer(empty, planes, none, jnp.zeros(2, jnp.uint8), none, none)
        buffer, _ = full_heads(buffer).push(low, z, active)
        after = buffer
        if layout == "wordlist":
            buffer, _ = full_heads(buffer).push(low, z, active)
        pushed = int(buffer.faults())
        buffer, digits = buffer.pop(0 * z, z, active)
        if layout == "wordlist":
            assert (buffer.heads[0] == heads).all()
            buffer, digits = after._replace(words=buffer.words).pop(0 * z, z, active)
        return (
            pushed,
            int(buffer.length),
            bool((digits == low).all() & (buffer.heads[0] == heads).all()),
        )

    assert run(2) == (0, 0, True)
    assert run(1)[0] == OVERFLOW


@pytest.mark.rule("QNT-004")
def test_nan_is_reported() -> None:
    config, shape = FIXED[1]
    params, x = floats(config, shape)
    bad = x.at[1, 0, 0].set(jnp.nan)
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        apply(params, bad, config)
    out = jax.jit(lambda v: apply(params, v, config))(bad)
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        check(out.status)
    with pytest.raises(RevRNNError, match="E_ARGUMENT"):
        jax.jit(lambda v: check(apply(params, v, config).status))(x)


@pytest.mark.rule("QNT-004", "ERR-003")
@pytest.mark.parametrize("differentiated", [False, True])
def test_where_nan_is(differentiated: bool) -> None:
    """Outside jit the first array that holds it is named, also where gradients are asked for."""
    config, shape = Config("revlstm", 3, 4), Shape(3, 2)
    params, x = floats(config, shape)
    h = jnp.zeros((1, 2, 4))
    given: dict[str, Any] = {
        "params['bias_l0']": (params | {"bias_l0": params["bias_l0"] * jnp.nan}, x, (h, h)),
        "x": (params, x * jnp.inf, (h, h)),
        "hx[1]": (params, x, (h, h * jnp.nan)),
    }

    def outputs(params: Any, x: Any, hx: Any) -> jax.Array:
        total: jax.Array = apply(params, x, config, hx=hx).outputs.sum()
        return total

    for name, arguments in given.items():
        with pytest.raises(RevRNNError, match="E_NONFINITE") as caught:
            (jax.grad(outputs) if differentiated else outputs)(*arguments)
        assert caught.value.argument == name


@pytest.mark.rule("SEQ-009")
def test_a_failed_reversal_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof: words that are not those that were pushed end in an error, not in gradients."""
    engine = import_module("revrnn.jax_impl.engine")  # a function has the name too
    config, shape = Config("revgru", 3, 8), Shape(7, 3)
    params, x = floats(config, shape)
    params["bias_l0"] = params["bias_l0"] - 6
    right = vars(engine)["store_of"]

    def damaged(buffer: Any) -> Any:
        store = right(buffer)
        return jax.tree.map(lambda v: v ^ 1 if v.ndim else v, store)

    monkeypatch.setattr(engine, "store_of", damaged)
    # A configuration of its own, so that no program compiled before is used.
    with pytest.raises(RevRNNError, match=r"E_REVERSAL|E_UNDERFLOW"):
        jax.grad(lambda p: apply(p, x, config).outputs.sum())(params)


@pytest.mark.rule("SEQ-009")
@pytest.mark.parametrize("every", [None, 4])
def test_any_damage_between_forward_and_back_is_found(every: int | None) -> None:
    """One bit of the final state, a head, a word or a checkpoint: gradients are never wrong."""
    config = Config("revgru", 3, 8, buffer="stream")
    params, x = floats(config, Shape(11, 3))
    params["bias_l0"] = params["bias_l0"] - 6  # forget much, so that words are pushed
    settings = settings_of(config, 4, every)
    start, mask = initial_state(config, 3), jnp.ones((11, 3), jnp.bool_)
    inputs = Inputs(params, x, None, start, mask, None, None)
    out, kept = _forward(settings, True, inputs, keep=True)
    assert kept is not None
    gradient = (jnp.ones_like(out.outputs), None, None, None)

    def status(kept: Any) -> int:
        return int(_backward(settings, inputs, kept, gradient)[-1])

    assert status(kept) == 0
    end = kept.end
    state = end.state
    damaged = [
        kept._replace(end=end._replace(state=state._replace(h=state.h.at[0, 1, 2].add(1)))),
        kept._replace(end=end._replace(state=state._replace(heads=state.heads ^ 1))),
    ]
    if every is None:
        words = end.stores.words
        assert words.length > 0
        changed = words._replace(words=words.words.at[0].add(1))
        damaged.append(kept._replace(end=end._replace(stores=end.stores._replace(words=changed))))
        more = words._replace(length=words.length + 1)
        damaged.append(kept._replace(end=end._replace(stores=end.stores._replace(words=more))))
    else:
        whole, short = kept.starts
        changed = whole._replace(h=whole.h.at[1, 0, 0, 0].add(1))
        damaged.append(kept._replace(starts=(changed, short)))
    for case in damaged:
        assert status(case) in (REVERSAL, UNDERFLOW)


@pytest.mark.rule("GRAD-022")
def test_second_derivatives_and_forward_mode_are_refused() -> None:
    config, shape = FIXED[1]
    params, x = floats(config, shape)

    def loss(v: Any) -> Any:
        return (apply(params, v, config).outputs ** 2).sum()

    with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
        jax.grad(lambda v: (jax.grad(loss)(v) ** 2).sum())(x)
    with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
        jax.jvp(loss, (x,), (x,))


@pytest.mark.rule("ERR-004", "BUF-037")
def test_bad_input() -> None:
    config, shape = FIXED[1]
    params, x = floats(config, shape)
    state = initial_state(config, shape.rows)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("E_SHAPE", {"x": x[..., :2]}),
        ("E_SHAPE", {"x": x[0]}),
        ("E_DTYPE", {"x": x.astype(jnp.int32)}),
        ("E_ARGUMENT", {"params": {}}),
        ("E_DTYPE", {"mask": jnp.ones(x.shape[:2])}),
        ("E_SHAPE", {"mask": jnp.ones((2, 2), jnp.bool_)}),
        ("E_ARGUMENT", {"states": "both"}),
        ("E_ARGUMENT", {"capacity": 0}),
        ("E_ARGUMENT", {"hx": x, "state": state}),
        ("E_SHAPE", {"hx": x}),
        ("E_UNSUPPORTED", {"config": Config("revgru", 3, 6, buffer="bigint")}),
    ]
    for code, change in cases:
        given: dict[str, Any] = {"params": params, "x": x, "config": config} | change
        with pytest.raises(RevRNNError) as caught:
            apply(given.pop("params"), given.pop("x"), given.pop("config"), **given)
        assert caught.value.code == code, change
