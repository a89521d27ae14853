"""Training by chunks in JAX: the same states and gradients as the whole, at any chunk size."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    apply,
    check,
    dropout_gains,
    engine,
    init,
    initial_state,
    step_dropout,
    value_and_grad,
)

STEPS, ROWS, WORDS = 11, 2, 7
CONFIGS = {
    "gru": Config("revgru", 3, 4, 2, max_forget_bits=3),
    "lstm wordlist": Config("revlstm", 3, 4, 1, max_forget_bits=2, buffer="wordlist"),
    "lstm slices": Config("revlstm", 3, 4, 2, max_forget_bits=3, slice_size=1),
    "gru keeping": Config("revgru", 3, 4, forgetting=False),
}


class Carry(NamedTuple):
    """An initial state as users of their own cells have it."""

    h: jax.Array
    c: jax.Array


def outer_params(seed: int) -> dict[str, jax.Array]:
    """Return the parameters of an embedding and a readout."""
    a, b = jax.random.split(jax.random.key(seed))
    return {"embed": jax.random.normal(a, (WORDS, 3)), "readout": jax.random.normal(b, (4, WORDS))}


def embed(outer: Any, inputs: Any) -> jax.Array:
    """Look tokens up."""
    x: jax.Array = outer["embed"][inputs["tokens"]]
    assert x.dtype == jnp.float32  # 64-bit types do not leak into a user's function
    assert jnp.arange(2).dtype == (jnp.int64 if jax.config.read("jax_enable_x64") else jnp.int32)
    return x


def readout(outer: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean cross-entropy."""
    logits = jax.nn.log_softmax(outputs @ outer["readout"])
    picked = jnp.take_along_axis(logits, targets[..., None], -1)
    return -picked.mean()


def problem(config: Config) -> tuple[Any, ...]:
    """Return parameters, inputs and targets."""
    params = init(jax.random.key(0), config)
    params = {name: 3 * value for name, value in params.items()}
    tokens = jax.random.randint(jax.random.key(1), (STEPS + 1, ROWS), 0, WORDS)
    return params, outer_params(2), {"tokens": tokens[:-1]}, tokens[1:]


def whole(params: Any, outer: Any, inputs: Any, targets: Any, config: Config, **more: Any) -> Any:
    """Return loss, gradients and state by the function that keeps outputs."""

    def loss(params: Any, outer: Any) -> Any:
        out = apply(params, embed(outer, inputs), config, **more)
        return readout(outer, out.outputs, targets), out

    (value, out), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, outer)
    return value, grads, out.state


def assert_close(got: Any, wanted: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max() + 1e-6


# A configuration, and chunk sizes with checkpoints.
QUICK = [("gru", [(2, 4)]), ("lstm wordlist", [(4, None)]), ("gru keeping", [(4, None)])]
LONG = [(name, [(4, None), (1, None), (16, None), (2, 4)]) for name in CONFIGS]


@pytest.mark.parametrize(
    ("name", "sizes"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)]
)
@pytest.mark.rule("GRAD-020", "SEQ-008", "SEQ-009")
def test_chunks_equal_the_whole(name: str, sizes: list[tuple[int, int | None]]) -> None:
    config = CONFIGS[name]
    given = problem(config)
    mask = jnp.arange(STEPS)[:, None] < jnp.array([STEPS, 4])
    gains = None
    if config.num_layers > 1:
        steps = jnp.arange(STEPS, dtype=jnp.int32)
        gains = dropout_gains(jax.random.key(3), 0.3, config, steps, ROWS)
    loss, grads, state = jax.jit(partial(whole, config=config, mask=mask, gains=gains))(*given)
    assert np.isfinite(loss)
    for chunk, every in sizes:
        run = jax.jit(
            partial(
                value_and_grad,
                config=config,
                readout=readout,
                embed=embed,
                mask=mask,
                gains=gains,
                chunk_size=chunk,
                checkpoint_every=every,
            )
        )
        step = run(*given)
        check(step.status)
        assert np.allclose(step.loss, loss, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(step.state), jax.tree.leaves(state), strict=True):
            assert np.array_equal(a, b)
        assert_close(step.grads, grads)


@pytest.mark.rule("GRAD-020", "SEQ-005", "SEQ-009")
def test_the_scan_recovers_outputs_of_the_top_layer() -> None:
    """Of two layers: the loss is that of outputs that are kept."""
    config = CONFIGS["gru"]
    params, outer, inputs, targets = problem(config)
    run = partial(value_and_grad, config=config, readout=readout, embed=embed, chunk_size=STEPS)
    with engine("scan"):
        outputs = jax.jit(lambda x: apply(params, x, config).outputs)(embed(outer, inputs))
        step = jax.jit(run)(params, outer, inputs, targets)
    check(step.status)
    assert np.isclose(step.loss, readout(outer, outputs, targets), rtol=1e-5)


@pytest.mark.parametrize("name", ["gru", "lstm wordlist"])
@pytest.mark.rule("GRAD-004")
def test_float_initial_states(name: str) -> None:
    """A decoder starts from what an encoder ended with, and its gradient goes back there."""
    config = CONFIGS[name]
    params, outer, inputs, targets = problem(config)
    shape = (config.num_layers, ROWS, config.hidden_size)
    first, second = (jax.random.normal(jax.random.key(k), shape) / 2 for k in (5, 6))
    hx = (first, second) if config.has_cell_state else first

    def drop_in(hx: Any) -> Any:
        out = apply(params, embed(outer, inputs), config, hx=hx)
        return readout(outer, out.outputs, targets)

    run = partial(value_and_grad, config=config, readout=readout, embed=embed, chunk_size=4)
    step = jax.jit(lambda hx: run(params, outer, inputs, targets, hx=hx))(hx)
    check(step.status)
    value, gradient = jax.jit(jax.value_and_grad(drop_in))(hx)
    assert np.allclose(step.loss, value, rtol=1e-5)
    assert isinstance(step.grad_hx, tuple) == isinstance(hx, tuple)
    assert_close(step.grad_hx, gradient)
    if config.has_cell_state:
        named = Carry(first, second)
        step = jax.eval_shape(lambda hx: run(params, outer, inputs, targets, hx=hx), named)
        assert type(step.grad_hx) is type(jax.eval_shape(jax.grad(drop_in), named)) is Carry
    bad = jax.tree.map(lambda v: v.at[0].set(jnp.nan), hx)
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        run(params, outer, inputs, targets, hx=bad)
    with pytest.raises(RevRNNError, match="hx"):
        run(params, outer, inputs, targets, hx=hx, state=initial_state(config, ROWS))


def test_carried_segments_and_sums() -> None:
    """The state goes on exactly; sums of parts are the sum of the whole; no jit is needed."""
    config = CONFIGS["gru"]
    params, outer, inputs, targets = problem(config)
    run = partial(
        value_and_grad, config=config, readout=readout, embed=embed, chunk_size=3, reduction="mean"
    )
    full = run(params, outer, inputs, targets)
    state, total = initial_state(config, ROWS), 0.0
    for part in (slice(0, 5), slice(5, None)):
        cut = jax.tree.map(lambda a, part=part: a[part], (inputs, targets))
        step = run(params, outer, *cut, state=state)
        state = step.state
        total += float(step.loss) * len(cut[1])
    assert np.isclose(total / STEPS, full.loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(full.state), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.rule("SEQ-012", "GRAD-016")
def test_dropout_depends_on_key_and_step_alone() -> None:
    config, key = CONFIGS["gru"], jax.random.key(5)
    steps = jnp.arange(STEPS, dtype=jnp.int32)
    gains = dropout_gains(key, 0.4, config, steps, ROWS)
    assert gains.dtype == jnp.int32
    assert set(np.unique(gains).tolist()) == {0, 6827}  # 4096 / 0.6
    assert np.array_equal(gains[3:5], dropout_gains(key, 0.4, config, steps[3:5], ROWS))
    locked = dropout_gains(key, 0.4, config, steps, ROWS, locked=True)
    assert (locked == locked[0]).all()
    assert not (gains == gains[0]).all()
    x = jnp.ones((STEPS, ROWS, 50))
    dropped = step_dropout(key, 0.25, x, steps)
    assert {round(value, 4) for value in np.unique(dropped).tolist()} == {0.0, 1.3333}
    assert np.array_equal(dropped[4:], step_dropout(key, 0.25, x[4:], steps[4:]))
    assert step_dropout(key, 0.0, x, steps) is x
    for rate in (-0.1, 0.95):
        with pytest.raises(RevRNNError, match="rate"):
            dropout_gains(key, rate, config, steps, ROWS)
    params, outer, inputs, _ = problem(config)
    out = apply(params, embed(outer, inputs), config, gains=gains)
    plain = apply(params, embed(outer, inputs), config)
    assert not np.array_equal(out.outputs, plain.outputs)
    with pytest.raises(RevRNNError, match="gains"):
        apply(params, embed(outer, inputs), config, gains=gains[1:])


def test_faults_are_told() -> None:
    """Too small a capacity, NaN and bad arguments: errors outside jit, a status inside."""
    config = CONFIGS["gru"]
    params, outer, inputs, targets = problem(config)
    params["bias_l0"] = params["bias_l0"] - 5  # forget much
    run = partial(value_and_grad, config=config, readout=readout, embed=embed)
    with pytest.raises(RevRNNError, match="E_OVERFLOW"):
        run(params, outer, inputs, targets, capacity=1)
    inside = jax.jit(partial(run, capacity=1))(params, outer, inputs, targets)
    assert np.isnan(inside.loss)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(inside.grads))
    with pytest.raises(RevRNNError, match="E_OVERFLOW"):
        check(inside.status)
    planes = dataclasses.replace(CONFIGS["lstm wordlist"], max_forget_bits=None)
    much, *given = problem(planes)
    much["bias_l0"] = much["bias_l0"] - 5
    spilling = partial(value_and_grad, config=planes, readout=readout, embed=embed, capacity=1)
    with pytest.raises(RevRNNError, match="E_OVERFLOW"):
        spilling(much, *given)
    bad = outer | {"embed": outer["embed"] * jnp.nan}
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        run(params, bad, inputs, targets)
    for changes, code in (
        ({"chunk_size": 0}, "E_ARGUMENT"),
        ({"reduction": "max"}, "E_ARGUMENT"),
        ({"targets": targets[1:]}, "E_SHAPE"),
        ({"readout": lambda outer, outputs, targets: outputs}, "E_SHAPE"),
        ({"embed": lambda outer, inputs: embed(outer, inputs)[..., :2]}, "E_SHAPE"),
        ({"mask": jnp.ones((STEPS, ROWS))}, "E_DTYPE"),
    ):
        arguments: dict[str, Any] = {"inputs": inputs, "targets": targets}
        with pytest.raises(RevRNNError) as caught:
            run(params, outer, **arguments | changes)
        assert caught.value.code == code
