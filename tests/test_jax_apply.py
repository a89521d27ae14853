"""What ``apply`` offers beyond a plain run: checkpoints, faults, transformations."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, check, init, initial_state, value_and_grad

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


@pytest.mark.parametrize("apart", ["slices", "both", "rows twice"])
@pytest.mark.rule("BUF-021", "BUF-022")
def test_full_heads_that_spill_apart_have_room(apart: str) -> None:
    """Rows that are active one after the other, and sliced units beside others, in wordlist.

    With both every operation spills. Rows that fill up again together spill apart once more.
    """
    twice, slices = apart == "rows twice", int(apart in ("slices", "both"))
    rows, most = (10, 10) if twice else (3, 1)
    config = Config("revgru", 3, 4, max_forget_bits=most, buffer="wordlist", slice_size=slices)
    alone = jnp.eye(rows, dtype=jnp.bool_)
    mask = None if apart == "slices" else alone
    if twice:
        mask = jnp.concatenate([alone, jnp.ones((2, rows), jnp.bool_), alone])
    params, x = problem(config, rows if mask is None else len(mask), rows)
    if twice:  # Every gate z is 1, so that two operations alone and four together fill a head.
        params["bias_l0"] -= 20 * jnp.tile(jnp.repeat(jnp.array([1, 0, 0]), 2), 2)
    state = initial_state(config, rows)
    assert state.heads is not None
    # The high halves of 2^53; digits that are not 0.
    state = state._replace(h=state.h + 1234567, heads=state.heads.at[..., 1].set(2**21))

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


@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_may_have_no_rows(cell: str) -> None:
    config = dataclasses.replace(CELLS[cell], slice_size=2)
    (params, x), (_, full) = problem(config, 5, 0), problem(config, 5, 7)
    out, whole = (jax.eval_shape(lambda p, x: apply(p, x, config), params, v) for v in (x, full))

    def same_but_rows(none: jax.ShapeDtypeStruct, some: jax.ShapeDtypeStruct) -> bool:
        shape = tuple(0 if n == 7 else n for n in some.shape)
        return (none.shape, none.dtype) == (shape, some.dtype)

    assert all(jax.tree.leaves(jax.tree.map(same_but_rows, out, whole)))
    out = apply(params, x, config)
    grads = jax.jit(jax.grad(lambda p, x: apply(p, x, config).outputs.sum(), (0, 1)))(params, x)
    assert grads[1].shape == x.shape
    assert not any(g.any() for g in grads[0].values())
    assert apply(params, x, config, with_outputs=False, state=out.state).outputs.shape == (0, 0, 6)
