"""States and buffer as compiled calls take and give them (SEQ-006)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config

from ..buffer import Buffer, StreamBuffer, WordlistBuffer
from ..groups import Groups
from .threads import shares


class Rows:
    """States and buffer as compiled calls want them."""

    def __init__(self, config: Config, groups: Groups, buffer: Buffer | None, steps: int) -> None:
        """Take states and buffer as the scan has them, for so many steps."""
        self.config = config

        def whole(pairs: Any) -> jax.Array:
            return jnp.stack([jnp.stack(pair) for pair in pairs])

        h = whole(groups.h)
        c = jnp.zeros((0, *h.shape[1:]), jnp.int32) if groups.c is None else whole(groups.c)
        heads, self.words = jnp.zeros((0, 0), jnp.int32), jnp.zeros(0, jnp.int16)
        length: Any = jnp.int32(0)
        assert not isinstance(buffer, WordlistBuffer)
        self.buffer = buffer
        if buffer is not None:
            heads, length = buffer.heads, buffer.length
            if buffer.words is not None:
                self.words = lax.bitcast_convert_type(buffer.words, jnp.int16)
        self.states = [h, c, heads]
        self.arguments = [*self.states, self.words, length.astype(jnp.int64)[None]]
        # Without words, or with a note of whose they are, shares may go their own ways.
        free = buffer is None or buffer.words is None
        count = shares(config, steps, h.shape[2]) if free else 1
        kept = None if buffer is None else buffer.parts
        self.parts = jnp.zeros((0, count), jnp.int32) if kept is None else kept
        self.shapes = list(map(described, self.states))

    def after(
        self, states: list[jax.Array], words: jax.Array, length: jax.Array, parts: jax.Array
    ) -> tuple[Groups, Buffer | None]:
        """Return the same of what a call gave."""
        h, c, heads = states

        def pairs(v: jax.Array) -> Any:
            return tuple((v[k, 0], v[k, 1]) for k in range(v.shape[0]))

        groups = Groups(pairs(h), pairs(c) if self.config.has_cell_state else None)
        if self.buffer is None:
            return groups, None
        kept = self.buffer.words
        if kept is not None:
            kept = lax.bitcast_convert_type(words, jnp.uint16)
        total, noted = length[0].astype(jnp.int32), self.buffer.parts is not None
        now = StreamBuffer(heads, kept, total, self.buffer.status, parts if noted else None)
        return groups, now


def described(v: jax.Array) -> tuple[tuple[int, ...], Any]:
    """Return shape and type of a result like an array."""
    return v.shape, v.dtype
