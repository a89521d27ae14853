"""Training a language model: segments of parallel streams, one after the other."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

import numpy as np
from rich.console import Console

from .. import training
from ..framework import Optimiser, Training, load
from ..runs import Arrays, RunFolder, prefixed, without_prefix
from .corpus import Corpus, Ids
from .model import Floats, LanguageModel, Segment
from .segments import lengths, longest, streams
from .settings import LmSettings

# Rows of validation and test text.
EVALUATION_ROWS: Final = 10


class Trainer:
    """A language model in any framework, with its optimiser and the state that it carries."""

    def __init__(self, settings: LmSettings, log_frequencies: Floats) -> None:
        """Make a model with its first values; ``log_frequencies`` of the words are ``[V]``."""
        self.settings, self.framework = settings, load(settings.framework)
        self.model = LanguageModel(settings, len(log_frequencies), self.framework)
        optimiser = Optimiser(settings.optimiser, settings.clip, settings.weight_decay)
        first = self.model.first_values(log_frequencies)
        made: Training = self.framework.Training(self.model, optimiser, first, settings.compiled)
        self.training = made
        self.parameters, self.set_parameters = made.parameters, made.set_parameters
        self.length = longest(settings.steps, settings.random_steps)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the carried state: a new pass over the text begins."""
        self.state = self.model.stack.fresh(self.settings.batch_size)

    def segment(self, tokens: Ids, targets: Ids, length: int) -> Segment:
        """Return a segment, filled up to a length if the framework asks for it."""
        if not self.framework.FILLS_UP:
            return Segment(tokens, targets)
        more = ((0, length - len(tokens)), (0, 0))
        filled = np.pad(targets, more, constant_values=-100)
        return Segment(np.pad(tokens, more), filled, filled >= 0)

    def step(self, tokens: Ids, targets: Ids, update: int, learning_rate: float) -> float:
        """Train on one segment ``[T, B]``, carry the state on, return the loss in nats a word.

        All that is random depends on the run's seed and ``update`` alone.
        """
        batch = self.segment(tokens, targets, self.length)
        at = self.settings.seed, update
        loss, self.state = self.training.update(self.state, batch, at, learning_rate)
        return float(loss)

    def evaluate(self, ids: Ids) -> float:
        """Return the mean loss of streams ``[N, B]`` in nats a word, from a fresh state.

        Without ``carry_state`` every segment of ``steps`` words begins with one.
        """
        state, total = self.model.stack.fresh(ids.shape[1]), 0.0
        size = self.settings.steps
        for first in range(0, len(ids) - 1, size):
            if not self.settings.carry_state:
                state = self.model.stack.fresh(ids.shape[1])
            part = ids[first : first + size + 1]
            batch = self.segment(part[:-1], part[1:], size)
            loss, state = self.training.call(self.model.measure, state, batch)
            total += float(loss)
        return total / float((len(ids) - 1) * ids.shape[1])

    def carried(self) -> Arrays:
        """Return a copy of the carried state's arrays."""
        arrays: Arrays = self.framework.state_arrays(self.state)
        return arrays

    def arrays(self) -> Arrays:
        """Return a copy of all that is needed to go on."""
        return self.training.arrays() | prefixed("state", self.carried())

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.training.restore(arrays)
        self.state = self.framework.state_from(without_prefix("state", arrays), self.state)


# The first step of a segment and the one after its last.
Place = tuple[int, int]


def train(
    trainer: Trainer, settings: LmSettings, corpus: Corpus, folder: RunFolder, console: Console
) -> training.Place:
    """Train to the end; see :func:`revrnn.experiments.training.train`."""
    data = streams(corpus.train, settings.batch_size)
    valid = streams(corpus.valid, EVALUATION_ROWS, "valid")

    def segments(epoch: int) -> list[Place]:
        drawn = settings.random_steps, settings.seed, epoch
        sizes = [int(size) for size in lengths(len(data) - 1, settings.steps, *drawn)]
        ends = list(accumulate(sizes))
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def step(segment: Place, update: int, rate: float) -> tuple[float, float]:
        first, stop = segment
        if not settings.carry_state:
            trainer.start_anew()
        # A short segment counts as much a word as a long one.
        part = (stop - first) / settings.steps if settings.random_steps else 1.0
        tokens, targets = data[first:stop], data[first + 1 : stop + 1]
        return trainer.step(tokens, targets, update, rate * part), 1.0

    work = training.Work(
        segments, step, validate=lambda: trainer.evaluate(valid), begin_pass=trainer.start_anew
    )
    return training.train(trainer, settings, work, folder, console)
