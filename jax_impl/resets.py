"""Rows that start anew in the middle of a sequence (SEQ-013).

What they leave behind cannot be recovered from the buffer: so it is kept, row by row, in a store of
static capacity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config

from .groups import Groups
from .stacks import push_chosen
from .status import RESETS, flag


class Replaced(NamedTuple):
    """The states that were replaced, in the order of steps and rows.

    Attributes:
        h: int32 ``[capacity, L, H]``.
        c: the same for RevLSTM's ``c``, or ``None``.
        length: how many there are, int32; beyond the capacity after a fault.
    """

    h: jax.Array
    c: jax.Array | None
    length: jax.Array

    def faults(self) -> jax.Array:
        """Return whether more rows started anew than there is room for."""
        return flag(self.length > self.h.shape[0], RESETS)


def nothing_replaced(config: Config, capacity: int) -> Replaced:
    """Return an empty store for so many rows."""
    h = jnp.zeros((capacity, config.num_layers, config.hidden_size), jnp.int32)
    return Replaced(h, jnp.zeros_like(h) if config.has_cell_state else None, jnp.int32(0))


def replace_rows(
    replaced: Replaced | None, rows: jax.Array, groups: Groups
) -> tuple[Replaced | None, Groups]:
    """Let the rows that are true in bool ``[B]`` start anew; keep what they had if asked to."""
    fresh = jax.tree.map(lambda v: jnp.where(rows[:, None], 0, v), groups)
    if replaced is None:
        return None, fresh
    running = lax.cumsum(rows.astype(jnp.int32))

    def kept(store: jax.Array | None, now: jax.Array | None) -> Any:
        if store is None or now is None:
            return None
        return push_chosen(store, replaced.length, rows, running - 1, now.swapaxes(0, 1))

    h, c = groups.arrays()
    total = replaced.length + running[-1]
    return Replaced(kept(replaced.h, h), kept(replaced.c, c), total), fresh


def restore_rows(replaced: Replaced, rows: jax.Array, groups: Groups) -> tuple[Replaced, Groups]:
    """Undo :func:`replace_rows`."""
    running = lax.cumsum(rows.astype(jnp.int32))
    left = replaced.length - running[-1]
    place = jnp.where(rows, jnp.clip(left + running - 1, 0, replaced.h.shape[0] - 1), 0)

    def restored(store: jax.Array | None, now: jax.Array | None) -> Any:
        if store is None or now is None:
            return None
        old = store.at[place].get(mode="clip").swapaxes(0, 1)
        return jnp.where(rows[:, None], old, now)

    h, c = groups.arrays()
    earlier = Groups.cut(restored(replaced.h, h), restored(replaced.c, c))
    return replaced._replace(length=left), earlier
