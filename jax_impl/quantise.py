"""Float to fixed point and back (QNT), and the small integer functions of GEN and FMT.

Everything here is 32-bit: the identities that make it so are beside the lines that use them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.formats import INT32_MAX, OPERAND_MAX, Formats


def fraction_bits(kind: str, formats: Formats) -> int:
    """Return R of a kind of quantity (QNT-002)."""
    return {
        "operand": formats.operand_bits,
        "weight": formats.weight_bits,
        "bias": formats.sum_bits,
        "state": formats.state_bits,
    }[kind]


def _rounded(kind: str, x: jax.Array, formats: Formats) -> jax.Array:
    """Return ``rhe(x·2^R)`` as float32 (QNT-001).

    Scaling by a power of two is exact, or gives an infinity, which clips as the number would.
    """
    return lax.round(
        x * jnp.float32(2.0 ** fraction_bits(kind, formats)), lax.RoundingMethod.TO_NEAREST_EVEN
    )


def quantise(kind: str, x: jax.Array, formats: Formats) -> jax.Array:
    """Return float32 ``x`` in fixed point: int16 for operands and weights, int32 for others.

    NaN becomes 0; :func:`nonfinite` finds it (QNT-004).
    """
    scaled = jnp.where(jnp.isnan(x), jnp.float32(0), _rounded(kind, x, formats))
    if kind in ("operand", "weight"):  # QNT-002
        return jnp.clip(scaled, -OPERAND_MAX, OPERAND_MAX).astype(jnp.int16)
    # 2^31 - 1 is no float32: the largest one below 2^31 is 2^31 - 128.
    inside = jnp.clip(scaled, -(2.0**31), 2.0**31 - 128).astype(jnp.int32)
    return jnp.where(scaled >= 2.0**31, jnp.int32(INT32_MAX), inside)


def quantise_passes(kind: str, x: jax.Array, formats: Formats) -> jax.Array:
    """Say where :func:`quantise` did not saturate an operand, so that gradients pass (GRAD-002)."""
    passes: jax.Array = jnp.abs(_rounded(kind, x, formats)) <= OPERAND_MAX
    return passes


def nonfinite(x: jax.Array) -> jax.Array:
    """Say whether NaN or an infinity is anywhere in ``x`` (QNT-004)."""
    return ~jnp.isfinite(x).all()


def dequantise(q: jax.Array, bits: int) -> jax.Array:
    """Return the nearest float32 to ``q · 2^-bits`` (QNT-006)."""
    x: jax.Array = q.astype(jnp.float32) * jnp.float32(2.0**-bits)
    return x


def round_shift(v: jax.Array, k: int) -> jax.Array:
    """Return ``rs(v, k)`` in the type of ``v``, for any ``v`` (GEN-003, its second form)."""
    return ((v >> (k - 1)) + 1) >> 1 if k else v


def add_wraps(p: jax.Array, change: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``wrap32(p + change)`` of int32 arrays, and where it wrapped (GEN-006, MUL-006).

    XLA's int32 addition is modulo 2^32; it wrapped where both signs differ from the sum's.
    """
    total = p + change
    return total, ((p ^ total) & (change ^ total)) < 0


def floor_divide(v: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``v // z`` and ``v mod z`` for ``z > 0`` (GEN-002)."""
    quotient = lax.div(v, z)  # towards zero
    remainder = v - quotient * z
    below = remainder < 0
    return quotient - below.astype(v.dtype), jnp.where(below, remainder + z, remainder)


def view(h: jax.Array, state_bits: int, view_bits: int) -> jax.Array:
    """Return an int32 state as an operand with ``view_bits`` fraction bits, int32 (FMT-004)."""
    return jnp.clip(round_shift(h, state_bits - view_bits), -OPERAND_MAX, OPERAND_MAX)


def view_passes(h: jax.Array, state_bits: int, view_bits: int) -> jax.Array:
    """Say where :func:`view` did not saturate, so that gradients pass (GRAD-002)."""
    # There are at least three bits to lose (FMT-002), so the magnitude fits int32.
    return jnp.abs(round_shift(h, state_bits - view_bits)) <= OPERAND_MAX
