"""Weights that add up to less than 0 divide a loss as they do of all steps at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from revrnn import Config
from revrnn.jax_impl import apply, init, value

CONFIG = Config("revgru", 3, 4, forgetting=False)
PARAMS = init(jax.random.key(0), CONFIG)
X = jax.random.normal(jax.random.key(1), (7, 2, 3))
WEIGHTS = -jnp.abs(jax.random.normal(jax.random.key(2), (7, 2)))
Tree = Any


def weighed(outputs: jax.Array, weights: jax.Array) -> jax.Array:
    total: jax.Array = (jnp.square(outputs - 1).mean(-1) * weights).sum()
    return total


READOUTS: dict[str, Callable[..., Any]] = {
    "1 for 0": lambda o, y, w: weighed(y, w) / jnp.where(w.sum() == 0, 1.0, w.sum()),
    "1 unless above": lambda o, y, w: weighed(y, w) / jnp.where(w.sum() > 0, w.sum(), 1.0),
    "0 for 0": lambda o, y, w: jnp.where(w.sum() != 0, weighed(y, w) / w.sum(), 0.0),
    "0 unless above": lambda o, y, w: jnp.where(w.sum() > 0, weighed(y, w) / w.sum(), 0.0),
    "twice": lambda o, y, w: jnp.where(
        w.sum() > 0, weighed(y, w) / jnp.where(w.sum() > 0, w.sum(), 1.0), 0.0
    ),
}


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_a_guard_of_a_count(name: str, sign: int) -> None:
    weights, readout = -sign * WEIGHTS, READOUTS[name]
    wanted = readout({}, apply(PARAMS, X, CONFIG).outputs, weights)
    loss = value(PARAMS, {}, X, weights, CONFIG, readout=readout, chunk_size=3).loss
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)
