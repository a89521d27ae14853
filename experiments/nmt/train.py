"""The training loop of a translation model, which can be cut at any moment and go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.progress import Progress, TaskID

from revrnn.errors import RevRNNError
from revrnn.experiments.progress import bar
from revrnn.experiments.runs import RunFolder

from .batches import Batch, evaluation_order, make_batch, training_order
from .corpus import Corpus, Pair
from .settings import NmtSettings
from .trainer import Trainer


@dataclass
class Place:
    """Where a run is; with a checkpoint's arrays all that it needs to go on.

    Attributes:
        epoch: passes over the text that are done.
        batch: batches of the present pass that are done.
        update: batches that are done in all.
        learning_rate: of the next batch.
        losses: of validation after each pass, nats a word.
        waited: validations since the last gain or fall of the learning rate.
        total: sum of the losses since the last line of the metrics, nats.
        words: how many words these are of.
        seconds: time spent training.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    learning_rate: float = 0.0
    losses: list[float] = field(default_factory=list)
    waited: int = 0
    total: float = 0.0
    words: int = 0
    seconds: float = 0.0

    @property
    def is_best(self) -> bool:
        """Whether the last validation was the best so far."""
        return self.losses[-1] < min(self.losses[:-1], default=math.inf)

    @property
    def best_epoch(self) -> int:
        """The pass, counted from 1, after which validation was best."""
        return self.losses.index(min(self.losses)) + 1


def perplexity(loss: float) -> float:
    """Return ``exp`` of a loss in nats a word; infinity where it would be too large."""
    return math.exp(loss) if loss < 700 else math.inf


def train(
    trainer: Trainer,
    settings: NmtSettings,
    corpus: Corpus,
    folder: RunFolder,
    console: Console,
    after_pass: Callable[[Place], None],
) -> Place:
    """Train to the end, from the folder's latest checkpoint if there is one.

    Metrics: ``train`` every ``log_every`` updates and ``valid`` after every pass over the text,
    losses in nats a word, end marks counted as words. ``best`` is the checkpoint of least
    validation loss. ``after_pass`` is called after each validation, and may add to the metrics.
    """
    place = Place(learning_rate=settings.learning_rate)
    found = folder.load("last")
    if found is not None:
        arrays, progress = found
        trainer.restore(arrays)
        place = Place(**{name: progress[name] for name in asdict(place)})
    with bar(console) as progress_bar:
        task = progress_bar.add_task(settings.cell, total=None, note="")
        while place.epoch < settings.epochs:
            _epoch(trainer, settings, corpus.train, folder, place, (progress_bar, task))
            _validate(trainer, settings, corpus.valid, folder, place)
            after_pass(place)
            folder.save("last", trainer.arrays(), asdict(place))
    return place


def _epoch(
    trainer: Trainer,
    settings: NmtSettings,
    pairs: Sequence[Pair],
    folder: RunFolder,
    place: Place,
    shown: tuple[Progress, TaskID],
) -> None:
    """Train on the rest of one pass over the text."""
    order = training_order(pairs, settings.batch_size, settings.seed, place.epoch)
    progress, task = shown
    progress.update(task, total=len(order) * settings.epochs, completed=place.update)
    while place.batch < len(order):
        batch = make_batch([pairs[i] for i in order[place.batch]])
        began = time.perf_counter()
        loss = trainer.step(batch, place.update, place.learning_rate)
        _check_finite(loss, f"at update {place.update}")
        place.seconds += time.perf_counter() - began
        place.batch += 1
        place.update += 1
        place.total += loss * batch.words
        place.words += batch.words
        if place.update % settings.log_every == 0:
            mean = place.total / place.words
            folder.log("train", update=place.update, epoch=place.epoch, loss=mean,
                       learning_rate=place.learning_rate, seconds=place.seconds)  # fmt: skip
            place.total, place.words = 0.0, 0
            progress.update(task, note=f"loss {mean:.3f}, perplexity {perplexity(mean):.1f}")
        if place.update % settings.checkpoint_every == 0 and place.batch < len(order):
            folder.save("last", trainer.arrays(), asdict(place))
        progress.update(task, completed=place.update)


def _validate(
    trainer: Trainer,
    settings: NmtSettings,
    pairs: Sequence[Pair],
    folder: RunFolder,
    place: Place,
) -> None:
    """Measure on the validation text; keep the best; let the learning rate fall if need be."""
    loss = mean_loss(trainer, pairs, settings.batch_size)
    _check_finite(loss, "on validation text")
    place.epoch += 1
    place.batch = 0
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


def _check_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        allowed = "a number: lower learning_rate or clip"
        raise RevRNNError("E_NONFINITE", "loss", f"{loss} {where}", allowed)


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
