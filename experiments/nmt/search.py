"""Greedy search and beam search, whatever the framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .corpus import BEGIN, END, PAD, UNK

S = TypeVar("S")
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]


class Stepper(Protocol[S]):
    """A model that says the next word; its state has a row for every translation begun."""

    def step(self, state: S, words: Ids) -> tuple[Floats, S]:
        """Return log probabilities ``[N, V]`` of what follows words ``[N]``, and the new state."""
        ...

    def select(self, state: S, rows: npt.NDArray[np.int64]) -> S:
        """Return a state that has these rows, in this order; a row may occur several times."""
        ...


def greedy(stepper: Stepper[S], state: S, rows: int, longest: int) -> list[list[int]]:
    """Return the translations of ``rows`` sentences, each word the most probable one.

    Args:
        stepper: the model.
        state: its first state.
        rows: how many sentences there are.
        longest: words at most.
    """
    sentences: list[list[int]] = [[] for _ in range(rows)]
    words, ended = np.full(rows, BEGIN, np.int32), np.zeros(rows, np.bool_)
    for _ in range(longest):
        scores, state = stepper.step(state, words)
        words = _allowed(scores).argmax(1).astype(np.int32)
        ended |= words == END
        for row in np.flatnonzero(~ended):
            sentences[row].append(int(words[row]))
        if ended.all():
            break
    return sentences


@dataclass
class _Hypotheses:
    """The search for one sentence's translation.

    Attributes:
        begun: translations that go on, the best first.
        totals: their log probabilities.
        ended: translations that have ended.
        scores: what these are compared by.
    """

    begun: list[list[int]]
    totals: list[float]
    ended: list[list[int]]
    scores: list[float]


def beam(
    stepper: Stepper[S], state: S, rows: int, longest: int, width: int, length_penalty: float
) -> list[list[int]]:
    """Return the translations of ``rows`` sentences that a beam search finds best.

    A sentence's search ends when ``width`` translations have ended, or at ``longest`` words. The
    score is the sum of the log probabilities, that of the end mark among them, divided by the
    number of words, end mark included, to the power ``length_penalty``. With ``width`` 1 this is
    :func:`greedy`.

    Args:
        stepper: the model.
        state: its first state.
        rows: how many sentences there are.
        longest: words at most.
        width: translations that are kept at a time.
        length_penalty: 0: long translations are at a disadvantage; 1: the mean decides.
    """
    searches = [_Hypotheses([[]], [0.0], [], []) for _ in range(rows)]
    # Row r·width + k of the model's state is the k-th translation of sentence r.
    state = stepper.select(state, np.repeat(np.arange(rows), width))
    words = np.full(rows * width, BEGIN, np.int32)
    for length in range(1, longest + 1):
        scores, state = stepper.step(state, words)
        by_row = _allowed(scores).reshape(rows, width, -1)
        words, order = np.full(rows * width, PAD, np.int32), np.arange(rows * width)
        for row, search in enumerate(searches):
            if len(search.ended) >= width:
                continue
            parents = _advance(search, by_row[row], width, length, length_penalty)
            for k, parent in enumerate(parents):
                order[row * width + k] = row * width + parent
                words[row * width + k] = search.begun[k][-1]
        if all(len(search.ended) >= width for search in searches):
            break
        state = stepper.select(state, order)
    for search in searches:
        if len(search.ended) < width:  # cut at the greatest length
            search.ended += search.begun
            search.scores += [t / longest**length_penalty for t in search.totals]
    return [search.ended[int(np.argmax(search.scores))] for search in searches]


def _advance(
    search: _Hypotheses, scores: Floats, width: int, length: int, penalty: float
) -> list[int]:
    """Take a search one word on; return which translation each of the new ones goes on from."""
    # float64 of the scores ``[K, V]`` of what has begun: K is at most the width.
    totals = np.array(search.totals)[:, None] + scores[: len(search.totals)]
    begun = search.begun
    kept: list[float] = []
    parents: list[int] = []
    search.begun = []
    # At most ``width`` of so many end, so as many are left to go on.
    for rank, place in enumerate(_largest(totals.ravel(), 2 * width)):
        parent, word = divmod(int(place), totals.shape[1])
        total = float(totals[parent, word])
        if total == -np.inf:
            break
        if word == END:
            if rank < width:  # an end that is not among the best ends nothing
                search.ended.append(begun[parent])
                search.scores.append(total / length**penalty)
        elif len(kept) < width:
            search.begun.append([*begun[parent], word])
            kept.append(total)
            parents.append(parent)
    search.totals = kept
    return parents


def _largest(values: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Return the places of the largest values, the largest first, of equals the first first."""
    count = min(count, len(values))
    places = np.sort(np.argpartition(-values, count - 1)[:count])
    ordered: npt.NDArray[np.int64] = places[np.argsort(-values[places], kind="stable")]
    return ordered


def _allowed(scores: Floats) -> Floats:
    """Return scores ``[N, V]`` in which words that no translation may contain are never best."""
    allowed = scores.copy()
    allowed[:, [PAD, BEGIN, UNK]] = -np.inf
    return allowed
