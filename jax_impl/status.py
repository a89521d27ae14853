"""Faults under jit: a bit field that results carry, and what turns it into an error.

Compiled code cannot raise. So what only the computation finds (ERR-002) sets a bit, results are
marked (floats become NaN), and :func:`check` raises outside jit.
"""

from __future__ import annotations

from typing import Final

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.errors import RevRNNError

NONFINITE: Final = 1
RANGE: Final = 2
UNDERFLOW: Final = 4
OVERFLOW: Final = 8
REVERSAL: Final = 16
RESETS: Final = 32

# In the order of ERR-002: bit, code, argument, what was given, what is allowed.
_FAULTS: Final = (
    (NONFINITE, "E_NONFINITE", "x, params or hx", "NaN or an infinity", "finite numbers"),
    (RANGE, "E_RANGE", "heads", "a head or a product out of range", "heads of the layout"),
    (UNDERFLOW, "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"),
    (OVERFLOW, "E_OVERFLOW", "capacity", "more words than it holds", "a larger capacity"),
    (
        RESETS,
        "E_OVERFLOW",
        "reset_capacity",
        "more resets than it holds",
        "a larger reset_capacity",
    ),
    (REVERSAL, "E_REVERSAL", "state", "another state or buffer", "those at the start"),
)


def flag(condition: jax.Array, bit: int) -> jax.Array:
    """Return ``bit`` if ``condition`` (a scalar) holds, else 0, int32."""
    return jnp.where(condition, jnp.int32(bit), jnp.int32(0))


def first(status: jax.Array, later: jax.Array) -> jax.Array:
    """Return ``status`` if it holds a fault, else ``later``: what follows a fault is garbage."""
    return jnp.where(status == 0, later, status)


def is_concrete(value: object) -> bool:
    """Say whether a value can be looked at now, that is, outside of jit, grad and vmap."""
    return not isinstance(value, jax.core.Tracer)


def check(status: jax.Array | np.ndarray | int) -> None:
    """Raise the error that a status word stands for; several words (vmap) are taken together.

    Raises:
        RevRNNError: the first fault in the order of ERR-002, or ``E_ARGUMENT`` inside jit.
    """
    if not is_concrete(status):
        raise RevRNNError("E_ARGUMENT", "status", "a traced value", "a status outside jit")
    bits = int(np.bitwise_or.reduce(np.asarray(status), axis=None))
    for bit, code, argument, given, allowed in _FAULTS:
        if bits & bit:
            raise RevRNNError(code, argument, given, allowed)
