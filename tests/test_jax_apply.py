"""What ``apply`` offers beyond a plain run: resets, checkpoints, encoders, transformations."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config, RevRNNError
from revrnn.evaluation import Implementation
from revrnn.jax_impl import (
    State,
    apply,
    check,
    dropout_gains,
    encode,
    init,
    initial_state,
    quantise_parameters,
    value_and_grad,
)
from revrnn.jax_impl.quantise import quantise

CELLS = {
    "gru": Config("revgru", 3, 6, 2, max_forget_bits=3, slice_size=1),
    "lstm": Config("revlstm", 3, 6, 2, max_forget_bits=2, slice_size=1),
}


def problem(config: Config, steps: int, rows: int) -> tuple[Any, jax.Array]:
    """Return parameters and inputs."""
    keys = jax.random.split(jax.random.key(6))
    params = {name: 2 * value for name, value in init(keys[0], config).items()}
    return params, jax.random.normal(keys[1], (steps, rows, config.input_size))


def same(a: Any, b: Any) -> bool:
    """Say whether two pytrees hold the same bits."""
    return all(
        x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def close(a: Any, b: Any) -> bool:
    """Say whether two pytrees of floats differ by rounding alone."""
    return all(
        np.abs(x - y).max() <= 1e-4 * np.abs(y).max() + 1e-6
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.parametrize(
    ("cell", "several"),
    [
        ("gru", False),
        pytest.param("gru", True, marks=pytest.mark.slow),
        pytest.param("lstm", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.rule("SEQ-013", "GRAD-016", "SEQ-008")
def test_resets_are_segments(oracle: Implementation, cell: str, several: bool) -> None:
    """The oracle, run in segments, gives the same; reversed and stored gradients are equal."""
    config, steps, rows = CELLS[cell], 9, 4
    params, x = problem(config, steps, rows)
    generator = np.random.default_rng(1)
    resets = generator.random((steps, rows)) < 0.2
    resets[0, 1] = resets[5] = True
    mask = generator.random((steps, rows)) < 0.8
    state = apply(params, x, config).state  # not zero, heads not fresh
    exact = {name: np.asarray(v) for name, v in quantise_parameters(params, config).items()}
    given: dict[str, Any] = exact | {"config": config.as_dict(), "h": np.asarray(state.h)}
    given["heads"] = np.asarray(state.heads).astype(np.int64)
    if state.c is not None:
        given["c"] = np.asarray(state.c)
    outputs = []
    for t in range(steps):
        for name in {"h", "c"} & set(given):
            given[name] = np.where(resets[t][None, :, None], 0, given[name])
        given["x"] = np.asarray(quantise("operand", x[t : t + 1], config.formats))
        given["mask"] = mask[t : t + 1]
        segment = oracle.evaluate("sequence_forward", given)
        given |= {name: segment[name] for name in ("h", "c", "heads") if name in segment}
        outputs.append(segment["outputs"])

    def loss(params: Any, x: Any, resets: Any, **options: Any) -> Any:
        out = apply(
            params, x, config, state=state, mask=jnp.asarray(mask), resets=resets, **options
        )
        return (out.outputs**2).sum(), out

    results = []
    variants: list[dict[str, Any]] = [
        {"states": "stored"},
        {"checkpoint_every": 4, "reset_capacity": 10},
    ]
    if several:
        variants += [{"reset_capacity": 40}, {"chunk_size": 1, "reset_capacity": 11}]
    for variant in variants:
        options = {"chunk_size": 4} | variant
        program = jax.value_and_grad(
            lambda p, x, r, options=options: loss(p, x, r, **options), (0, 1), has_aux=True
        )
        (_, out), grads = jax.jit(program)(params, x, jnp.asarray(resets))
        check(out.status)
        assert np.array_equal(out.state.h, given["h"])
        assert np.array_equal(out.state.heads, given["heads"])
        assert np.array_equal(out.outputs, np.concatenate(outputs).astype(np.float32) / 2**23)
        results.append(grads)
    assert same(results[0], results[1])
    if several:
        assert same(results[0], results[2])
        assert close(results[3], results[0])
    # Outside jit they are counted; under jit they must be said, and too many are reported.
    eager = jax.grad(lambda p: loss(p, x, jnp.asarray(resets), chunk_size=4)[0])(params)
    assert same(eager, results[0][0])
    with pytest.raises(RevRNNError, match="reset_capacity"):
        jax.jit(jax.grad(lambda p, r: loss(p, x, r)[0]))(params, jnp.asarray(resets))
    with pytest.raises(RevRNNError, match=r"E_OVERFLOW.*reset_capacity"):
        jax.grad(lambda p: loss(p, x, jnp.asarray(resets), reset_capacity=3)[0])(params)


@pytest.mark.rule("GRAD-016")
def test_resets_cut_gradients() -> None:
    """A row's gradients are those of a segment of its own; before the reset there are none."""
    config = CELLS["lstm"]
    params, x = problem(config, 10, 2)
    resets = jnp.zeros((10, 2), jnp.bool_).at[6, 0].set(True)
    left = apply(params, x[:6], config).state
    assert left.c is not None
    begin = State(left.h.at[:, 0].set(0), left.c.at[:, 0].set(0), left.heads)

    def whole(params: Any, x: Any) -> Any:
        out = apply(params, x, config, resets=resets, reset_capacity=1, chunk_size=5)
        return (out.outputs[6:, 0] ** 2).sum()

    def segment(params: Any, x: Any) -> Any:
        return (apply(params, x, config, state=begin).outputs[:, 0] ** 2).sum()

    grads, grad_x = jax.jit(jax.grad(whole, (0, 1)))(params, x)
    assert close((grads, grad_x[6:]), jax.jit(jax.grad(segment, (0, 1)))(params, x[6:]))
    assert not grad_x[:6].any()


@pytest.mark.rule("SEQ-013")
def test_streaming_with_resets_is_apply_with_resets() -> None:
    config = CELLS["gru"]
    params, x = problem(config, 9, 2)
    resets = jnp.zeros((9, 2), jnp.bool_).at[3, 0].set(True).at[7, 1].set(True)

    def readout(outer: Any, outputs: jax.Array, targets: Any) -> jax.Array:
        total: jax.Array = (outputs * targets).sum() * outer
        return total

    targets = jax.random.normal(jax.random.key(8), (9, 2, 6))
    outer = jnp.float32(2)

    def whole(params: Any, outer: Any) -> Any:
        out = apply(params, x, config, resets=resets, reset_capacity=2)
        return readout(outer, out.outputs, targets)

    loss, grads = jax.jit(jax.value_and_grad(whole, (0, 1)))(params, outer)
    for every in (None, 4):
        step = value_and_grad(
            params,
            outer,
            x,
            targets,
            config,
            readout=readout,
            resets=resets,
            chunk_size=2,
            reduction="sum",
            checkpoint_every=every,
        )
        assert np.isclose(step.loss, loss, rtol=1e-5)
        assert close(step.grads, grads)


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


@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
@pytest.mark.rule("QNT-004", "ERR-003")
def test_a_fault_spoils_what_follows(buffer: str) -> None:
    """Under jit floats are NaN from the fault on, and the next call refuses the carried state."""
    config = dataclasses.replace(CELLS["lstm"], buffer=buffer)
    params, x = problem(config, 4, 2)
    run = jax.jit(lambda x, state: apply(params, x, config, state=state))
    out = run(x.at[2, 0, 0].set(jnp.inf), initial_state(config, 2))
    assert np.isfinite(out.outputs[:2]).all()
    for value in (out.outputs[2:], out.h_n, out.c_n, out.context):
        assert np.isnan(value).all()
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        check(out.status)
    with pytest.raises(RevRNNError, match="E_RANGE"):
        check(run(x, out.state).status)


@pytest.mark.parametrize("apart", ["rows", "slices"])
@pytest.mark.rule("BUF-021", "BUF-022")
def test_full_heads_that_spill_apart_have_room(apart: str) -> None:
    """Rows that are active one after the other, and sliced units beside others, in wordlist."""
    sliced = apart == "slices"
    config = Config("revgru", 3, 4, max_forget_bits=1, buffer="wordlist", slice_size=int(sliced))
    params, x = problem(config, 3, 3)
    assert config.planes_bound(3) == 1
    state = initial_state(config, 3)
    assert state.heads is not None
    state = state._replace(heads=state.heads.at[..., 1].set(2**21))  # the high halves of 2^53
    mask = None if sliced else jnp.eye(3, dtype=jnp.bool_)

    def loss(params: Any, states: str) -> Any:
        out = apply(params, x, config, state=state, mask=mask, states=states)
        return (out.outputs**2).sum()

    reversed_states, stored = (jax.grad(loss)(params, states) for states in ("reversed", "stored"))
    assert same(reversed_states, stored)


@pytest.mark.rule("GRAD-002")
def test_an_input_at_the_end_of_the_range_has_a_gradient() -> None:
    """32512 of 2^-12 is the largest operand; what rounds to more is clipped and has none."""
    config = Config("revgru", 3, 4)
    params, x = problem(config, 2, 2)
    x = x.at[0, :, 0].set(jnp.array([7.9375, 7.9378]))
    x = x.at[1, :, 0].set(-x[0, :, 0])
    gradient = jax.jit(jax.grad(lambda x: (apply(params, x, config).outputs ** 2).sum()))(x)
    assert gradient[:, 0].all()
    assert not gradient[:, 1, 0].any()


@pytest.mark.rule("MUL-006")
def test_wraps_are_counted_over_all_chunks() -> None:
    """Every unit adds one a step and leaves int32 in the second of four chunks."""
    config = Config("revgru", 3, 4, forgetting=False)
    params = {name: jnp.zeros(shape) for name, shape in config.parameter_shapes().items()}
    gates = jnp.repeat(jnp.tile(jnp.array([-20.0, 0.0, 20.0]), 2), 2)  # z, r, g of both groups
    params["bias_l0"] = gates
    hx = jnp.full((1, 2, 4), 254.5)
    for options in ({"chunk_size": 1}, {"chunk_size": 1, "checkpoint_every": 2}, {}):
        run = jax.jit(lambda x, options=options: apply(params, x, config, hx=hx, **options))
        out = run(jnp.zeros((4, 2, 3)))
        check(out.status)
        assert int(out.wraps) == 8
        assert np.allclose(out.outputs[:, 0, 0], [255.5, -255.5, -254.5, -253.5], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.rule("SEQ-009", "GRAD-020")
def test_checkpoints_change_nothing(cell: str) -> None:
    config = CELLS[cell]
    params, x = problem(config, 13, 2)

    def loss(params: Any, **options: Any) -> Any:
        out = apply(params, x, config, chunk_size=4, **options)
        return (out.outputs**2).sum() + out.h_n.sum(), (out.state, out.outputs, out.slices)

    wanted = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert all(np.isfinite(grad).all() for grad in wanted[1].values())  # no fault was met
    for every in (4, 7, 12, 100):
        program = jax.value_and_grad(
            lambda p, every=every: loss(p, checkpoint_every=every), has_aux=True
        )
        assert same(jax.jit(program)(params), wanted), every


def test_derivatives_that_would_be_wrong_are_refused() -> None:
    """The gradients that streaming gives are no function to be differentiated."""
    config = CELLS["gru"]
    params, x = problem(config, 3, 2)

    def loss(params: Any) -> Any:
        return value_and_grad(
            params, jnp.float32(1), x, x, config, readout=lambda o, h, t: o * h.sum()
        ).loss

    with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
        jax.grad(loss)(params)
    with pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
        jax.jvp(loss, (params,), (params,))


def test_lowered_ahead_of_time_and_donated() -> None:
    """A program compiled from shapes alone; the carried state and the parameters in place."""
    config = CELLS["lstm"]
    params, x = problem(config, 6, 2)

    def step(params: Any, state: Any, x: Any) -> Any:
        def loss(params: Any) -> Any:
            out = apply(params, x, config, state=state)
            return (out.outputs**2).sum(), out

        (_, out), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), out.state, out.status

    state = initial_state(config, 2)
    wanted = jax.jit(step)(params, state, x)
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), (params, state, x))
    program = jax.jit(step, donate_argnums=(0, 1)).lower(*shapes).compile()
    donated = program(*jax.tree.map(jnp.copy, (params, state)), x)
    check(donated[2])
    assert same(donated, wanted)


def test_compiled_code_does_not_grow_with_the_length() -> None:
    """The program of a long sequence has as many operations as that of a short one."""
    config = Config("revgru", 3, 6)
    params, _ = problem(config, 1, 1)

    def operations(steps: int) -> int:
        x = jax.ShapeDtypeStruct((steps, 2, 3), jnp.float32)
        program = jax.jit(jax.grad(lambda p, x: (apply(p, x, config).outputs ** 2).sum()))
        return len(program.lower(params, x).as_text().splitlines())

    assert operations(64) == operations(4096)


PARALLEL = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from revrnn import Config
from revrnn.jax_impl import apply, check, init, initial_state, value_and_grad
assert jax.device_count() == 2
mesh = Mesh(np.array(jax.devices()), ("data",))

def assert_close(grads, wanted):
    for name, grad in grads.items():
        scale = np.abs(wanted[name]).max()
        assert np.abs(grad - wanted[name]).max() <= 1e-4 * scale + 1e-6, name

for buffer in ("stream", "wordlist"):
    config = Config("revlstm", 3, 6, 2, max_forget_bits=3, buffer=buffer)
    params = init(jax.random.key(0), config)
    x = jax.random.normal(jax.random.key(1), (20, 4, 3))
    target = jax.random.normal(jax.random.key(2), (20, 4, 6))

    def loss(params, x, target):
        out = apply(params, x, config)
        return (out.outputs * target).sum(), (out.state, out.status)

    def streamed(params, x, target):
        step = value_and_grad(
            params, jnp.float32(1), x, target, config, reduction="sum",
            readout=lambda one, outputs, target: one * (outputs * target).sum(),
        )
        return (step.loss, (step.state, step.status)), step.grads[0]

    applied = jax.value_and_grad(loss, has_aux=True)
    for name, program in (("apply", applied), ("streamed", streamed)):
        def shard(params, x, target):
            (value, (state, status)), grads = program(params, x, target)
            if name == "streamed":  # for apply JAX adds the gradients of what all devices share
                grads = jax.lax.psum(grads, "data")
            return (jax.lax.psum(value, "data"), grads), state, status[None]

        rows = P(None, "data")
        states = jax.tree.map(
            lambda v: P("data") if v.ndim == 2 or v.dtype == jnp.uint32 else rows,
            initial_state(config, 4),
        )
        parallel = jax.jit(jax.shard_map(
            shard, mesh=mesh, in_specs=(P(), rows, rows), out_specs=(P(), states, P("data")),
        ))
        (value, grads), state, status = parallel(params, x, target)
        check(status)
        (wanted, (one, _)), wanted_grads = jax.jit(program)(params, x, target)
        if buffer == "stream":  # there rows do not depend on their neighbours
            assert np.isclose(value, wanted, rtol=1e-5)
            assert_close(grads, wanted_grads)
            for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(one), strict=True):
                assert np.array_equal(a, b)
        # The compiler's own partitioning: sharded arrays into an ordinary jit.
        cut = [jax.device_put(v, NamedSharding(mesh, rows)) for v in (x, target)]
        (value, (state, status)), grads = jax.jit(program)(params, *cut)
        check(status)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(one), strict=True):
            assert np.array_equal(a, b)
        assert_close(grads, wanted_grads)
print("done")
"""


@pytest.mark.slow
def test_two_devices_give_the_gradients_of_one() -> None:
    """Data-parallel over two simulated devices, by shard_map and by the compiler."""
    process = subprocess.run(
        [sys.executable, "-c", PARALLEL],
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("done\n")
