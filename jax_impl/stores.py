"""What the way forward sets aside for the way back, in stores of static size."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .buffer import Store, empty_store
from .engines import NATIVE
from .native.threads import shares
from .resets import Replaced, nothing_replaced
from .settings import Settings
from .status import OVERFLOW, RESETS, first, flag, sized
from .x64 import with_x64


class Stores(NamedTuple):
    """What is pushed to on the way forward and popped from on the way back."""

    words: Store | None
    replaced: Replaced | None

    def are_empty(self) -> jax.Array:
        """Say whether nothing is left."""
        lengths = [] if self.words is None else [self.words.length, self.words.flags_length]
        lengths.append(None if self.replaced is None else self.replaced.length)
        return jnp.stack([jnp.bool_(True), *(n == 0 for n in lengths if n is not None)]).all()


class Needs(NamedTuple):
    """What one piece puts into its stores, int32: words (for ``wordlist`` planes), and resets."""

    words: jax.Array
    resets: jax.Array

    @classmethod
    def none(cls) -> Needs:
        """Return those of no steps."""
        return cls(jnp.int32(0), jnp.int32(0))

    @classmethod
    def most(cls, parts: tuple[Needs | None, Needs | None]) -> Needs:
        """Return the largest needs of many pieces, as :func:`.scans.over_chunks` gives them."""
        given = [needs for needs in parts if needs is not None]
        return cls(*(jnp.stack([v.max() for v in each]).max() for each in zip(*given, strict=True)))

    def after(self, pushed: jax.Array | None, has_store: bool, resets: jax.Array | None) -> Needs:
        """Return the needs after one more chunk.

        Args:
            pushed: the buffer's length; a buffer without a store began to count anew.
            has_store: whether it had one.
            resets: bool ``[C, B]``, those of the chunk.
        """
        words, replaced = self
        if pushed is not None:
            words = pushed if has_store else words + pushed
        if resets is not None:
            replaced = replaced + jnp.sum(resets, dtype=jnp.int32)
        return Needs(words, replaced)

    def faults(self, room: Needs) -> jax.Array:
        """Return the faults of stores of ``room``."""
        of_words = flag(self.words > room.words, OVERFLOW)
        return first(of_words, flag(self.resets > room.resets, RESETS))

    def told_in(self, status: jax.Array) -> jax.Array:
        """Return a status that says, where a store was too small, what would be enough."""
        return sized(sized(status, OVERFLOW, self.words), RESETS, self.resets)


_empty_store = with_x64(empty_store)


def empty_stores(settings: Settings, steps: int, rows: int, with_resets: bool) -> Stores:
    """Return empty stores for so many steps of so many rows."""
    config = settings.config
    if settings.states == "stored":
        return Stores(None, None)
    words = replaced = None
    if config.forgetting:
        words = _empty_store(config, steps, rows, settings.capacity, settings.masked)
        if settings.method.engine == NATIVE and (count := shares(config, settings.chunk, rows)) > 1:
            chunks = -(-steps // settings.chunk)
            words = words._replace(parts=jnp.zeros((chunks + 1, count), jnp.int32))
    if with_resets:
        replaced = nothing_replaced(config, min(settings.reset_capacity, steps * rows))
    return Stores(words, replaced)


def room_of(settings: Settings, steps: int, rows: int) -> Needs:
    """Return what :func:`empty_stores` has room for, without making them."""
    words, replaced = jax.eval_shape(partial(empty_stores, settings, steps, rows, True))
    most = jnp.int32(2**31 - 1)
    room = most if words is None else jnp.int32(words.words.shape[0])
    return Needs(room, most if replaced is None else jnp.int32(replaced.h.shape[0]))
