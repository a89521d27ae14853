"""Activations by table and integer interpolation (ACT), all in int32."""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.tanh_table import tanh_table

TANH: Final = tanh_table()

# TANH[i]·2^9 + d with d = TANH[min(i+1, 1024)] − TANH[i], at most 256: one look-up gives both.
TANH_AND_RISE: Final = (TANH << 9) + np.diff(TANH, append=TANH[-1:])


def saturate(s: jax.Array) -> jax.Array:
    """Return pre-activations of any size as int32: beyond ±2^30 no activation changes.

    ACT-002 looks at ``min(|s|, 2^(R+3))`` with R at most 27.
    """
    return jnp.clip(s, -(2**30), 2**30).astype(jnp.int32)


def tanh(s: jax.Array, bits: int) -> jax.Array:
    """Return tanh of int32 ``s`` (``bits`` fraction bits) with 15 fraction bits (ACT-002)."""
    # Clipped before the magnitude is taken: that of −2^31 does not fit int32.
    u = jnp.abs(jnp.clip(s, -(1 << (bits + 3)), 1 << (bits + 3)))
    i = u >> (bits - 7)  # 0 … 1024
    f = u & ((1 << (bits - 7)) - 1)
    entry = jnp.asarray(TANH_AND_RISE).at[i].get(mode="promise_in_bounds")
    d = entry & 511
    t = (entry >> 9) + ((d * f + (1 << (bits - 8))) >> (bits - 7))  # d·f < 2^28
    return jnp.where(s >= 0, t, -t)


def sigmoid(s: jax.Array, bits: int) -> jax.Array:
    """Return the sigmoid of int32 ``s`` with 15 fraction bits (ACT-003)."""
    return sigmoid_of_tanh(tanh(s, bits + 1))


def sigmoid_of_tanh(t: jax.Array) -> jax.Array:
    """Return the sigmoid of ``s`` from ``t = tanh(s, bits + 1)`` (ACT-003)."""
    return (2**15 + t) >> 1


class ForgetGate(NamedTuple):
    """A forget gate and what its gradient needs.

    Attributes:
        z: the gate in 1024ths, 1 … 1024, int32.
        sigma: the sigmoid that it is made of, 15 fraction bits, int32.
        passes: where the clip did not act (GRAD-010), bool.
    """

    z: jax.Array
    sigma: jax.Array
    passes: jax.Array


def forget_gate(sigma: jax.Array, max_forget_bits: int | None, z_max: int) -> ForgetGate:
    """Return the forget gate of ``σ = sigmoid(s)`` (ACT-004 with a limit, ACT-005 without)."""
    if max_forget_bits is None:
        unclipped = (sigma + 2**4) >> 5
    else:
        n = max_forget_bits
        unclipped = (2**15 + (2**n - 1) * sigma + 2 ** (4 + n)) >> (5 + n)  # sum below 2^26
    z = jnp.clip(unclipped, 1, z_max)
    return ForgetGate(z, sigma, z == unclipped)
