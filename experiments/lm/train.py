"""Training a language model: segments of parallel streams, one after the other."""

from __future__ import annotations

from itertools import accumulate

from rich.console import Console

from revrnn.experiments import training
from revrnn.experiments.runs import RunFolder

from .corpus import Corpus
from .segments import lengths, streams
from .settings import LmSettings
from .trainer import EVALUATION_ROWS, Trainer

# The first step of a segment and the one after its last.
Segment = tuple[int, int]


def train(
    trainer: Trainer, settings: LmSettings, corpus: Corpus, folder: RunFolder, console: Console
) -> training.Place:
    """Train to the end; see :func:`revrnn.experiments.training.train`."""
    data = streams(corpus.train, settings.batch_size)
    valid = streams(corpus.valid, EVALUATION_ROWS, "valid")

    def segments(epoch: int) -> list[Segment]:
        drawn = settings.random_steps, settings.seed, epoch
        sizes = [int(size) for size in lengths(len(data) - 1, settings.steps, *drawn)]
        ends = list(accumulate(sizes))
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def step(segment: Segment, update: int, rate: float) -> tuple[float, float]:
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
