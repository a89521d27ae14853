"""The arrays of a chunk that kernels work in, padded (:class:`revrnn.gpu.pointers.Pointers`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.formats import HEAD_START

from ...gpu.constants import Mode
from ...gpu.sizes import Sizes
from ..activations import TANH_AND_RISE
from ..groups import Groups, Pair
from ..sequence import Steps

Arrays = dict[str, jax.Array]


def put_groups(sizes: Sizes, groups: Groups) -> Arrays:
    """Return ``h`` and ``c`` as ``[2·L, Bp, Gp]``."""

    def padded(pairs: tuple[Pair, ...]) -> jax.Array:
        whole = jnp.stack([part for pair in pairs for part in pair])
        rows, units = sizes.padded_rows - sizes.batch, sizes.padded_units - sizes.units
        return jnp.pad(whole, ((0, 0), (0, rows), (0, units)))

    arrays = {"h": padded(groups.h)}
    if groups.c is not None:
        arrays["c"] = padded(groups.c)
    return arrays


def take_groups(config: Config, arrays: Arrays, rows: int) -> Groups:
    """Undo :func:`put_groups`."""

    def pairs(padded: jax.Array) -> tuple[Pair, ...]:
        inside = padded[:, :rows, : config.group_size]
        return tuple((inside[2 * k], inside[2 * k + 1]) for k in range(config.num_layers))

    return Groups(pairs(arrays["h"]), pairs(arrays["c"]) if config.has_cell_state else None)


def before_steps(groups: Groups) -> tuple[jax.Array, jax.Array | None]:
    """Return ``h`` and ``c`` as the states before a step, ``[1, 2·L, B, G]``."""

    def whole(pairs: tuple[Pair, ...] | None) -> Any:
        return None if pairs is None else jnp.stack([part for pair in pairs for part in pair])[None]

    return whole(groups.h), whole(groups.c)


def of_chunk(
    sizes: Sizes, mode: Mode, steps: Steps, groups: Groups, heads: jax.Array | None
) -> Arrays:
    """Return the arrays that both ways need."""
    config, rows, padded = sizes.config, sizes.padded_rows, sizes.padded_units
    (length, batch), slots, units = steps.mask.shape, sizes.slots, sizes.units

    def zeros(*shape: int, kind: Any = jnp.int32) -> jax.Array:
        return jnp.zeros(shape, kind)

    plane = (2 * slots + 1, rows, padded)
    arrays = put_groups(sizes, groups)
    arrays |= {
        "part": zeros(length, batch, 2, config.num_gates, units, kind=jnp.int64),
        "table": jnp.asarray(TANH_AND_RISE, jnp.int32),
        # With a step more, which no row has.
        "mask": jnp.pad(steps.mask.astype(jnp.int8), ((0, 1), (0, 0))),
        "high": zeros(*plane, kind=jnp.int8),
        "low": zeros(*plane, kind=jnp.int8),
        "sigmas": zeros(rows, padded),
        "aside": zeros(rows, padded),
        "wraps": zeros(1),
        "outputs": zeros(length, batch, 2 * units),
    }
    if mode.gains:
        assert steps.gains is not None
        arrays["gains"] = steps.gains.astype(jnp.int32)
    if heads is not None:
        missing = ((0, rows - batch), (0, padded - units))
        arrays["heads"] = jnp.pad(heads, missing, constant_values=HEAD_START)
        # With an operation more, which pushed nothing.
        operations = (length * sizes.operations + 1, rows, sizes.across)
        arrays["stage"] = zeros(*operations, sizes.tiles.units, kind=jnp.int16)
        arrays["counts"] = zeros(*operations)
    if mode.stored:
        for name, first in zip(("past_h", "past_c"), before_steps(groups), strict=True):
            if first is not None:
                arrays[name] = jnp.pad(first, ((0, length), (0, 0), (0, 0), (0, 0)))
    return arrays


def of_tape(
    sizes: Sizes,
    mode: Mode,
    steps: Steps,
    slices: jax.Array,
    before: tuple[jax.Array, jax.Array | None] | None,
    words: jax.Array | None,
    length: jax.Array,
) -> Arrays:
    """Return those that the way back needs besides.

    Args:
        sizes: of the chunk.
        mode: how it is processed.
        steps: what the forward pass was given.
        slices: int32 ``[C+1, B, D]``.
        before: states before each step and its resets, ``[C+1, 2·L, B, G]``, where stored.
        words: uint16, what was pushed.
        length: how many.
    """
    place = (steps.mask.shape[0], sizes.batch, sizes.padded_units)
    below = (sizes.slots, 2, *place) if sizes.slots > 2 else (1,)
    arrays = {
        "tape": jnp.zeros((sizes.slots, sizes.planes, *place), jnp.float32),
        "lower": jnp.zeros(below, jnp.float32),
    }
    resets = steps.resets
    restore = slices[:-1]
    if resets is not None:
        restore = jnp.where(resets[:, :, None], 0, restore)
    arrays["restore"] = jnp.pad(restore.reshape(-1), (0, 1))
    if before is not None:
        for name, past in zip(("past_h", "past_c"), before, strict=True):
            if past is not None and resets is not None:
                again = jnp.pad(resets, ((0, 1), (0, 0)))[:, None, :, None]
                past = jnp.where(again, 0, past)
            if past is not None:
                arrays[name] = past
    if words is not None:
        arrays["words"] = lax.bitcast_convert_type(words, jnp.int16)
        tops = jnp.zeros(place[0] * sizes.operations + 2, jnp.int32)
        arrays["tops"] = tops.at[-2:].set(length)
    return arrays
