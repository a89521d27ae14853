"""The demo: RevGRU and RevLSTM on real English, in PyTorch and JAX, checked against the oracle.

``python -m revrnn.experiments.demo`` trains small character-level models by reversal from the same
initial weights and batches in both frameworks, compares all states and buffers with the oracle at
several batches, and ends with a table and a plot. The exit status is 1 if one bit differed.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import wait
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.numpy import save_file

from revrnn.command_line import run_program
from revrnn.errors import RevRNNError
from revrnn.extras import need

from .demo_runs import PROCESSES, Job, Run, report_to, train
from .lm.settings import LmSettings
from .outputs import check_file, plot_files
from .processes import Processes
from .progress import bar
from .runs import Arrays, uniform_parameters
from .settings import FRAMEWORKS, REVERSIBLE, check, limit
from .text import batches, help_topics


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.experiments.demo", description=__doc__)
    parser.add_argument("--updates", type=int, default=200, help="updates of each run")
    parser.add_argument("--hidden-size", type=int, default=128, help="units of the layer")
    parser.add_argument("--steps", type=int, default=64, help="characters in a segment")
    parser.add_argument("--rows", type=int, default=16, help="parallel streams of text")
    parser.add_argument("--max-forget-bits", type=int, default=3, help="1 … 10")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="of Adam")
    parser.add_argument("--checks", type=int, default=6, help="batches compared with the oracle")
    parser.add_argument("--seed", type=int, default=0, help="of first weights")
    parser.add_argument("--out", type=Path, default=Path("out", "demo"), help="where the plot goes")
    given = parser.parse_args(arguments)
    try:
        for name in ("updates", "steps", "rows", "checks"):
            # All batches and the checked ones are kept.
            good = 1 <= getattr(given, name) <= 10**6
            check(name, getattr(given, name), good, "1 … 10^6")
        demo_settings("revgru", given)
        check("out", str(given.out), given.out.name not in ("", ".."), "the name of a file")
        for file in plot_files(given.out):
            check_file(file)
    except RevRNNError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"argument --out: {given.out}: {error.strerror or error}")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    given = options(arguments)
    console = Console()
    for package in ("torch", "jax", "matplotlib"):
        need(package, "demo")
    corpus = help_topics()
    longest = (len(corpus.ids) - 1) // given.rows
    if given.steps > longest:
        console.print(f"steps: got {given.steps}; allowed: at most {longest} with so many rows")
        return 2
    data = list(islice(batches(corpus, given.rows, given.steps), given.updates))
    console.print(
        f"{len(corpus.ids):,} characters of Python's help, {len(corpus.vocabulary)} kinds; "
        f"{given.hidden_size} units, "
        f"at most {limit(given.max_forget_bits)} forgotten per unit and operation"
    )
    last = given.updates - 1
    checks = {round(i * last / max(given.checks - 1, 1)) for i in range(given.checks)}
    jobs: list[Job] = []
    for cell in REVERSIBLE:
        settings = demo_settings(cell, given)
        file = given.out.with_name(f"{cell}_initial.safetensors")
        save_file(initial_weights(settings, len(corpus.vocabulary)), file)
        own = (replace(settings, framework=framework) for framework in FRAMEWORKS)
        jobs += [Job(each, file, data, checks) for each in own]
    runs = train_all(jobs, console)
    status: int = demo_report().tell(runs, given.out, console)
    return status


def demo_report() -> Any:
    """Return :mod:`.demo_report`, which imports matplotlib: not before anybody is at work."""
    return import_module(".demo_report", __package__)


def demo_settings(cell: str, given: argparse.Namespace) -> LmSettings:
    """Return the settings of a small model without dropout, whose gradients are never clipped."""
    return LmSettings(
        cell=cell,
        embedding_size=64,
        hidden_size=given.hidden_size,
        max_forget_bits=given.max_forget_bits,
        tied=False,
        batch_size=given.rows,
        steps=given.steps,
        learning_rate=given.learning_rate,
        clip=1e9,
        seed=given.seed,
        dropout_input=0.0,
        dropout_output=0.0,
    )


def initial_weights(settings: LmSettings, vocabulary: int) -> Arrays:
    """Return float32 weights by name: ``embedding`` ``[V, I]``, the stack's, the readout's."""
    wide, units = settings.embedding_size, settings.hidden_size
    stack = {f"rnn.{name}": shape for name, shape in settings.config().parameter_shapes().items()}
    shapes = {**stack, "embedding": (vocabulary, wide), "readout.weight": (vocabulary, units)}
    weights = uniform_parameters(
        shapes, lambda name: 0.9 if name == "embedding" else units**-0.5, settings.seed
    )
    return {**weights, "readout.bias": np.zeros(vocabulary, np.float32)}


def number_of(settings: LmSettings) -> int:
    """Return a number that is even for one framework of each cell."""
    return REVERSIBLE.index(settings.cell) + FRAMEWORKS.index(settings.framework)


def train_all(jobs: list[Job], console: Console) -> list[Run]:
    """Train all jobs, some at the same time, and show how they go on."""
    reports = multiprocessing.get_context("spawn").SimpleQueue()
    with Processes(PROCESSES, report_to, reports) as pool, bar(console) as progress:
        tasks = {
            job.name: progress.add_task(job.name, total=len(job.data), note="", start=False)
            for job in jobs
        }
        # Processes begin with another cell and another framework each: both would else compile and
        # import the same at the same time, instead of finding what the other has kept.
        in_order = sorted(jobs, key=lambda job: number_of(job.settings) % 2)
        futures = {job.name: pool.submit(train, job) for job in in_order}
        demo_report()
        while wait(futures.values(), timeout=0.1).not_done or not reports.empty():
            while not reports.empty():
                name, done, note = reports.get()
                if not done:
                    progress.start_task(tasks[name])
                progress.update(tasks[name], completed=done, note=note)
        return [futures[job.name].result() for job in jobs]


if __name__ == "__main__":
    run_program(main, "demo")
