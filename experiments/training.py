"""The training loop of all experiments that pass over a text; it can be cut at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Generic, Protocol, TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID

from revrnn.errors import RevRNNError

from .progress import bar
from .run_log import say
from .runs import Arrays, RunFolder, of_a_run
from .settings import TextSettings

B = TypeVar("B")
Shown = tuple[Progress, TaskID]


class Trainer(Protocol):
    """What the loop asks of a model in any framework."""

    def parameters(self) -> Arrays:
        """Return a copy of the parameters, float32, by name."""
        ...

    def arrays(self) -> Arrays:
        """Return a copy of all that is needed to go on."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        ...


@dataclass
class Place:
    """Where a run is; with a checkpoint's arrays all that it needs to go on.

    Attributes:
        epoch: passes over the text that are done.
        batch: batches of the present pass that are done.
        update: batches that are done in all.
        learning_rate: of the next batch, before annealing.
        losses: of validation after each pass, nats a word.
        waited: validations since the last gain or fall of the learning rate.
        total: weighted sum of the losses since the last line of the metrics, nats.
        weight: sum of their weights.
        seconds: time spent training.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    learning_rate: float = 0.0
    losses: list[float] = field(default_factory=list)
    waited: int = 0
    total: float = 0.0
    weight: float = 0.0
    seconds: float = 0.0

    @property
    def is_best(self) -> bool:
        """Whether the last validation was better than all before."""
        return self.losses[-1] < min(self.losses[:-1], default=math.inf)

    @property
    def best_epoch(self) -> int:
        """The pass, counted from 1, after which validation was best."""
        return self.losses.index(min(self.losses)) + 1


@dataclass(frozen=True)
class Work(Generic[B]):
    """What an experiment does in the loop.

    Attributes:
        batches: gives the batches of a pass, which depend on its number and the settings alone.
        step: trains on a batch, given the updates before it and the learning rate; returns the
            mean loss in nats a word, and what it weighs in the metrics.
        validate: returns the loss on validation text in nats a word.
        begin_pass: is called before the first batch of a pass.
        after_pass: is called after each validation, and may add to the metrics.
    """

    batches: Callable[[int], Sequence[B]]
    step: Callable[[B, int, float], tuple[float, float]]
    validate: Callable[[], float]
    begin_pass: Callable[[], None] = lambda: None
    after_pass: Callable[[Place], None] = lambda place: None


def perplexity(loss: float) -> float:
    """Return ``exp`` of a loss in nats a word; of losses above 690 that of 690.

    JSON has no infinity, and nobody tells such figures apart.
    """
    return math.exp(min(loss, 690.0))


def train(
    trainer: Trainer, settings: TextSettings, work: Work[B], folder: RunFolder, console: Console
) -> Place:
    """Train to the end, from the folder's latest checkpoint if there is one.

    Metrics: ``train`` every ``log_every`` updates and ``valid`` after every pass over the text,
    losses in nats a word. ``best`` is the checkpoint of least validation loss.

    Raises:
        RevRNNError: ``E_NONFINITE`` if a loss is no number.
    """
    place = Place(learning_rate=settings.learning_rate)
    checkpoint = folder.load("last")
    if checkpoint is not None:
        arrays, progress = checkpoint
        with of_a_run(folder.path / "last.safetensors"):
            trainer.restore(arrays)
            place = Place(**{name: progress[name] for name in asdict(place)})
    with bar(console) as progress_bar:
        task = progress_bar.add_task(settings.cell, total=None, note="")
        while place.epoch < settings.epochs:
            _epoch(trainer, settings, work, folder, place, (progress_bar, task))
            loss = validate(trainer, settings, work, folder, place)
            text = f"pass {place.epoch} of {settings.epochs} done: validation loss {loss:.3f}"
            say(folder, console, f"{text}, perplexity {perplexity(loss):#.4g}")
            work.after_pass(place)
            folder.save("last", trainer.arrays(), asdict(place))
    return place


def _epoch(
    trainer: Trainer,
    settings: TextSettings,
    work: Work[B],
    folder: RunFolder,
    place: Place,
    shown: Shown,
) -> None:
    """Train on the rest of one pass over the text."""
    batches, (progress, task) = work.batches(place.epoch), shown
    left = settings.epochs - place.epoch
    total = place.update - place.batch + len(batches) * left
    progress.update(task, total=total, completed=place.update)
    if place.batch == 0:
        work.begin_pass()
    while place.batch < len(batches):
        began = time.perf_counter()
        rate = learning_rate(settings, place, len(batches))
        loss, weight = work.step(batches[place.batch], place.update, rate)
        _check_finite(loss, f"at update {place.update}")
        place.seconds += time.perf_counter() - began
        place.batch += 1
        place.update += 1
        place.total += loss * weight
        place.weight += weight
        if place.update % settings.log_every == 0:
            mean = place.total / place.weight
            folder.log(
                "train",
                update=place.update,
                epoch=place.epoch,
                loss=mean,
                learning_rate=rate,
                seconds=place.seconds,
            )
            place.total, place.weight = 0.0, 0.0
            note = f"loss {mean:.3f}, perplexity {perplexity(mean):#.4g}"
            progress.update(task, note=note)
            at = (
                f"pass {place.epoch + 1} of {settings.epochs}, update {place.update:,} of {total:,}"
            )
            say(folder, progress.console, f"{at}: {note}", important=False)
        if place.update % settings.checkpoint_every == 0 and place.batch < len(batches):
            folder.save("last", trainer.arrays(), asdict(place))
        progress.update(task, completed=place.update)


def learning_rate(settings: TextSettings, place: Place, batches: int) -> float:
    """Return the rate of the next batch, where the present pass has so many.

    With ``anneal`` it falls in a straight line, and would be 0 after the last batch of the last
    pass. It depends on the place alone, so a run that was cut finds it again.
    """
    if not settings.anneal:
        return place.learning_rate
    done = (place.epoch + place.batch / batches) / settings.epochs
    return place.learning_rate * (1 - done)


def validate(
    trainer: Trainer, settings: TextSettings, work: Work[B], folder: RunFolder, place: Place
) -> float:
    """Measure on the validation text; keep the best; let the learning rate fall if need be."""
    loss = work.validate()
    _check_finite(loss, "on validation text")
    place.epoch += 1
    place.batch = 0
    place.losses.append(loss)
    folder.log(
        "valid",
        update=place.update,
        epoch=place.epoch,
        loss=loss,
        perplexity=perplexity(loss),
        learning_rate=place.learning_rate,
    )
    if place.is_best:
        folder.save("best", trainer.parameters(), asdict(place))
        place.waited = -1
    place.waited += 1
    if place.waited and settings.patience and place.waited >= settings.patience:
        place.learning_rate *= settings.decay
        place.waited = 0
    return loss


def _check_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        allowed = "a number: lower learning_rate or clip"
        raise RevRNNError("E_NONFINITE", "loss", f"{loss} {where}", allowed)
