"""The compiled calls of JAX's readout, beside the same computation in XLA's operations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn.jax_impl import in_place

compiled = pytest.importorskip("revrnn.jax_impl.native.readout")
kernels = pytest.importorskip("revrnn.native.readout")
Tree = Any


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the logits of few rows exist at a time."""
    monkeypatch.setattr(compiled, "_LOGITS", 2 * 83 * kernels.ROWS)
    jax.clear_caches()
    yield
    jax.clear_caches()


def assert_close(one: Tree, other: Tree, atol: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), one, other)


def by_both(weight: Any, bias: Any, x: Any, labels: Any, **more: Any) -> tuple[Tree, Tree]:
    """Return what calls give for a few rows, and XLA's operations."""
    weight, bias, x = (jnp.asarray(v, jnp.float32) for v in (weight, bias, x))
    counts = jnp.asarray(more.get("counts", jnp.ones(len(x))), jnp.float32)
    factors = jnp.asarray(more.get("factors", counts), jnp.float32)
    so_far = jnp.ones_like(weight), jnp.ones_like(bias)
    data = weight, bias, x, jnp.asarray(labels, jnp.int32), counts, factors, *so_far
    return jax.jit(in_place._by_calls)(*data), jax.jit(partial(in_place._by_xla, None))(*data)


SIZES = [(1, 1, 1), (3, 2, 1), (64, 5, 7), (65, 1025, 26), (130, 49, 33), (512, 130, 64)]


@pytest.mark.parametrize(("rows", "classes", "units"), SIZES)
def test_sizes(rows: int, classes: int, units: int) -> None:
    """One class, rows and classes that fill no panel, more blocks than one; added to what is."""
    keys = jax.random.split(jax.random.key(rows), 4)
    weight = jax.random.normal(keys[0], (classes, units))
    x, bias = jax.random.normal(keys[1], (rows, units)), jax.random.normal(keys[2], (classes,))
    labels = jax.random.randint(keys[3], (rows,), 0, classes)
    for given in (bias, jnp.zeros(0)):
        made, due = by_both(weight, given, x, labels, counts=jnp.arange(rows) % 3)
        assert_close(made, due, 1e-4)


def test_logits_of_any_size() -> None:
    """Differences far beyond what exp can hold are 0 or 1; logits of −∞ are never chosen."""
    weight, x = [[0.0], [-80.0], [-2e5]], [[0.0], [0.5], [1.0], [-1.0], [-1e4]]
    made, due = by_both(weight, jnp.zeros(0), x, [0, 1, 2, 0, 2])
    assert_close(made, due)
    made, due = by_both(weight, [0.0, -np.inf, 3.0], x[:2], [0, 2])
    assert_close(made, due)
    assert np.isfinite(np.concatenate([v.reshape(-1) for v in made])).all()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(number: float) -> None:
    """In the bias: the same kind of losses, and of all gradients, as XLA's."""
    made, due = by_both(np.ones((3, 2)), [0.0, number, 1.0], np.ones((2, 2)), [0, 1])
    for a, b in zip(made, due, strict=True):
        assert np.array_equal(np.isnan(a), np.isnan(b)), (a, b)


def test_rows_that_count_nothing() -> None:
    """No gradient of any of them, whatever their labels."""
    none = np.zeros(3)
    made, _ = by_both(np.ones((4, 2)), np.ones(4), np.ones((3, 2)), [0, 1, 2], counts=none)
    for v, all_are in zip(made, (0, 0, 1, 1), strict=True):
        assert np.array_equal(v, np.full(v.shape, all_are))
