"""Some rows of a batch on their way over a sequence and back, with a stack of words of their own.

Rows do not see one another (BUF-036), so each share of a batch can go its way on its own thread,
for a whole chunk, without waiting for the others. Only the order of words on the stack is another
than BUF-005's when there are several shares; no state depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from ...native.buffers import TALLIES, TOP, UNDERFLOW
from ...native.compiling import Array
from ...native.records import Kept
from ...native.tiles import LANES
from ..conversions import as_array
from ..engine import Store
from ..state import State


def by_group(tensor: Tensor, rows: slice) -> Array:
    """Return ``[L, B, H]`` of some rows as ``[L, 2, R, G]``."""
    whole = as_array(tensor)
    layers, batch, hidden = whole.shape
    parts = whole.reshape(layers, batch, 2, hidden // 2)[:, rows]
    return np.array(parts.transpose(0, 2, 1, 3), order="C")


def by_layer(groups: Array) -> Array:
    """Return ``[L, 2, R, G]`` as ``[L, R, H]``."""
    layers, _, rows, units = groups.shape
    return groups.transpose(0, 2, 1, 3).reshape(layers, rows, 2 * units)


def _with_room(words: Array) -> Array:
    """Return a copy behind which a whole vector can be read."""
    room = np.empty(len(words) + LANES, np.int16)
    room[: len(words)] = words
    return room[: len(words)]


class Rows:
    """A share of the batch.

    Attributes:
        rows: which rows of the batch.
        h: int32 ``[L, 2, R, G]``; ``c`` the same, of no layers for RevGRU.
        heads: int32 ``[R, G]``.
        blocks: words by chunk, bottom to top.
        slices: by chunk, int32 ``[C+1, R, D]``.
        aside: by chunk, states of rows that started anew, ``h`` and ``c``, int32 ``[n, L, 2, G]``.
        states: by chunk, all states, if they are stored.
        tally: int64, see :data:`revrnn.native.buffers.TOP`.
    """

    def __init__(
        self, config: Config, state: State, rows: slice, keep: bool, stored: bool, keeps_words: bool
    ) -> None:
        """Take rows of a state."""
        self.config, self.rows, self.keep, self.stored = config, rows, keep, stored
        self.keeps_words = keeps_words
        self.h = by_group(state.h, rows)
        none = np.empty((0, *self.h.shape[1:]), np.int32)
        self.c = none if state.c is None else by_group(state.c, rows)
        shape = (rows.stop - rows.start, config.group_size)
        heads = None if state.heads is None else as_array(state.heads[rows])
        self.heads = np.zeros(shape, np.int32) if heads is None else np.array(heads, order="C")
        self.tally = np.zeros(TALLIES, np.int64)
        self.blocks: list[Array] = []
        self.slices: list[Array] = []
        self.aside: list[tuple[Array, Array]] = []
        self.states: list[Array] = []
        self.left_over = 0
        self._block = np.empty(LANES, np.int16)
        self._no_words = self._block[:0]
        self._nothing = self._room(0, 0)

    @property
    def cells(self) -> Array | None:
        """``c``, if there is one."""
        return self.c if self.config.has_cell_state else None

    @property
    def digits(self) -> Array | None:
        """The heads, if they are used."""
        return self.heads if self.config.forgetting else None

    @property
    def count(self) -> int:
        """Number of rows, R."""
        return len(range(self.rows.start, self.rows.stop))

    def load(self, store: Store) -> None:
        """Take what was kept of the chunk at whose end this stands; of a whole batch only."""
        self.blocks = [_with_room(store.words.numpy())] if self.config.forgetting else []
        self.slices = [] if store.slices is None else [store.slices.numpy()]

    def new_chunk(self, steps: int, anew: int) -> Kept:
        """Return where what is kept of a chunk goes, with words to be pushed if they are kept."""
        if self.keeps_words:
            words = steps * self.config.operations_per_step * self.heads.size
            if self._block.size < words + LANES:
                self._block = np.empty(words + LANES, np.int16)  # untouched pages cost nothing
        keeps_rows = anew if self.keep and not self.stored else 0
        room = self._nothing
        if keeps_rows or self.config.slice_size or (self.stored and self.keep):
            room = self._room(keeps_rows, steps + 1)
        return Kept(self._block, int(self.keeps_words), self.tally, *room)

    def _room(self, anew: int, steps: int) -> tuple[Array, Array, Array, Array]:
        """Return room for rows set aside, ``h`` and ``c``, for slices, and for all states."""
        layers, _, rows, units = self.h.shape
        depth, arrays = self.config.slice_size, self.config.state_arrays
        aside = [np.empty((n, layers, 2, units), np.int32) for n in (anew, anew * (arrays - 1))]
        slices = np.empty((steps if depth else 0, rows, depth), np.int32)
        length = steps if self.stored and self.keep else 0
        states = np.empty((length, arrays, layers, 2, rows, units), np.int32)
        return aside[0], aside[1], slices, states

    def close(self, kept: Kept) -> None:
        """Keep what going back over a chunk needs."""
        if self.keeps_words and not self.stored:
            self.blocks.append(_with_room(self._block[: self.tally[TOP]]))
        self.tally[TOP] = 0
        if self.keep:
            self.slices.append(kept.slices)
            self.aside.append((kept.aside_h, kept.aside_c))
            self.states.append(kept.states)

    def reopen(self, steps: int) -> Kept:
        """Return what was kept of the last chunk."""
        words = self.blocks.pop() if self.blocks else self._no_words
        self.tally[TOP] = len(words)
        room = self._room(0, steps + 1) if self.config.slice_size else self._nothing
        aside_h, aside_c, slices, states = room
        if self.slices:
            slices = self.slices.pop()
        if self.aside:
            (aside_h, aside_c), states = self.aside.pop(), self.states.pop()
        return Kept(words, int(self.keeps_words), self.tally, aside_h, aside_c, slices, states)

    def finish(self, kept: Kept, steps: int, finish: bool) -> None:
        """Note what is left of a chunk that was taken back.

        Raises:
            RevRNNError: ``E_UNDERFLOW`` if more words were wanted than there were (BUF-032).
        """
        if self.tally[UNDERFLOW]:
            raise RevRNNError(
                "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"
            )
        top = int(self.tally[TOP])
        self.tally[TOP] = 0
        if finish:
            self.left_over += top
            return
        self.blocks.append(kept.words[:top])
        if self.config.slice_size:
            self.slices.append(kept.slices[: len(kept.slices) - steps])

    def bytes_kept(self) -> int:
        """Return the bytes kept to go back, states stored in full not counted."""
        aside = [array for both in self.aside for array in both]
        kept: list[Any] = [*self.blocks, *self.slices, *aside]
        return sum(array.nbytes for array in kept)
