"""Pushing some of many values onto a stack of static capacity."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def push_chosen(
    stack: jax.Array, length: jax.Array, chosen: jax.Array, places: jax.Array, values: jax.Array
) -> jax.Array:
    """Return ``stack`` with the chosen values on it, one after another.

    Only the part that can change is read and written. No index is out of bounds, which checks of
    indices (``checkify``) would report: what is not chosen goes to spare places of its own.

    Args:
        stack: ``[capacity, …]``.
        length: how many there are, int32.
        chosen: bool ``[n]``.
        places: each chosen one's number, int32 ``[n]``.
        values: ``[n, …]``; those that find no room are dropped.
    """
    number, size = len(values), min(len(values), len(stack))
    start = jnp.clip(length, 0, len(stack) - size)
    part = lax.dynamic_slice_in_dim(stack, start, size)
    at = length - start + places
    spare = size + lax.iota(jnp.int32, number)
    at = jnp.where(chosen & (at >= 0) & (at < size), at, spare)
    part = jnp.concatenate([part, jnp.zeros_like(values)])
    part = part.at[at].set(values, mode="promise_in_bounds", unique_indices=True)
    return lax.dynamic_update_slice_in_dim(stack, part[:size], start, 0)
