"""The training loop of a language model, which can be cut at any moment and go on."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from revrnn.errors import RevRNNError
from revrnn.experiments.progress import bar
from revrnn.experiments.runs import RunFolder

from .corpus import Corpus
from .segments import lengths, streams
from .settings import LmSettings
from .trainer import EVALUATION_ROWS, Trainer


@dataclass
class Place:
    """Where a run is; with a checkpoint's arrays all that it needs to go on.

    Attributes:
        epoch: passes over the text that are done.
        segment: segments of the present pass that are done.
        update: segments that are done in all.
        learning_rate: of the next segment.
        losses: of validation after each pass, nats a word.
        waited: validations since the last gain or fall of the learning rate.
        total: sum of the losses since the last line of the metrics.
        counted: how many these are.
        seconds: time spent training.
    """

    epoch: int = 0
    segment: int = 0
    update: int = 0
    learning_rate: float = 0.0
    losses: list[float] = field(default_factory=list)
    waited: int = 0
    total: float = 0.0
    counted: int = 0
    seconds: float = 0.0

    @property
    def is_best(self) -> bool:
        """Whether the last validation was the best so far."""
        return self.losses[-1] == min(self.losses)


def perplexity(loss: float) -> float:
    """Return ``exp`` of a loss in nats a word; infinity where it would be too large."""
    return math.exp(loss) if loss < 700 else math.inf


def train(
    trainer: Trainer, settings: LmSettings, corpus: Corpus, folder: RunFolder, console: Console
) -> Place:
    """Train to the end, from the folder's latest checkpoint if there is one.

    Metrics: ``train`` every ``log_every`` updates (loss in nats a word), ``valid`` after every pass
    over the text. ``best`` is the checkpoint of least validation loss.
    """
    place = Place(learning_rate=settings.learning_rate)
    found = folder.load("last")
    if found is not None:
        arrays, progress = found
        trainer.restore(arrays)
        place = Place(**{name: progress[name] for name in asdict(place)})
    data, valid = streams(corpus.train, settings.batch_size), streams(corpus.valid, EVALUATION_ROWS)
    with bar(console) as progress_bar:
        task = progress_bar.add_task(settings.cell, total=None, note="")
        while place.epoch < settings.epochs:
            _epoch(trainer, settings, data, folder, place, (progress_bar, task))
            _validate(trainer, settings, valid, folder, place)
            folder.save("last", trainer.arrays(), asdict(place))
    return place


def _epoch(
    trainer: Trainer,
    settings: LmSettings,
    data: Any,
    folder: RunFolder,
    place: Place,
    shown: tuple[Progress, TaskID],
) -> None:
    """Train on the rest of one pass over the text."""
    sizes = lengths(
        len(data) - 1, settings.steps, settings.random_steps, settings.seed, place.epoch
    )
    starts = np.concatenate([[0], np.cumsum(sizes)])
    left = settings.epochs - place.epoch
    shown[0].update(shown[1], total=place.update - place.segment + len(sizes) * left,
                    completed=place.update)  # fmt: skip
    if place.segment == 0:
        trainer.start_anew()
    while place.segment < len(sizes):
        first, size = int(starts[place.segment]), int(sizes[place.segment])
        began = time.perf_counter()
        # A short segment counts as much a word as a long one.
        rate = place.learning_rate * (size / settings.steps if settings.random_steps else 1.0)
        loss = trainer.step(data[first : first + size], data[first + 1 : first + 1 + size],
                            place.update, rate)  # fmt: skip
        if not math.isfinite(loss):
            allowed = "a number: lower learning_rate or clip"
            raise RevRNNError("E_NONFINITE", "loss", f"{loss} at update {place.update}", allowed)
        place.seconds += time.perf_counter() - began
        place.segment += 1
        place.update += 1
        place.total += loss
        place.counted += 1
        if place.update % settings.log_every == 0:
            mean = place.total / place.counted
            folder.log("train", update=place.update, epoch=place.epoch, loss=mean,
                       learning_rate=place.learning_rate, seconds=place.seconds)  # fmt: skip
            place.total, place.counted = 0.0, 0
            note = f"loss {mean:.3f}, perplexity {perplexity(mean):.1f}"
            shown[0].update(shown[1], note=note)
        if place.update % settings.checkpoint_every == 0 and place.segment < len(sizes):
            folder.save("last", trainer.arrays(), asdict(place))
        shown[0].update(shown[1], completed=place.update)


def _validate(
    trainer: Trainer, settings: LmSettings, valid: Any, folder: RunFolder, place: Place
) -> None:
    """Measure on the validation text; keep the best; let the learning rate fall if need be."""
    loss = trainer.evaluate(valid)
    place.epoch += 1
    place.segment = 0
    place.losses.append(loss)
    folder.log("valid", update=place.update, epoch=place.epoch, loss=loss,
               perplexity=perplexity(loss), learning_rate=place.learning_rate)  # fmt: skip
    if place.is_best:
        folder.save("best", trainer.parameters(), asdict(place))
        place.waited = 0
        return
    place.waited += 1
    if settings.patience and place.waited >= settings.patience:
        place.learning_rate *= settings.decay
        place.waited = 0
