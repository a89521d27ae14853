"""States of a batch on their way over a sequence and back, and what is kept of each chunk.

Rows do not see one another (BUF-036), so each share of a batch can go its way on its own thread,
for a whole chunk, without waiting for the others, and has a stack of words of its own. Only the
order of words is another than BUF-005's when there are several shares; no state depends on it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from ...native.compiling import Array
from ...native.frame_writer import begin_of
from ...native.tasks import FRAME, KEEP, ROOM, SHORT, SIZE, WORDS, part_for, tasks_for
from ...native.tiles import LANES
from ..conversions import as_array
from ..engine import Store
from ..state import State


def by_group(tensor: Tensor) -> Array:
    """Return ``[L, B, H]`` as ``[L, 2, B, G]``, a copy."""
    whole = as_array(tensor)
    layers, batch, hidden = whole.shape
    parts = whole.reshape(layers, batch, 2, hidden // 2)
    return np.array(parts.transpose(0, 2, 1, 3), order="C")


def by_layer(groups: Array) -> Array:
    """Return ``[L, 2, B, G]`` as ``[L, B, H]``, a copy."""
    layers, _, rows, units = groups.shape
    whole = np.array(groups.transpose(0, 2, 1, 3), order="C")  # reshape does not always copy
    return whole.reshape(layers, rows, 2 * units)


def _with_room(words: Array) -> Array:
    """Return a copy behind which a whole vector can be read."""
    room = np.empty(len(words) + LANES, np.int16)
    room[: len(words)] = words
    return room[: len(words)]


class Kept(NamedTuple):
    """What is kept of a chunk besides words, int32.

    Attributes:
        aside_h: states of rows that started anew, ``[n, L, 2, G]``.
        aside_c: the same for ``c``, of no rows for RevGRU.
        slices: ``[C+1, B, D]``, or of no steps (SEQ-007).
        states: all states ``[C+1, 1 or 2, L, 2, B, G]``, or of no steps (GRAD-020).
    """

    aside_h: Array
    aside_c: Array
    slices: Array
    states: Array


class Rows:
    """The rows of a batch, divided into shares.

    Attributes:
        h: int32 ``[L, 2, B, G]``; ``c`` the same, of no layers for RevGRU.
        heads: int32 ``[B, G]``.
        tasks: what each share is told, see :mod:`revrnn.native.tasks`.
        blocks: words by chunk and share, bottom to top.
        kept: what else is kept, by chunk.
        left_over: words that a way back left.
    """

    def __init__(
        self, config: Config, state: State, count: int, keep: bool, stored: bool, keeps_words: bool
    ) -> None:
        """Take a state, into ``count`` shares."""
        self.config, self.keep, self.stored = config, keep, stored
        self.keeps_words = keeps_words
        self.h = by_group(state.h)
        self.c = np.empty((0, *self.h.shape[1:]), np.int32)
        if state.c is not None:
            self.c = by_group(state.c)
        self.heads = np.zeros((state.h.shape[1], config.group_size), np.int32)
        if state.heads is not None:
            self.heads = np.array(as_array(state.heads), order="C")
        self.tasks = tasks_for(0, count)
        self.tasks[:, KEEP] = keeps_words
        parts = [part_for(task, len(self.heads), 1) for task in self.tasks]
        self._rows = np.array([end - first for first, end in parts])
        self.blocks: list[list[Array]] = []
        self.kept: list[Kept] = []
        self.left_over = 0
        self._block = np.empty(0, np.int16)
        # By number of steps: where each share's words begin in the block, and room for how many.
        self._places: dict[int, tuple[Array, Array]] = {}
        self._no_words = self._words = [np.empty(LANES, np.int16)[:0]] * count
        self._nothing = self._room(0, 0)

    def load(self, store: Store) -> None:
        """Take what was kept of the chunk at whose end this stands; of one share only."""
        self.blocks = [[_with_room(store.words.numpy())]] if self.config.forgetting else []
        if store.slices is not None:
            self.kept = [self._nothing._replace(slices=store.slices.numpy())]

    def new_chunk(self, frame: int, steps: int, anew: int) -> Kept:
        """Tell shares where their words go, and return where all else that is kept goes."""
        if steps not in self._places:
            words = steps * self.config.operations_per_step * self.config.group_size
            each = self._rows * (words if self.keeps_words else 0) + LANES
            self._places[steps] = np.cumsum(each) - each, each
        first, each = self._places[steps]
        total = int(first[-1] + each[-1])
        if self._block.size < total:
            self._block = np.empty(total, np.int16)  # untouched pages cost nothing
        self._tell(frame, begin_of(self._block) + 2 * first, each)
        keeps_rows = anew if self.keep and not self.stored else 0
        if keeps_rows or self.config.slice_size or (self.stored and self.keep):
            return self._room(keeps_rows, steps + 1)
        return self._nothing

    def _tell(self, frame: int, first: Array | list[int], each: Array | list[int]) -> None:
        self.tasks[:, FRAME], self.tasks[:, ROOM], self.tasks[:, SIZE] = frame, first, each

    def _room(self, anew: int, steps: int) -> Kept:
        """Return room for rows set aside, for slices, and for all states."""
        layers, _, rows, units = self.h.shape
        depth, arrays = self.config.slice_size, self.config.state_arrays
        aside = [np.empty((n, layers, 2, units), np.int32) for n in (anew, anew * (arrays - 1))]
        slices = np.empty((steps if depth else 0, rows, depth), np.int32)
        length = steps if self.stored and self.keep else 0
        states = np.empty((length, arrays, layers, 2, rows, units), np.int32)
        return Kept(aside[0], aside[1], slices, states)

    def close(self, kept: Kept, steps: int) -> None:
        """Keep what going back over a chunk needs."""
        if self.keeps_words and not self.stored:
            parts = zip(self._places[steps][0].tolist(), self.tasks[:, WORDS].tolist(), strict=True)
            self.blocks.append([_with_room(self._block[at : at + n]) for at, n in parts])
        if self.keep:
            self.kept.append(kept)

    def reopen(self, frame: int, steps: int) -> Kept:
        """Tell shares where the words of the last chunk are, and return what else was kept."""
        words = self.blocks.pop() if self.blocks else self._no_words
        self._words, lengths = words, [len(own) for own in words]
        self._tell(frame, [begin_of(own) for own in words], lengths)
        self.tasks[:, WORDS] = lengths
        if self.kept:
            return self.kept.pop()
        return self._room(0, steps + 1) if self.config.slice_size else self._nothing

    def finish(self, kept: Kept, steps: int, finish: bool) -> None:
        """Note what is left of a chunk that was taken back.

        Raises:
            RevRNNError: ``E_UNDERFLOW`` if more words were wanted than there were (BUF-032).
        """
        words, self._words = self._words, self._no_words
        told, self.tasks[:, SHORT] = self.tasks[:, SHORT].tolist(), 0
        if any(told):
            allowed = "a store that was pushed to"
            raise RevRNNError("E_UNDERFLOW", "words", "an empty store", allowed)
        if finish:
            self.left_over += sum(self.tasks[:, WORDS].tolist())
            return
        left = zip(words, self.tasks[:, WORDS].tolist(), strict=True)
        self.blocks.append([own[:count] for own, count in left])
        if self.config.slice_size:
            slices = kept.slices[: len(kept.slices) - steps]
            self.kept.append(self._nothing._replace(slices=slices))

    def bytes_kept(self) -> int:
        """Return the bytes kept to go back, states stored in full not counted."""
        words = sum(own.nbytes for block in self.blocks for own in block)
        return words + sum(array.nbytes for kept in self.kept for array in kept[:3])
