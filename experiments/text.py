"""Real English that every Python has: the help topics of ``pydoc``, as characters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Corpus:
    """A text as numbers.

    Attributes:
        vocabulary: the characters, sorted; a character's number is its place.
        ids: the text, int32 ``[N]``.
    """

    vocabulary: str
    ids: npt.NDArray[np.int32]


def help_topics() -> Corpus:
    """Return all help topics one after the other; rare characters become ``?``."""
    text = "\n".join(topics[name] for name in sorted(topics))
    common = {c for c in set(text) if text.count(c) >= 20} | {"?"}
    vocabulary = "".join(sorted(common))
    number = {c: i for i, c in enumerate(vocabulary)}
    ids = np.array([number.get(c, number["?"]) for c in text], np.int32)
    return Corpus(vocabulary, ids)


@dataclass(frozen=True)
class Batch:
    """Characters and their successors, int32 ``[T, B]`` each."""

    tokens: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]


def batches(corpus: Corpus, rows: int, steps: int) -> Iterator[Batch]:
    """Yield consecutive segments of ``rows`` parallel streams, for ever.

    Row b of a segment goes on where row b of the one before ended, so that state can be carried.
    """
    length = (len(corpus.ids) - 1) // rows
    starts = np.arange(rows) * length
    position = 0
    while True:
        if position + steps > length:
            position = 0
        at = starts[None, :] + position + np.arange(steps)[:, None]
        yield Batch(corpus.ids[at], corpus.ids[at + 1])
        position += steps
