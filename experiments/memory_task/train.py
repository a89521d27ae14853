"""Training of all networks, one after the other; it can be cut at any moment and go on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import Tensor

from revrnn.errors import RevRNNError

from ..framework import Optimiser
from ..progress import bar
from ..run_log import say
from ..runs import Arrays, RunFolder, of_a_run
from ..torch_framework import Updates
from .model import Repeater, bits, measure
from .settings import Job, MemorySettings
from .task import repeat, tokens

Shown = tuple[Progress, TaskID]


@dataclass
class Place:
    """Where a run is; with a checkpoint's arrays all that it needs to go on.

    Attributes:
        job: networks that are done.
        update: updates of the present one that are done.
        total: sum of the losses since the last line of the metrics, bits a token.
        counted: how many these are.
        seconds: time spent training the present network.
    """

    job: int = 0
    update: int = 0
    total: float = 0.0
    counted: int = 0
    seconds: float = 0.0


class Trainer(Updates):
    """One network and its optimiser."""

    def __init__(self, settings: MemorySettings, job: Job) -> None:
        """Make the network."""
        self.settings, self.job = settings, job
        self.model = Repeater(settings, job)
        named = dict(self.model.named_parameters())
        super().__init__(named, Optimiser("adam", settings.clip))

    def _data(self, update: int) -> tuple[Tensor, Tensor]:
        s = self.settings
        given = tokens(s.symbols, s.train_steps, s.batch_size, self.job.seed, "train", update)
        return repeat(given, s.lag)

    def step(self, update: int) -> float:
        """Do one update and return the loss before it, bits a token."""
        inputs, targets = self._data(update)
        self.optimiser.zero_grad()
        loss = bits(self.model(inputs), targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.change(self.job.learning_rate * (1 - update / self.settings.updates))
        return float(loss.detach())

    def result(self) -> dict[str, object]:
        """Return what the trained network can do, of JSON's types.

        ``valid_bits`` is the mean at the trained length, bits a token, by which a learning rate is
        chosen; ``bits`` and ``accuracy`` are by position, of the longer test sequences.
        """
        s, seed = self.settings, self.job.seed
        valid = tokens(s.symbols, s.train_steps, s.test_rows, seed, "valid")
        test = tokens(s.symbols, s.test_steps, s.test_rows, seed, "test")
        chosen, _ = measure(self.model, *repeat(valid, s.lag))
        losses, right = measure(self.model, *repeat(test, s.lag))
        return {
            **asdict(self.job),
            "parameters": sum(value.numel() for value in self.names.values()),
            "valid_bits": float(chosen.mean()),
            "bits": [float(value) for value in losses],
            "accuracy": [float(value) for value in right],
        }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: steps are so small that several only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(settings: MemorySettings, folder: RunFolder, console: Console) -> None:
    """Train and test all networks, from the folder's latest checkpoint if there is one.

    Metrics: ``train`` every ``log_every`` updates (loss in bits a token), ``result`` for each
    network (see :meth:`Trainer.result`).
    """
    jobs, place, arrays = settings.jobs, Place(), Arrays()
    checkpoint = folder.load("last")
    if checkpoint is not None:
        arrays, progress = checkpoint
        with of_a_run(folder.path / "last.safetensors"):
            place = Place(**{name: progress[name] for name in asdict(place)})
    with bar(console) as progress_bar, _one_thread():
        total, done = settings.updates * len(jobs), settings.updates * place.job + place.update
        task = progress_bar.add_task("repeat", total=total, completed=done, note="")
        while place.job < len(jobs):
            trainer = Trainer(settings, jobs[place.job])
            if place.update:
                with of_a_run(folder.path / "last.safetensors"):
                    trainer.restore(arrays)
            _finish(trainer, settings, folder, place, (progress_bar, task))
            folder.log("result", **trainer.result(), seconds=place.seconds)
            place = Place(job=place.job + 1)
            folder.save("last", {}, asdict(place))


def _finish(
    trainer: Trainer, settings: MemorySettings, folder: RunFolder, place: Place, shown: Shown
) -> None:
    """Do the rest of one network's updates."""
    job, before = trainer.job, settings.updates * place.job
    name = f"{job.variant} {job.hidden_size}, seed {job.seed}"
    shown[0].update(shown[1], completed=before + place.update, note=name)
    while place.update < settings.updates:
        began = time.perf_counter()
        loss = trainer.step(place.update)
        if not math.isfinite(loss):
            allowed = "a number: lower learning_rates or clip"
            raise RevRNNError("E_NONFINITE", "loss", f"{loss} of {name}", allowed)
        place.seconds += time.perf_counter() - began
        place.update += 1
        place.total += loss
        place.counted += 1
        if place.update % settings.log_every == 0:
            mean = place.total / place.counted
            folder.log("train", **asdict(job), update=place.update, bits=mean)
            place.total, place.counted = 0.0, 0
            note = f"{name}: {mean:.2f} bits a token"
            shown[0].update(shown[1], note=note)
            say(folder, shown[0].console, f"update {place.update:,}, {note}", important=False)
        if place.update % settings.checkpoint_every == 0 and place.update < settings.updates:
            folder.save("last", trainer.arrays(), asdict(place))
        shown[0].update(shown[1], completed=before + place.update)
