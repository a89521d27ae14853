"""Faults under jit: a bit field that results carry, and what turns it into an error.

Compiled code cannot raise. So what only the computation finds (ERR-002) sets a bit, results are
marked (floats become NaN), and :func:`check` raises outside jit.

The lowest eight bits are faults. Where a store was too small, those above say how much would be
enough, in units of 256: statuses taken together by *or* say no less than each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

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
GAINS: Final = 64
TARGETS: Final = 128

_SIZE_BITS: Final = 8
_MOST_UNITS: Final = (1 << 23) - 1

_NONFINITE: Final = "NaN or an infinity", "finite numbers"
# In the order of ERR-002: bit, code, argument, what was given, what is allowed.
_FAULTS: Final = (
    (NONFINITE, "E_NONFINITE", "x, params, hx, embed or readout", *_NONFINITE),
    (GAINS, "E_RANGE", "gains", "a gain out of range", "0 … 65536, which is 16"),
    (TARGETS, "E_RANGE", "targets", "a class out of range", "0 … classes − 1, or ignore_index"),
    (RANGE, "E_RANGE", "state.heads", "a head or a product out of range", "heads of the layout"),
    (UNDERFLOW, "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"),
    (OVERFLOW, "E_OVERFLOW", "capacity", "more words than it holds", "a larger capacity"),
    (
        RESETS,
        "E_OVERFLOW",
        "reset_capacity",
        "more resets than it holds",
        "a larger reset_capacity",
    ),
    (
        REVERSAL,
        "E_REVERSAL",
        "state",
        "another state or buffer at the start than it began with",
        "inputs that are the same on the way back: an embed without host callbacks",
    ),
)


def flag(condition: jax.Array, bit: int) -> jax.Array:
    """Return ``bit`` where ``condition`` holds, else 0, int32."""
    return jnp.where(condition, jnp.int32(bit), jnp.int32(0))


def first(status: jax.Array, later: jax.Array) -> jax.Array:
    """Return ``status`` if it holds a fault, else ``later``: what follows a fault is garbage."""
    return jnp.where(status == 0, later, status)


def sized(status: jax.Array, bit: int, needed: jax.Array) -> jax.Array:
    """Return ``status``, if ``bit`` is set with what would have been enough."""
    units = jnp.minimum((needed >> _SIZE_BITS) + 1, _MOST_UNITS)
    return jnp.where((status & bit) != 0, status | (units << _SIZE_BITS), status)


def mark(v: jax.Array, status: jax.Array) -> jax.Array:
    """Return floats as they are, or NaN after a fault: nothing is delivered then (ERR-003)."""
    # NumPy's NaN, since making one of JAX's is what jax_debug_nans reports.
    return jnp.where(status == 0, v, np.float32(np.nan))


def is_concrete(value: object) -> bool:
    """Say whether a value can be looked at now, that is, outside of jit, grad and vmap."""
    return not isinstance(value, jax.core.Tracer)


def is_array_or_number(leaf: object) -> bool:
    """Say whether JAX takes ``leaf`` for an array: no text, no objects, no mere shape."""
    if isinstance(leaf, (bool, int, float, complex)) or hasattr(leaf, "__jax_array__"):
        return True
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or isinstance(leaf, (np.ma.MaskedArray, jax.ShapeDtypeStruct)):
        return False
    try:
        kind = jax.typeof(leaf)
    except (TypeError, ValueError):  # of PyTorch, pandas, …
        return False
    array = isinstance(kind, jax.core.ShapedArray)  # or what jax.new_ref makes
    if isinstance(leaf, jax.Array) or not array:
        return array
    # NumPy also has text, objects and dates, wide floats, and bytes in the other order.
    wide = dtype.itemsize > {"f": 8, "c": 16}.get(dtype.kind, dtype.itemsize)
    return dtype.isnative and not wide and dtype.kind not in "OSUMm"


def kind_of(value: Any) -> str:
    """Return in words what was given where an array of another kind is wanted."""
    dtype = getattr(value, "dtype", None)
    if isinstance(value, np.ma.MaskedArray):
        return "a masked array, whose mask would be lost"
    ours = isinstance(value, (jax.Array, np.ndarray, np.generic))
    return f"elements of {dtype}" if ours else f"a {type(value).__name__}"


@contextmanager
def named_errors(name: str, **floats: Any) -> Iterator[None]:
    """Raise errors of ours where JAX raises errors of its own from a call of ``name``.

    ``E_NONFINITE`` where ``jax_debug_nans`` reports what an array of ``floats`` came with.

    ``E_UNSUPPORTED`` where it is differentiated in forward mode (GRAD-022); under ``jit`` JAX
    differentiates what was traced before, and raises its own. ``E_ARGUMENT`` for arrays on
    different devices that cannot be seen at the door: those of functions, or within ``jax.grad``.
    ``E_UNSUPPORTED`` for what a function of the caller's has traced and is used after it.
    """
    try:
        yield
    except FloatingPointError as error:
        if not (argument := _first_nonfinite(floats)):
            raise
        raise RevRNNError("E_NONFINITE", argument, *_NONFINITE) from error
    except jax.errors.UnexpectedTracerError as error:
        argument = f"{name}: embed or readout" if name == "streaming" else name
        given = "what was traced elsewhere: kept from a call, or closed over by jax.custom_vjp"
        allowed = "values that are arguments, of the jax.custom_vjp too"
        raise RevRNNError("E_UNSUPPORTED", argument, given, allowed) from error
    except ValueError as error:
        if "incompatible devices" not in str(error):
            raise
        given, allowed = "arrays on different devices", "all on the same, or committed to none"
        raise RevRNNError("E_ARGUMENT", name, given, allowed) from error
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        allowed = "reverse mode: jax.grad, jax.vjp"
        raise RevRNNError("E_UNSUPPORTED", name, "a derivative in forward mode", allowed) from error


def check(status: jax.Array | np.ndarray | int, **floats: Any) -> None:
    """Raise the error that a status word stands for; several words (vmap) are taken together.

    Args:
        status: of a result, 0 or faults.
        floats: for a better message: trees of arrays by the names of arguments. Where the fault is
            a number that is not finite, the first that holds one is named.

    Raises:
        RevRNNError: the first fault in the order of ERR-002, or ``E_ARGUMENT`` inside jit and for
            what is no status.
    """
    if not is_concrete(status):
        raise RevRNNError("E_ARGUMENT", "status", "a traced value", "a status outside jit")
    if hasattr(status, "status"):
        given = f"a {type(status).__name__}"
        raise RevRNNError("E_ARGUMENT", "status", given, "the status of a result, int32")
    try:
        words = np.asarray(status)
    except (TypeError, ValueError, RuntimeError):  # of keys, ragged lists, what was deleted
        words = np.asarray(None)
    if words.dtype.kind not in "iu":
        given = f"{type(status).__name__} of {words.dtype}"
        raise RevRNNError("E_ARGUMENT", "status", given, "the status of a result, int32")
    bits = int(np.bitwise_or.reduce(words, axis=None))
    for bit, code, argument, given, allowed in _FAULTS:
        if bits & bit:
            if bit == NONFINITE:
                argument = _first_nonfinite(floats) or argument
            if bit in (OVERFLOW, RESETS) and bits >> _SIZE_BITS:
                allowed = f"{allowed}: {(bits >> _SIZE_BITS) << _SIZE_BITS} is enough"
            raise RevRNNError(code, argument, given, allowed)


def _first_nonfinite(trees: Mapping[str, Any]) -> str:
    """Return the name of the first array that can be looked at and holds NaN or an infinity."""
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            looked_at = is_concrete(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
            if looked_at and not np.isfinite(np.asarray(leaf, np.float32)).all():
                return name + jax.tree_util.keystr(path)
    return ""
