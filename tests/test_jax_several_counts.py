"""Streaming in JAX: losses of two heads, each over targets of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from revrnn import Config
from revrnn.errors import RevRNNError
from revrnn.jax_impl import apply, init, value_and_grad

STEPS, ROWS, CLASSES = 40, 3, 4
CONFIG = Config("revgru", 5, 6, max_forget_bits=3)
KEYS = jax.random.split(jax.random.key(0), 5)
PARAMS = init(KEYS[0], CONFIG)
OUTER = jax.random.normal(KEYS[1], (2, 6, CLASSES))
X = jax.random.normal(KEYS[2], (STEPS, ROWS, 5))
LABELS = jax.random.randint(KEYS[3], (2, STEPS, ROWS), 0, CLASSES)
KEEP = jax.random.uniform(KEYS[4], (2, STEPS, ROWS)) < jnp.array([0.4, 0.8])[:, None, None]


def losses(outer: jax.Array, outputs: jax.Array, *labels: jax.Array) -> list[jax.Array]:
    """Return each head's losses ``[C, B]``."""
    each = zip(outer, labels, strict=True)
    return [optax.softmax_cross_entropy_with_integer_labels(outputs @ w, y) for w, y in each]


def masked(outer: jax.Array, outputs: jax.Array, targets: Any) -> jax.Array:
    """Return the sum of two masked means."""
    first, second = losses(outer, outputs, *targets[:2])
    keep, other = targets[2:]
    one, two = ((a * k).sum() / k.sum() for a, k in ((first, keep), (second, other)))
    loss: jax.Array = one + two / 2
    return loss


def weighed(outer: jax.Array, outputs: jax.Array, targets: Any) -> jax.Array:
    """Return the same as a sum over steps."""
    first, second = losses(outer, outputs, *targets[:2])
    loss: jax.Array = (first * targets[2]).sum() + (second * targets[3]).sum()
    return loss


def test_means_over_two_counts_are_refused_and_told_how() -> None:
    arguments = PARAMS, OUTER, X, (*LABELS, *KEEP), CONFIG
    with pytest.raises(RevRNNError, match=r"E_ARGUMENT.*readout.*several counts.*mask\.sum\(\)"):
        value_and_grad(*arguments, readout=masked)


def test_weights_that_have_their_counts_give_the_same() -> None:
    def whole(both: Any) -> jax.Array:
        outputs = apply(both[0], X, CONFIG).outputs
        return masked(both[1], outputs, (*LABELS, *KEEP))

    loss, gradients = jax.value_and_grad(whole)((PARAMS, OUTER))
    weights = [keep / keep.sum() / n for n, keep in enumerate(KEEP, 1)]
    got = value_and_grad(PARAMS, OUTER, X, (*LABELS, *weights), CONFIG, readout=weighed)
    np.testing.assert_allclose(got.loss, loss, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(got.grads), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
