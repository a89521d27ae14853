"""Dropout from keys and step numbers: the same on the way back, whatever the chunks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .sequence import GAIN_BITS

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
    """
    check_gain_rate("rate", rate)
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
    """
    _check_rate("rate", rate, 1.0, "0 … 1")
    if rate == 0:
        return x
    kept = _kept(key, rate, x.shape[1:], steps, locked)
    found: jax.Array = jnp.where(kept, x / max(1 - rate, 2.0**-24), 0).astype(x.dtype)
    return found


def _kept(
    key: jax.Array, rate: float, shape: tuple[int, ...], steps: jax.Array, locked: bool
) -> jax.Array:
    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, 1 - rate, shape)

    if locked:
        return jnp.broadcast_to(draw(key), (len(steps), *shape))
    return jax.vmap(lambda step: draw(jax.random.fold_in(key, step)))(steps)


def check_gain_rate(name: str, rate: object) -> None:
    """Raise ``E_ARGUMENT`` unless ``rate`` can be dropped between layers (SEQ-012)."""
    _check_rate(name, rate, _LARGEST, f"0 … {_LARGEST} or 1")


def _check_rate(name: str, rate: object, largest: float, allowed: str) -> None:
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not number or not (0 <= rate <= largest or rate == 1):  # type: ignore[operator]
        raise RevRNNError("E_ARGUMENT", name, repr(rate), allowed)


def module_gains(
    key: jax.Array | None, rate: float, config: Config, x: jax.Array, locked: bool = False
) -> jax.Array | None:
    """Return the gains of a module with dropout ``rate`` for inputs ``[T, B, I]``, if any."""
    if key is None or rate == 0 or config.num_layers == 1:
        return None
    steps = jnp.arange(len(x), dtype=jnp.int32)
    return dropout_gains(key, rate, config, steps, x.shape[1], locked)
