"""What the demo trains: one run of one framework, measured and compared with the oracle.

Each framework trains in a process of its own, both at the same time, so that the one's compiling
costs no waiting for the other. What they report on the way goes through a queue.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file

from revrnn import Config
from revrnn.evaluation import fresh_heads, load

from .agreement import Agreement, compare_batch, exact_arguments
from .charlm import Trainer, Weights
from .text import Batch

# By framework, the module and the class that trains with it: only its own process imports it.
TRAINERS = {"torch": ("charlm_torch", "TorchTrainer"), "jax": ("charlm_jax", "JaxTrainer")}
LAYOUTS = ("stream", "wordlist")

# Called with a run's name, how many updates are done, and a word on how it goes.
Report = Callable[[tuple[str, int, str]], object]


@dataclass
class Job:
    """What one framework is to train, from the same weights and batches as the others.

    Attributes:
        framework: ``"torch"`` or ``"jax"``.
        starts: for every cell its configuration and the file of its initial weights.
        data: the batches.
        rows: rows of a batch.
        learning_rate: Adam's.
        checks: the updates at which to compare with the oracle.
    """

    framework: str
    starts: list[tuple[Config, Path]]
    data: list[Batch]
    rows: int
    learning_rate: float
    checks: set[int]


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
    first_gradients: Weights = field(default_factory=dict)
    first_state: Weights = field(default_factory=dict)


def measure(config: Config, weights: Weights, batch: Batch, carried: Weights, update: int) -> Bits:
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


def name_of(config: Config, framework: str) -> str:
    """Return the name under which a run is reported."""
    return f"{config.cell} {framework}"


def train_all(job: Job, report: Report) -> list[Run]:
    """Train every cell of a job, one after the other."""
    module, name = TRAINERS[job.framework]
    make = getattr(importlib.import_module(f".{module}", __package__), name)
    if job.framework == "torch":
        use_half_the_cores()
    runs = []
    for config, file in job.starts:
        report((name_of(config, job.framework), 0, "compiling"))
        trainer = make(config, load_file(file), job.rows, job.learning_rate)
        runs.append(train(trainer, config, job.data, job.checks, report))
    return runs


def use_half_the_cores() -> None:
    """Leave the other half to the framework that trains beside this one."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // len(TRAINERS)))


def train(
    trainer: Trainer, config: Config, data: list[Batch], checks: set[int], report: Report
) -> Run:
    """Train on all batches; at the updates in ``checks`` compare with the oracle and measure."""
    framework = trainer.framework
    run = Run(config.cell, framework, first_gradients=trainer.gradients(data[0]))
    for update, batch in enumerate(data):
        weights, carried = trainer.weights(), trainer.carried()
        run.losses.append(trainer.step(batch))
        run.first_state = run.first_state or trainer.carried()
        if update in checks:
            after = trainer.carried()
            run.agreement += compare_batch(framework, config, weights, batch, carried, after)
            run.bits.append(measure(config, weights, batch, carried, update))
        report((name_of(config, framework), update + 1, f"loss {run.losses[-1]:.3f}"))
    return run
