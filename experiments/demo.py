"""The demo: RevGRU and RevLSTM on real English, in PyTorch and JAX, checked against the oracle.

``python -m revrnn.experiments.demo`` trains small character-level models by reversal from the same
initial weights and batches in both frameworks, compares all states and buffers with the oracle at
several batches, and ends with a table and a plot. The exit status is 1 if one bit differed.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from concurrent.futures import wait
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

from revrnn.command_line import run_program
from revrnn.comparison import differences
from revrnn.errors import RevRNNError

from .agreement import Agreement, largest_difference
from .demo_runs import PROCESSES, Job, Run, report_to, train
from .lm.settings import LmSettings
from .outputs import check_file
from .plots import Curve, Panel, files, write
from .processes import Processes
from .progress import bar
from .runs import Arrays, uniform_parameters
from .settings import FRAMEWORKS, LAYOUTS, REVERSIBLE, check
from .text import batches, help_topics

# GRAD-021
TOLERANCE = 1e-4


def table(runs: list[Run]) -> Table:
    """Return the closing table."""
    out = Table(
        title="Loss; bits per unit and step, and saving against 32 bits; steps compared",
        padding=(0, 1, 0, 0),
        box=box.SIMPLE,
    )
    out.add_column("trained", no_wrap=True)
    for heading in ("loss", "ideal", *LAYOUTS, "steps", "differ"):
        out.add_column(heading, justify="right", no_wrap=True)
    for run in runs:
        bits = run.bits[-1]
        amounts = [bits.ideal, *(bits.stored[layout] for layout in LAYOUTS)]
        out.add_row(
            f"{run.cell} {run.framework}",
            f"{run.losses[0]:.2f} → {recent(run.losses):.2f}",
            *(f"{amount:.2f} {32 / amount:.0f}×" for amount in amounts),
            str(run.agreement.steps),
            str(run.agreement.mismatches),
        )
    return out


def recent(losses: list[float]) -> float:
    """Return the mean of the last ten losses."""
    return sum(losses[-10:]) / len(losses[-10:])


def plot(runs: list[Run], path: Path) -> list[Path]:
    """Draw loss and stored bits over time."""
    losses = [
        Curve(
            f"{r.cell}, {r.framework}",
            range(len(r.losses)),
            r.losses,
            "-" if r.framework == "torch" else "--",
        )
        for r in runs
    ]
    stored = []
    for run in (r for r in runs if r.framework == "torch"):
        x = [b.update for b in run.bits]
        stored.append(Curve(f"{run.cell}, ideal", x, [b.ideal for b in run.bits], ":"))
        for layout, style in zip(LAYOUTS, ("-", "--"), strict=True):
            stored.append(
                Curve(f"{run.cell}, {layout}", x, [b.stored[layout] for b in run.bits], style)
            )
    panels = {
        "loss": Panel("Training by reversal", "update", "loss (nats a character)", losses),
        "bits": Panel(
            "What reversal must remember", "update", "bits per unit and step (of 32)", stored
        ),
    }
    return write(path, panels)


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.experiments.demo", description=__doc__)
    parser.add_argument("--updates", type=int, default=200, help="updates of each run")
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64, help="characters in a segment")
    parser.add_argument("--rows", type=int, default=16, help="parallel streams of text")
    parser.add_argument("--max-forget-bits", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--checks", type=int, default=6, help="batches compared with the oracle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out", "demo"), help="where the plot goes")
    given = parser.parse_args(arguments)
    try:
        for name in ("updates", "steps", "rows", "checks"):
            # All batches and the checked ones are kept.
            good = 1 <= getattr(given, name) <= 10**6
            check(name, getattr(given, name), good, "1 … 10^6")
        demo_settings("revgru", given)
        check("out", str(given.out), given.out.name not in ("", ".."), "files' name, not a folder")
        for file in files(given.out):
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
    corpus = help_topics()
    longest = (len(corpus.ids) - 1) // given.rows
    if given.steps > longest:
        console.print(f"steps: got {given.steps}; allowed: at most {longest} with so many rows")
        return 2
    data = list(islice(batches(corpus, given.rows, given.steps), given.updates))
    console.print(
        f"{len(corpus.ids):,} characters of Python's help, {len(corpus.vocabulary)} kinds; "
        f"{given.hidden_size} units, "
        f"at most {given.max_forget_bits} bits forgotten per unit and operation"
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
    console.print(table(runs))
    console.print("plots: " + ", ".join(str(name) for name in plot(runs, given.out)))
    return verdict(runs, given.out, console)


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


def train_all(jobs: list[Job], console: Console) -> list[Run]:
    """Train all jobs, some at the same time, and show how they go on."""
    reports = multiprocessing.get_context("spawn").SimpleQueue()
    with Processes(PROCESSES, report_to, reports) as pool, bar(console) as progress:
        tasks = {
            job.name: progress.add_task(job.name, total=len(job.data), note="", start=False)
            for job in jobs
        }
        in_order = sorted(jobs, key=lambda job: FRAMEWORKS.index(job.settings.framework))
        futures = {job.name: pool.submit(train, job) for job in in_order}
        while wait(futures.values(), timeout=0.1).not_done or not reports.empty():
            while not reports.empty():
                name, done, note = reports.get()
                if not done:
                    progress.start_task(tasks[name])
                progress.update(tasks[name], completed=done, note=note)
        return [futures[job.name].result() for job in jobs]


def verdict(runs: list[Run], out: Path, console: Console) -> int:
    """Say whether all bits agreed and all losses were numbers; return the exit status."""
    compared = sum((run.agreement for run in runs), Agreement())
    for report in compared.reports:
        console.print(report, markup=False)
    for number, program in enumerate(compared.programs):
        path = out.with_name(f"mismatch_{number}.py")
        path.write_text(program, encoding="utf-8")
        console.print(f"{path} repeats it")
    alike = True
    for cell in dict.fromkeys(run.cell for run in runs):
        first, second = (run for run in runs if run.cell == cell)
        lines = differences(first.first_state, second.first_state)
        gradients = largest_difference(second.first_gradients, first.first_gradients)
        alike &= not lines and gradients < TOLERANCE
        console.print(
            f"{cell}, first batch, {first.framework} and {second.framework} from one file: "
            f"{'states differ' if lines else 'states equal'}, gradients differ by at most "
            f"{gradients:.1e} of the largest"
        )
    finite = all(math.isfinite(loss) for run in runs for loss in run.losses)
    if compared.mismatches or not compared.steps or not finite or not alike:
        console.print(f"[bold red]{compared.mismatches} mismatches in {compared.steps} steps")
        return 1
    console.print(f"[bold green]{compared.steps} steps compared with the oracle, no bit differs")
    return 0


if __name__ == "__main__":
    run_program(main, "demo")
