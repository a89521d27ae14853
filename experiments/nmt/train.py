"""Training a translation model: batches of pairs of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console

from revrnn.experiments import training
from revrnn.experiments.runs import RunFolder

from .batches import Batch, evaluation_order, make_batch, training_order
from .corpus import Corpus, Pair
from .settings import NmtSettings
from .trainer import Trainer


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
