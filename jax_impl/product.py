"""The exact product (PROD), by float64 or by signed bytes.

Which way is taken is a static choice: a weight is made a *factor* once, before the loop over time,
and the factor's type says how it is multiplied. Call within :func:`revrnn.jax_impl.x64.with_x64`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from revrnn.errors import check_one_of

from .x64 import with_x64

METHODS: Final = ("auto", "int8", "float64")

# PROD-003: 2^17 − 1 products of two bytes, each at most 2^14, stay below 2^31.
BYTE_BLOCK: Final = 2**17 - 1

_CONTRACT_LAST: Final = (((1,), (1,)), ((), ()))

_chosen = "auto"


def set_product_method(name: str) -> None:
    """Choose how products are computed from now on; every way gives the same integers.

    Args:
        name: ``"float64"``; ``"int8"``, which falls back to float64 if this machine fails the
            self-check; or ``"auto"``, float64 on CPUs and int8 elsewhere.

    Functions that the caller has already compiled keep the way they were compiled with.

    Raises:
        RevRNNError: ``E_ARGUMENT``.
    """
    global _chosen
    check_one_of("name", name, METHODS)
    _chosen = name


def product_is_named() -> bool:
    """Say whether a way other than ``"auto"`` was chosen."""
    return _chosen != "auto"


def product_method() -> str:
    """Return ``"float64"`` or ``"int8"``: a static argument of everything that is compiled."""
    platform = jax.default_backend()
    wanted = _chosen
    if wanted == "auto":
        wanted = "float64" if platform == "cpu" else "int8"
    return "int8" if wanted == "int8" and bytes_are_exact(platform) else "float64"


def factor(w: jax.Array, method: str) -> jax.Array:
    """Return a weight ``[N, K]`` prepared: float64 ``[N, K]``, or bytes int8 ``[2N, K]``."""
    return _bytes(w) if method == "int8" else w.astype(jnp.float64)


def multiply(a: jax.Array, w: jax.Array) -> jax.Array:
    """Return ``Σ_k a[m, k]·w[n, k]``, ``[M, N]``, of an operand and a factor (PROD-001).

    The integers are exact, in float64 or int64; their users convert them, without a pass of its
    own over the array.
    """
    if w.dtype == jnp.int8:
        return _multiply_bytes(a, w)
    # Every partial sum is below 2^50, so float64 holds it in any order (PROD-003).
    return lax.dot_general(a.astype(jnp.float64), w, _CONTRACT_LAST)


def product(a: jax.Array, w: jax.Array, method: str = "float64") -> jax.Array:
    """Return the product of operands ``[M, K]`` and weights ``[N, K]``, int64 (PROD-001)."""
    return multiply(a, factor(w, method)).astype(jnp.int64)


def preactivation(
    x_part: jax.Array,
    x_bits: int,
    v_part: jax.Array,
    view_bits: int,
    bias: jax.Array,
    operand_bits: int,
) -> jax.Array:
    """Return ``s*`` with ``R_S`` fraction bits, int64, from two products and bias (PROD-004)."""
    x_part, v_part, bias = (part.astype(jnp.int64) for part in (x_part, v_part, bias))
    return (x_part << (operand_bits - x_bits)) + (v_part << (operand_bits - view_bits)) + bias


def _bytes(a: jax.Array) -> jax.Array:
    """Return operands ``[M, K]`` as int8 ``[2M, K]``, high bytes above low ones (FMT-003)."""
    wide = a.astype(jnp.int32)
    high = (wide + 128) >> 8
    return jnp.concatenate([high, wide - (high << 8)]).astype(jnp.int8)


def _multiply_bytes(a: jax.Array, w: jax.Array) -> jax.Array:
    rows, outputs, length = a.shape[0], w.shape[0] // 2, a.shape[1]
    slices, total = _bytes(a), jnp.zeros((rows, outputs), jnp.int64)
    for start in range(0, length, BYTE_BLOCK):
        block = slice(start, start + BYTE_BLOCK)
        sums = lax.dot_general(
            slices[:, block], w[:, block], _CONTRACT_LAST, preferred_element_type=jnp.int32
        ).astype(jnp.int64)
        high, low = sums[:rows], sums[rows:]
        middle = high[:, outputs:] + low[:, :outputs]
        total += (high[:, :outputs] << 16) + (middle << 8) + low[:, outputs:]
    return total


@cache
@with_x64
def bytes_are_exact(platform: str) -> bool:
    """Say whether byte products are exact on the default device, tried once (PROD-003).

    Hardware without the right instructions may saturate sums of two products at 2^15: so the
    operands are extreme, of either sign, and random, in short and in long products.
    """
    generator = np.random.default_rng(0)
    ends = np.array([-32512, 32512, -32640 + 256, 127, -128], np.int16)
    for rows, outputs, length in ((1, 1, 7), (5, 8, 64), (17, 24, 1024), (3, 2, BYTE_BLOCK)):
        for values in (ends[:1], ends[1:2], ends, np.arange(-32512, 32513, dtype=np.int16)):
            a = generator.choice(values, (rows, length))
            w = generator.choice(values, (outputs, length))
            # This may be reached while a caller's function is being traced.
            with jax.ensure_compile_time_eval():
                got = np.asarray(jax.jit(product, static_argnames="method")(a, w, method="int8"))
            if not np.array_equal(got, a.astype(np.int64) @ w.astype(np.int64).T):
                return False
    return True
