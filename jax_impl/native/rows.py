"""States and buffer as compiled calls take and give them (SEQ-006)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config

from ..buffer import Buffer, StreamBuffer
from ..groups import Groups


class Rows:
    """States and buffer as compiled calls want them."""

    def __init__(self, config: Config, groups: Groups, buffer: Buffer | None) -> None:
        """Take states and buffer as the scan has them."""
        self.config = config

        def whole(pairs: Any) -> jax.Array:
            return jnp.stack([jnp.stack(pair) for pair in pairs])

        h = whole(groups.h)
        c = jnp.zeros((0, *h.shape[1:]), jnp.int32) if groups.c is None else whole(groups.c)
        heads, self.words = jnp.zeros((0, 0), jnp.int32), jnp.zeros(0, jnp.int16)
        length: Any = jnp.int32(0)
        self.buffer = buffer
        if buffer is not None:
            assert isinstance(buffer, StreamBuffer)
            heads, length = buffer.heads, buffer.length
            if buffer.words is not None:
                self.words = lax.bitcast_convert_type(buffer.words, jnp.int16)
        self.states = [h, c, heads]
        self.length = length.astype(jnp.int64)[None]
        self.shapes = list(map(described, self.states))

    def after(
        self, states: list[jax.Array], words: jax.Array, length: jax.Array
    ) -> tuple[Groups, Buffer | None]:
        """Return the same of what a call gave."""
        h, c, heads = states

        def pairs(v: jax.Array) -> Any:
            return tuple((v[k, 0], v[k, 1]) for k in range(v.shape[0]))

        groups = Groups(pairs(h), pairs(c) if self.config.has_cell_state else None)
        if self.buffer is None:
            return groups, None
        assert isinstance(self.buffer, StreamBuffer)
        kept = self.buffer.words
        if kept is not None:
            kept = lax.bitcast_convert_type(words, jnp.uint16)
        now = StreamBuffer(heads, kept, length[0].astype(jnp.int32), self.buffer.status)
        return groups, now


def described(v: jax.Array) -> tuple[tuple[int, ...], Any]:
    """Return shape and type of a result like an array."""
    return v.shape, v.dtype
