"""Reversible multiplication by a forget gate (MUL)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from .buffer import Buffer
from .quantise import floor_divide


def active_units(rows: jax.Array, units: int, slice_size: int) -> jax.Array:
    """Return bool ``[B, G]``: the units that use the buffer (MUL-004, MUL-005)."""
    return rows[:, None] & (lax.iota(jnp.int32, units) >= slice_size)


def revmul(
    h: jax.Array, z: jax.Array, rows: jax.Array, slice_size: int, buffer: Buffer
) -> tuple[Buffer, jax.Array]:
    """Return ``buffer`` with the lost digits and ``h·z/1024``, int32 ``[B, G]`` (MUL-001).

    Rows that are false keep ``h``; the first ``slice_size`` units lose their digits.
    """
    active = active_units(rows, h.shape[1], slice_size)
    buffer, residue = buffer.push(h & 1023, z, active)
    product = (h >> 10) * z + jnp.where(active, residue, 0)  # within int32 (MUL-002)
    return buffer, jnp.where(rows[:, None], product, h)


def revmul_inverse(
    p: jax.Array, z: jax.Array, rows: jax.Array, slice_size: int, restore: jax.Array, buffer: Buffer
) -> tuple[Buffer, jax.Array]:
    """Undo :func:`revmul` (MUL-003); sliced units take their values from ``restore`` ``[B, D]``."""
    active = active_units(rows, p.shape[1], slice_size)
    quotient, residue = floor_divide(p, z)
    buffer, low = buffer.pop(residue, z, active)
    h = jnp.where(active, quotient * 1024 + low, p)
    if slice_size:
        sliced = jnp.where(rows[:, None], restore, p[:, :slice_size])
        h = jnp.concatenate([sliced, h[:, slice_size:]], 1)
    return buffer, h
