"""What two engines of JAX give for one loss: the same bits, and gradients close to one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from revrnn.jax_impl import engine


def assert_engines_agree(
    name: str, loss: Callable[[Any, jax.Array], tuple[jax.Array, Any]], params: Any, x: jax.Array
) -> None:
    """Compare an engine with the scan: a loss and what comes with it, and its gradients."""

    def once(name: str) -> Any:
        with engine(name):
            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    (wanted, wanted_out), wanted_grads = once("scan")
    (value, out), grads = once(name)
    assert value == wanted
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(wanted_out), strict=True):
        assert (np.asarray(a) == np.asarray(b)).all()
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)
