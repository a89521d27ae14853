"""Batches of pairs of similar length, with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .corpus import BEGIN, END, PAD, Pair

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

# Batches that are sorted by length together: sentences of a batch then differ little, and yet no
# two passes have the same batches.
_POOL = 50


@dataclass(frozen=True)
class Batch:
    """Pairs side by side; what a shorter sentence lacks is ``<pad>``, and false in the masks.

    Attributes:
        source: int32 ``[S, B]``.
        source_mask: bool ``[S, B]``.
        inputs: what the decoder is given, begin mark first, int32 ``[T, B]``.
        targets: what it is to say, end mark last, int32 ``[T, B]``.
        target_mask: bool ``[T, B]``, of both.
    """

    source: Ids
    source_mask: Mask
    inputs: Ids
    targets: Ids
    target_mask: Mask

    @property
    def words(self) -> int:
        """How many words are to be said, end marks among them."""
        return int(self.target_mask.sum())

    def padded(self, multiple: int, rows: int) -> Batch:
        """Return the batch with numbers of steps that are multiples, and with so many rows."""

        def pad(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            steps, own = array.shape
            return np.pad(array, ((0, -steps % multiple), (0, rows - own)))

        parts = [pad(getattr(self, name)) for name in self.__dataclass_fields__]
        return Batch(*parts)


def make_batch(pairs: Sequence[Pair]) -> Batch:
    """Return pairs as one batch, in their order."""
    sources = [pair.source for pair in pairs]
    inputs = [(BEGIN, *pair.target) for pair in pairs]
    targets = [(*pair.target, END) for pair in pairs]
    return Batch(
        _columns(sources), _mask(sources), _columns(inputs), _columns(targets), _mask(targets)
    )


def _columns(sentences: Sequence[Sequence[int]]) -> Ids:
    columns = np.full((max(map(len, sentences)), len(sentences)), PAD, np.int32)
    for column, sentence in enumerate(sentences):
        columns[: len(sentence), column] = sentence
    return columns


def _mask(sentences: Sequence[Sequence[int]]) -> Mask:
    lengths = np.array([len(sentence) for sentence in sentences])
    mask: Mask = np.arange(lengths.max())[:, None] < lengths
    return mask


def training_order(
    pairs: Sequence[Pair], rows: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """Return a pass over the pairs: the numbers of each batch's, as ``[seed, epoch]`` decide.

    Every pair occurs once; the last batch of all may have fewer rows.
    """
    generator = np.random.default_rng([seed, 1, epoch])
    order = generator.permutation(len(pairs))
    batches = []
    for first in range(0, len(order), rows * _POOL):
        pool = order[first : first + rows * _POOL]
        lengths = [(len(pairs[i].source), len(pairs[i].target)) for i in pool]
        by_length = sorted(range(len(pool)), key=lambda place: lengths[place])
        batches += [pool[by_length[i : i + rows]] for i in range(0, len(pool), rows)]
    return [batches[i] for i in generator.permutation(len(batches))]


def evaluation_order(pairs: Sequence[Pair], rows: int) -> list[npt.NDArray[np.int64]]:
    """Return the numbers of the pairs of each batch, the shortest sources first."""
    order = np.array(sorted(range(len(pairs)), key=lambda i: len(pairs[i].source)))
    return [order[first : first + rows] for first in range(0, len(order), rows)]
