"""What the demo trains: one run of one framework, measured and compared with the oracle.

Runs are shared by two processes, so that the one's compiling costs no waiting for the other. What
they report on the way goes through a queue, which each process is given at its start.
"""

from __future__ import annotations

import dataclasses
import gc
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import load_file

from revrnn import Config
from revrnn.evaluation import fresh_heads, load

from .agreement import Agreement, compare_batch, exact_arguments
from .lm.settings import LmSettings
from .lm.trainer import Trainer
from .processes import use_part_of_cores
from .runs import Arrays
from .settings import LAYOUTS
from .text import Batch

# How many train at the same time; each of PyTorch's takes one part of the cores.
PROCESSES: Final = 2
# A run's name, how many updates are done, and a word on how it goes.
Report = tuple[str, int, str]

# Where this process's runs report.
_reports: SimpleQueue[Report] | None = None


def report_to(queue: SimpleQueue[Report]) -> None:
    """Have the runs of this process report there."""
    global _reports
    _reports = queue


@dataclass
class Job:
    """What is to be trained, from the same weights and batches in both frameworks.

    Attributes:
        settings: the model's; they say in which framework.
        start: the file of its initial weights.
        data: the batches.
        checks: the updates at which to compare with the oracle.
    """

    settings: LmSettings
    start: Path
    data: list[Batch]
    checks: set[int]

    @property
    def name(self) -> str:
        """The name under which the run is reported."""
        return f"{self.settings.cell} {self.settings.framework}"


@dataclass
class Bits:
    """Bits per unit and step at one batch (ACC-005).

    Attributes:
        update: after how many updates.
        ideal: what was forgotten.
        stored: what each layout keeps, by layout.
    """

    update: int
    ideal: float
    stored: dict[str, float]


@dataclass
class Run:
    """One training run."""

    cell: str
    framework: str
    losses: list[float] = field(default_factory=list)
    bits: list[Bits] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)
    first_gradients: Arrays = field(default_factory=dict)
    first_state: Arrays = field(default_factory=dict)


def measure(config: Config, weights: Arrays, batch: Batch, carried: Arrays, update: int) -> Bits:
    """Account for one batch in every layout, by the oracle."""
    oracle = load("numpy")
    stored, ideal = {}, 0.0
    for layout in LAYOUTS:
        variant = dataclasses.replace(config, buffer=layout)
        state = dict(carried)
        if layout != config.buffer:
            state["heads"] = fresh_heads(layout, *carried["heads"].shape)
        arguments = exact_arguments(oracle, variant, weights, batch, state)
        got = oracle.evaluate("sequence_storage", arguments)
        units = got["plain_bits"] / 32
        stored[layout] = got["stored_bits"] / units
        if layout == config.buffer:
            ideal = float(got["ideal_bits"]) / units
    return Bits(update, ideal, stored)


def carried(trainer: Trainer) -> Arrays:
    """Return the exact state before the next batch (SEQ-006)."""
    state = {
        name: np.asarray(v) for name, v in trainer.framework.named_state(trainer.state).items()
    }
    return state | {"heads": state["heads"].astype(np.int64)}


def report(run: Job, updates: int, note: str) -> None:
    """Report of a run, where somebody wants to know."""
    if _reports is not None:
        _reports.put((run.name, updates, note))


def train(job: Job) -> Run:
    """Train on all batches; at the job's checks compare with the oracle and measure."""
    settings, config, data = job.settings, job.settings.config(), job.data
    if settings.framework == "torch":
        use_part_of_cores(PROCESSES)
    report(job, 0, "compiling")
    start = load_file(job.start)
    trainer = Trainer(settings, start["readout.bias"])
    trainer.set_parameters(start)
    run = Run(config.cell, settings.framework)
    first = trainer.segment(data[0].tokens, data[0].targets, settings.steps)
    run.first_gradients, _ = trainer.training.gradients(
        trainer.model.gradients, trainer.state, first, (settings.seed, 0)
    )
    gc.freeze()
    for update, batch in enumerate(data):
        weights, before = trainer.parameters(), carried(trainer)
        loss = trainer.step(batch.tokens, batch.targets, update, settings.learning_rate)
        run.losses.append(loss)
        run.first_state = run.first_state or carried(trainer)
        if update in job.checks:
            after = carried(trainer)
            run.agreement += compare_batch(run.framework, config, weights, batch, before, after)
            run.bits.append(measure(config, weights, batch, before, update))
        report(job, update + 1, f"loss {loss:.3f}")
    return run
