"""The information buffer (BUF), as values that push and pop give back changed.

A store has a static capacity and knows its length. A buffer without a store (``words`` is
``None``) only keeps its heads: nothing is written, every other bit is the same (SEQ-010). The
layout ``bigint`` needs unbounded integers and is not offered (BUF-037).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.formats import HEAD_START

from .stacks import push_chosen
from .status import OVERFLOW, RANGE, UNDERFLOW, first, flag
from .x64 import join64, split64

LAYOUTS: Final = ("stream", "wordlist")

_LAST: Final = 2**31 - 1


class StreamBuffer(NamedTuple):
    """Asymmetric numeral systems: a 31-bit head a unit, one stack of 16-bit words (BUF-030).

    Attributes:
        heads: int32 ``[B, G]``.
        words: uint16 ``[capacity]``, bottom to top, or ``None``.
        length: words in the store, int32; beyond its capacity, or negative, after a fault.
        status: faults at the beginning.
        parts: see :class:`Store`.
    """

    heads: jax.Array
    words: jax.Array | None
    length: jax.Array
    status: jax.Array
    parts: jax.Array | None = None

    def push(
        self, low: jax.Array, z: jax.Array, active: jax.Array
    ) -> tuple[StreamBuffer, jax.Array]:
        """Take the digits ``low`` (base 1024) of active units, give residues (base z)."""
        buffer = self.renormalise(z, active)
        # BUF-001 by BUF-034; the head is below z·2^21, so the quotient is below 2^21.
        quotient = lax.div(buffer.heads, z)
        n = (buffer.heads - quotient * z) * 1024 + low
        digit = lax.div(n, z)
        # BUF-004; in 2^15 … 2^31−1 (BUF-033)
        heads = jnp.where(active, quotient * 1024 + digit, buffer.heads)
        return buffer._replace(heads=heads), n - digit * z

    def pop(
        self, residue: jax.Array, z: jax.Array, active: jax.Array
    ) -> tuple[StreamBuffer, jax.Array]:
        """Take the residues of active units back, give their digits (BUF-002)."""
        # n = x'·z + residue = 1024·(x' >> 10)·z + n0, in 32 bits.
        n0 = (self.heads & 1023) * z + residue
        heads = (self.heads >> 10) * z + (n0 >> 10)  # below 2^31 for every head below 2^31
        buffer = self._replace(heads=jnp.where(active, heads, self.heads))
        return buffer.undo_renormalise(active), n0 & 1023

    def renormalise(self, z: jax.Array, active: jax.Array) -> StreamBuffer:
        """Push the low 16 bits of heads that would grow too long (BUF-031)."""
        full = active & ((self.heads >> 21) >= z)  # z·2^21 itself may not fit int32
        heads = jnp.where(full, self.heads >> 16, self.heads)
        place, total = _places(full)
        words = self.words
        if words is not None:
            word = (self.heads.reshape(-1) & 0xFFFF).astype(jnp.uint16)
            words = push_chosen(words, self.length, full.reshape(-1), place, word)
        return self._replace(heads=heads, words=words, length=self.length + total)

    def undo_renormalise(self, active: jax.Array) -> StreamBuffer:
        """Refill heads below 2^15 from the top of the stack (BUF-032)."""
        assert self.words is not None
        short = active & (self.heads < HEAD_START)
        place, total = _places(short)
        left = self.length - total
        # The units take the top words in their own order: the first of them the lowest word.
        place = jnp.clip(left + place, 0, self.words.shape[0] - 1)
        place = jnp.where(short.reshape(-1), place, 0)
        word = self.words.at[place].get(mode="clip").astype(jnp.int32).reshape(short.shape)
        heads = jnp.where(short, (self.heads << 16) + word, self.heads)
        return self._replace(heads=heads, length=left)

    def faults(self) -> jax.Array:
        """Return the faults so far. Pushed too much or popped too much, the length stays so."""
        if self.words is None:
            return self.status
        overflow = flag(self.length > self.words.shape[0], OVERFLOW)
        return first(self.status, first(overflow, flag(self.length < 0, UNDERFLOW)))


def _places(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return each chosen unit's number in row-major order, ``[B·G]``, and how many (BUF-005)."""
    running = lax.cumsum(chosen.reshape(-1).astype(jnp.int32))
    return running - 1, running[-1]


class WordlistBuffer(NamedTuple):
    """The paper's list of 64-bit words (BUF-020).

    Attributes:
        heads: int64 ``[B, G]``.
        words: planes, int64 ``[capacity, B, G]``, or ``None``.
        length: planes in the store, int32.
        flags: uint8 ``[capacity]``, or ``None``.
        flags_length: flags in the store, int32.
        status: faults so far.
    """

    heads: jax.Array
    words: jax.Array | None
    length: jax.Array
    flags: jax.Array | None
    flags_length: jax.Array
    status: jax.Array

    def push(
        self, low: jax.Array, z: jax.Array, active: jax.Array
    ) -> tuple[WordlistBuffer, jax.Array]:
        """Take the digits ``low`` (base 1024) of active units, give residues (base z)."""
        buffer = self.renormalise(active)
        wide = z.astype(jnp.int64)
        n = buffer.heads * 1024 + low.astype(jnp.int64)  # BUF-001, below 2^63
        heads = jnp.where(active, lax.div(n, wide), buffer.heads)  # BUF-004
        return buffer._replace(heads=heads), lax.rem(n, wide).astype(jnp.int32)

    def pop(
        self, residue: jax.Array, z: jax.Array, active: jax.Array
    ) -> tuple[WordlistBuffer, jax.Array]:
        """Take the residues of active units back, give their digits (BUF-002)."""
        wide, residue = z.astype(jnp.int64), residue.astype(jnp.int64)
        # BUF-024
        too_wide = (active & (self.heads > lax.div((2**63 - 1) - residue, wide))).any()
        n = self.heads * wide + residue
        buffer = self._replace(
            heads=jnp.where(active, n >> 10, self.heads),
            status=first(self.status, flag(too_wide, RANGE)),
        )
        return buffer.undo_renormalise(active), (n & 1023).astype(jnp.int32)

    def renormalise(self, active: jax.Array) -> WordlistBuffer:
        """Spill all active heads if one is full (BUF-021, BUF-022)."""
        full = (active & (self.heads >= 2**53)).any()
        plane = jnp.where(active, self.heads, 0)
        words, flags, status = self.words, self.flags, self.status
        length = self.length + full.astype(jnp.int32)
        flags_length = self.flags_length + 1
        if words is not None and flags is not None:
            at = jnp.minimum(self.length, words.shape[0] - 1)
            old = lax.dynamic_index_in_dim(words, at, keepdims=False)
            put = full & (self.length < words.shape[0])
            words = lax.dynamic_update_index_in_dim(words, jnp.where(put, plane, old), at, 0)
            bit = full.astype(jnp.uint8)
            flags = lax.dynamic_update_index_in_dim(flags, bit, self.flags_length, 0)
            over = (length > words.shape[0]) | (flags_length > flags.shape[0])
            status = first(status, flag(over, OVERFLOW))
        heads = jnp.where(active & full, 0, self.heads)
        return WordlistBuffer(heads, words, length, flags, flags_length, status)

    def undo_renormalise(self, active: jax.Array) -> WordlistBuffer:
        """Take back what was spilled (BUF-023)."""
        assert self.words is not None
        assert self.flags is not None
        last = jnp.maximum(self.flags_length - 1, 0)
        full = lax.dynamic_index_in_dim(self.flags, last, keepdims=False) == 1
        top = jnp.maximum(self.length - 1, 0)
        plane = lax.dynamic_index_in_dim(self.words, top, keepdims=False)
        empty = (self.flags_length == 0) | (full & (self.length == 0))
        return self._replace(
            heads=jnp.where(active & full, plane, self.heads),
            length=jnp.maximum(self.length - full.astype(jnp.int32), 0),
            flags_length=last,
            status=first(self.status, flag(empty, UNDERFLOW)),
        )

    def faults(self) -> jax.Array:
        """Return the faults so far."""
        return self.status


Buffer = StreamBuffer | WordlistBuffer


class Store(NamedTuple):
    """What a buffer holds beside its heads, as it crosses a boundary (EVAL-006).

    Attributes:
        words: ``stream``: uint16 ``[capacity]``; ``wordlist``: uint32 ``[capacity, B, G, 2]``.
        length: how many of them there are.
        flags: uint8 ``[capacity]``, or ``None`` for ``stream``.
        flags_length: how many of them there are, or ``None``.
        parts: of an engine that shares rows among threads, a stack of how many words each share
            has pushed in a chunk, int32 ``[chunks + 1, K]``, beneath it how many chunks there are.
    """

    words: jax.Array
    length: jax.Array
    flags: jax.Array | None
    flags_length: jax.Array | None
    parts: jax.Array | None = None


def fresh_heads(layout: str, rows: int, units: int) -> jax.Array:
    """Return fresh heads as they cross a boundary (BUF-020, BUF-030).

    ``stream``: int32 ``[B, G]``; ``wordlist``: uint32 ``[B, G, 2]``, low halves first.
    """
    if layout == "stream":
        return jnp.full((rows, units), HEAD_START, jnp.int32)
    return jnp.zeros((rows, units, 2), jnp.uint32)


def empty_store(
    config: Config, steps: int, rows: int, capacity: int | None, masked: bool = True
) -> Store:
    """Return an empty store; without a capacity it cannot overflow (BUF-035).

    Args:
        config: the stack.
        steps: steps that will push to it.
        rows: B.
        capacity: words for ``stream``, planes for ``wordlist``, to set aside.
        masked: whether rows may have different steps.
    """
    units, none = config.group_size, jnp.int32(0)
    if config.buffer == "stream":
        # Places are int32, and some beyond the end must be left over.
        bound = min(config.words_bound(steps) * rows * units, _LAST - 2 * rows * units)
        return Store(
            jnp.zeros(bound if capacity is None else min(capacity, bound), jnp.uint16),
            none,
            None,
            None,
        )
    bound = _planes_bound(config, steps, rows if masked else 1)
    bound = bound if capacity is None else min(capacity, bound)
    planes = jnp.zeros((bound, rows, units, 2), jnp.uint32)
    flags = jnp.zeros(max(1, steps * config.operations_per_step), jnp.uint8)
    return Store(planes, none, flags, none)


def _planes_bound(config: Config, steps: int, rows: int) -> int:
    """Return how many planes so many steps can spill, of rows that have different steps (BUF-021).

    A spill empties the heads of all active units. So units that are always active together spill as
    often as one of them fills up; other rows, and sliced units beside others, spill on their own,
    but no operation spills twice.
    """
    apart = rows * (2 if config.slice_size else 1)
    return min(apart * config.planes_bound(steps), max(1, steps * config.operations_per_step))


def make_buffer(heads: jax.Array, store: Store | None) -> Buffer:
    """Return a buffer with heads and store that crossed a boundary."""
    none = jnp.int32(0)
    if heads.dtype == jnp.int32:
        status = flag((heads < HEAD_START).any(), RANGE)  # EVAL-006
        if store is None:
            return StreamBuffer(heads, None, none, status)
        return StreamBuffer(heads, store.words, store.length, status, store.parts)
    wide = join64(heads)
    status = flag((wide < 0).any(), RANGE)
    if store is None:
        return WordlistBuffer(wide, None, none, None, none, status)
    assert store.flags is not None
    assert store.flags_length is not None
    planes = join64(store.words)
    return WordlistBuffer(wide, planes, store.length, store.flags, store.flags_length, status)


def heads_of(buffer: Buffer) -> jax.Array:
    """Return a buffer's heads as they cross a boundary."""
    return buffer.heads if isinstance(buffer, StreamBuffer) else split64(buffer.heads)


def store_of(buffer: Buffer) -> Store | None:
    """Return a buffer's store as it crosses a boundary."""
    if buffer.words is None:
        return None
    if isinstance(buffer, StreamBuffer):
        return Store(buffer.words, buffer.length, None, None, buffer.parts)
    return Store(split64(buffer.words), buffer.length, buffer.flags, buffer.flags_length)
