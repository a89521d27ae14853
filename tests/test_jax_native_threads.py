"""JAX's native engine with the rows of a chunk shared among threads: the bits of one thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_agreement import assert_engines_agree

from revrnn import Config
from revrnn.jax_impl import apply, engine, init, initial_state, value, value_and_grad
from revrnn.jax_impl.native import threads

STEPS, ROWS = 21, 7  # of 3 shares one has 3 rows; two chunks and the rest of one


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share whatever there is among three threads."""
    monkeypatch.setattr(threads, "threads", lambda: 3)
    monkeypatch.setattr(threads, "_WORTH", 1)


def given(cell: str, **more: Any) -> tuple[Config, dict[str, jax.Array], jax.Array, dict[str, Any]]:
    """Return a stack, parameters, inputs, and masks and resets."""
    config = Config(cell, 5, 12, **more)
    x = jax.random.normal(jax.random.key(1), (STEPS, ROWS, 5))
    mask = jnp.arange(STEPS)[:, None] < jax.random.randint(jax.random.key(2), (ROWS,), 1, 22)
    resets = jax.random.uniform(jax.random.key(3), (STEPS, ROWS)) < 0.2
    return config, init(jax.random.key(0), config), x, {"mask": mask, "resets": resets}


@pytest.mark.usefixtures("three_threads")
@pytest.mark.rule("BUF-036", "SEQ-002", "SEQ-007", "SEQ-013", "GRAD-020", "GEN-001")
@pytest.mark.parametrize("cell", ["revlstm", pytest.param("revgru", marks=pytest.mark.slow)])
def test_threads_have_the_scans_bits(cell: str) -> None:
    """Two layers, masks, resets, slices, pieces; words, states and outputs, and gradients."""
    config, params, x, more = given(cell, num_layers=2, max_forget_bits=3, slice_size=3)
    assert threads.shares(config, 16, ROWS) == 3

    def loss(params: Any, x: jax.Array) -> Any:
        more_ = more | {"reset_capacity": 64, "checkpoint_every": 16}
        out = apply(params, x, config, state=initial_state(config, ROWS), **more_)
        assert out.slices is not None
        return (out.outputs**2).sum() + (out.slices**2).sum(), out

    assert_engines_agree("native", loss, params, x)


@pytest.mark.rule("BUF-036", "GEN-001")
@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"forgetting": False}, marks=pytest.mark.slow, id="non-forgetting"),
        pytest.param({"max_forget_bits": None}, id="no limit"),
    ],
)
def test_gradients_have_the_bits_of_one_thread(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In streaming, by reversal."""
    config, params, x, _ = given("revlstm", **more)

    def readout(_: Any, outputs: jax.Array, __: Any) -> jax.Array:
        return (outputs**2).mean()

    def train() -> Any:
        data: Any = (params, {}, x, jnp.zeros(STEPS), config)
        return value_and_grad(*data, readout=readout), value(*data, readout=readout)

    made = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "threads", lambda count=count: count)
        monkeypatch.setattr(threads, "_WORTH", 1)
        jax.clear_caches()
        with engine("native"):
            made.append(jax.jit(train)())
    jax.tree.map(np.testing.assert_array_equal, *made)


@pytest.mark.usefixtures("three_threads")
def test_a_store_that_is_too_small_is_told() -> None:
    """Words beyond the capacity are let go by every share; the status says how many there were."""
    config, params, x, _ = given("revgru", max_forget_bits=1)
    status = []
    for name in ("scan", "native"):
        with engine(name):

            def run(params: Any) -> Any:
                out = apply(params, x, config, capacity=5)
                return out.outputs.sum(), out.status

            status.append(jax.jit(jax.grad(run, has_aux=True))(params)[1])
    assert int(status[0]) == int(status[1]) != 0


def _threads_of(
    monkeypatch: pytest.MonkeyPatch, devices: int, cores: set[int]
) -> Callable[[], int]:
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    return threads.threads


@pytest.mark.parametrize(
    ("devices", "cores", "count"), [(1, {0, 3}, 2), (1, {5}, 1), (2, {0, 1}, 1)]
)
def test_cores_that_a_process_may_use_count(
    monkeypatch: pytest.MonkeyPatch, devices: int, cores: set[int], count: int
) -> None:
    assert _threads_of(monkeypatch, devices, cores)() == count


def test_small_chunks_stay_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "threads", lambda: 8)
    assert threads.shares(Config("revlstm", 128, 128), 16, 20) == 1
    assert threads.shares(Config("revlstm", 512, 512), 16, 32) == 8
    assert threads.shares(Config("revlstm", 512, 512), 16, 3) == 2
