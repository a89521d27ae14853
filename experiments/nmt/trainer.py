"""Training a translation model: batches of pairs of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from .. import training
from ..framework import Optimiser, Training, load
from ..runs import RunFolder
from .batches import Batch, evaluation_order, make_batch, training_order
from .corpus import Corpus, Pair
from .model import SearchState, Sentences, TranslationModel
from .settings import NmtSettings

# Where every number of steps is a program of its own, which takes long to compile, sentences are
# filled up to multiples of so many.
_STEPS: Final = 16


class Trainer:
    """A translation model in any framework, with its optimiser."""

    def __init__(self, settings: NmtSettings, source_words: int, target_words: int) -> None:
        """Make a model with its first values."""
        self.settings, self.framework = settings, load(settings.framework)
        self.model = TranslationModel(settings, source_words, target_words, self.framework)
        optimiser = Optimiser(settings.optimiser, settings.clip)
        first = self.model.first_values()
        made: Training = self.framework.Training(self.model, optimiser, first, settings.compiled)
        self.training = made
        self.parameters, self.set_parameters = made.parameters, made.set_parameters
        self.arrays, self.restore = made.arrays, made.restore

    def sentences(self, batch: Batch, rows: int) -> Sentences:
        """Return a batch as the framework wants it, filled up to so many rows if need be."""
        return Sentences.of(batch.padded(_STEPS, rows) if self.framework.FILLS_UP else batch)

    def step(self, batch: Batch, update: int, learning_rate: float) -> float:
        """Train on one batch and return the loss in nats a word, before the update.

        All that is random depends on the run's seed and ``update`` alone.
        """
        sentences = self.sentences(batch, self.settings.batch_size)
        at = self.settings.seed, update
        return float(self.training.update(None, sentences, at, learning_rate)[0])

    def evaluate(self, batch: Batch) -> float:
        """Return the sum of the batch's losses in nats, without dropout."""
        rows = max(self.settings.batch_size, batch.source.shape[1])
        return float(self.training.call(self.model.measure, self.sentences(batch, rows)))

    def stepper(self, batch: Batch) -> tuple[Stepper, SearchState]:
        """Return what translates the batch's sources word by word, and its first state."""
        sentences = self.sentences(batch, batch.source.shape[1])
        return Stepper(self), self.training.call(self.model.first, sentences)


class Stepper:
    """A trainer's present model as :mod:`.search` asks it."""

    def __init__(self, trainer: Trainer) -> None:
        """Translate by a trainer's present parameters."""
        self.model, self.call = trainer.model, trainer.training.call

    def step(self, state: SearchState, words: Any) -> tuple[Any, SearchState]:
        """Go on by one word."""
        scores, new = self.call(self.model.next, state, words)
        return np.asarray(scores), new

    def select(self, state: SearchState, rows: Any) -> SearchState:
        """Return these rows."""
        chosen: SearchState = self.call(self.model.select, state, rows.astype(np.int32))
        return chosen


def train(
    trainer: Trainer,
    settings: NmtSettings,
    corpus: Corpus,
    folder: RunFolder,
    console: Console,
    after_pass: Callable[[training.Place], None],
) -> training.Place:
    """Train to the end; see :func:`revrnn.experiments.training.train`. End marks are words."""
    pairs, rows = corpus.train, settings.batch_size

    def order(epoch: int) -> list[npt.NDArray[np.int64]]:
        return training_order(pairs, rows, settings.seed, epoch)

    def step(numbers: npt.NDArray[np.int64], update: int, rate: float) -> tuple[float, float]:
        batch = make_batch([pairs[i] for i in numbers])
        return trainer.step(batch, update, rate), batch.words

    work = training.Work(
        order, step, validate=lambda: mean_loss(trainer, corpus.valid, rows), after_pass=after_pass
    )
    return training.train(trainer, settings, work, folder, console)


def mean_loss(trainer: Trainer, pairs: Sequence[Pair], rows: int) -> float:
    """Return the loss of a text in nats a word."""
    total, words = 0.0, 0
    for batch in evaluation_batches(pairs, rows):
        total += trainer.evaluate(batch)
        words += batch.words
    return total / words


def evaluation_batches(pairs: Sequence[Pair], rows: int) -> list[Batch]:
    """Return a text in batches, the shortest sources first."""
    return [make_batch([pairs[i] for i in numbers]) for numbers in evaluation_order(pairs, rows)]
