"""Dropout from keys and step numbers: the same on the way back, whatever the chunks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config
from revrnn.errors import RevRNNError, shown
from revrnn.formats import GAIN_BITS

from .checks import check_key
from .devices import check_devices
from .settings import check_flag, whole_number
from .state import check_config
from .status import is_array_or_number

# The largest gain is 16 (SEQ-012).
_LARGEST = 1 - 2.0**-4


def dropout_gains(
    key: jax.Array, rate: float, config: Config, steps: jax.Array, rows: int, locked: bool = False
) -> jax.Array:
    """Return gains that drop outputs of all layers but the last (SEQ-012).

    Args:
        key: a key of ``jax.random``.
        rate: probability of dropping, 0 … 0.9375 or 1; static.
        config: the stack.
        steps: numbers of the steps, int32 ``[T]``.
        rows: rows of the batch.
        locked: whether all steps have the same gains (variational dropout).

    Returns:
        int32 ``[T, L-1, B, H]``.

    Raises:
        RevRNNError: ``E_ARGUMENT``, ``E_DTYPE`` or ``E_SHAPE``.
    """
    check_config(config)
    check_key(key)
    check_gain_rate("rate", rate)
    check_flag("locked", locked)
    rows, steps = whole_number("rows", rows), _numbers(steps)
    check_devices((("key", key), ("steps", steps)))
    shape = (config.num_layers - 1, rows, config.hidden_size)
    gain = 0 if rate == 1 else int((1 << GAIN_BITS) / (1 - rate) + 0.5)
    kept = _kept(key, rate, shape, steps, locked)
    return jnp.where(kept, jnp.int32(gain), jnp.int32(0))


def step_dropout(
    key: jax.Array, rate: float, x: jax.Array, steps: jax.Array, locked: bool = False
) -> jax.Array:
    """Return ``x`` ``[C, B, F]`` with elements dropped, the rest scaled up.

    Args:
        key: a key of ``jax.random``.
        rate: probability of dropping, 0 … 1; static.
        x: some steps of a sequence.
        steps: their numbers, int32 ``[C]``; what is dropped in a step depends on its number alone.
        locked: whether all steps drop the same (variational dropout).

    Raises:
        RevRNNError: ``E_ARGUMENT``, ``E_DTYPE`` or ``E_SHAPE``.
    """
    check_key(key)
    _check_rate("rate", rate, 1.0, "0 … 1")
    check_flag("locked", locked)
    kind = getattr(x, "dtype", None)
    if not is_array_or_number(x) or kind is None or not jnp.issubdtype(kind, jnp.floating):
        given = f"a {type(x).__name__}" if kind is None else f"elements of {kind}"
        raise RevRNNError("E_DTYPE", "x", given, "an array of floats")
    x, steps = jnp.asarray(x), _numbers(steps)
    if x.shape[:1] != steps.shape:
        raise RevRNNError("E_SHAPE", "x", f"shape {list(x.shape)}", f"{len(steps)} steps")
    check_devices((("key", key), ("x", x), ("steps", steps)))
    if rate == 0:
        return x
    kept = _kept(key, rate, x.shape[1:], steps, locked)
    dropped: jax.Array = jnp.where(kept, x / max(1 - rate, 2.0**-24), 0).astype(x.dtype)
    return dropped


def _kept(
    key: jax.Array, rate: float, shape: tuple[int, ...], steps: jax.Array, locked: bool
) -> jax.Array:
    # One key serves many chunks, each with step numbers of its own: that is no use of it again.
    key = jax.random.clone(key)

    def draw(key: jax.Array) -> jax.Array:
        # A float32, since of other floats other numbers are drawn with jax_enable_x64.
        return jax.random.bernoulli(key, np.float32(1 - float(rate)), shape)

    if locked:
        return jnp.broadcast_to(draw(key), (len(steps), *shape))
    return jax.vmap(lambda step: draw(jax.random.fold_in(key, step)))(steps)


def _numbers(steps: Any) -> jax.Array:
    """Return numbers of steps as an array; raise ``E_DTYPE`` or ``E_SHAPE`` for what is none."""
    parts = steps if isinstance(steps, (list, tuple, range)) else [steps]
    wrong = [part for part in parts if not is_array_or_number(part)]
    if wrong:
        raise RevRNNError("E_DTYPE", "steps", f"a {type(wrong[0]).__name__}", "whole numbers")
    try:
        numbers = jnp.asarray(steps)
    except OverflowError:
        raise RevRNNError("E_RANGE", "steps", shown(steps), "numbers of 32 bits") from None
    if not jnp.issubdtype(numbers.dtype, jnp.integer) and numbers.size:
        raise RevRNNError("E_DTYPE", "steps", f"elements of {numbers.dtype}", "whole numbers")
    if numbers.ndim != 1:
        raise RevRNNError("E_SHAPE", "steps", f"shape {list(numbers.shape)}", "[T]")
    return numbers.astype(jnp.int32)


def check_gain_rate(name: str, rate: object) -> None:
    """Raise ``E_ARGUMENT`` unless ``rate`` can be dropped between layers (SEQ-012)."""
    _check_rate(name, rate, _LARGEST, f"0 … {_LARGEST} or 1")


def _check_rate(name: str, rate: object, largest: float, allowed: str) -> None:
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not number or not (0 <= rate <= largest or rate == 1):  # type: ignore[operator]
        raise RevRNNError("E_ARGUMENT", name, shown(rate), allowed)


def module_gains(
    key: jax.Array | None, rate: float, config: Config, x: jax.Array, locked: bool
) -> jax.Array | None:
    """Return the gains of a module with dropout ``rate`` for inputs ``[T, B, I]``, if any."""
    if key is None or rate == 0 or config.num_layers == 1:
        return None
    steps = jnp.arange(len(x), dtype=jnp.int32)
    return dropout_gains(key, rate, config, steps, x.shape[1], locked)
