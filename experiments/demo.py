"""The demo: RevGRU and RevLSTM on real English, in PyTorch and JAX, checked against the oracle.

``python -m revrnn.experiments.demo`` trains small character-level models by reversal from the same
initial weights and batches in both frameworks, compares all states and buffers with the oracle at
several batches, and ends with a table and a plot. The exit status is 1 if one bit differed.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from safetensors.numpy import load_file, save_file

from revrnn import Config
from revrnn.comparison import differences
from revrnn.evaluation import fresh_heads, load

from .agreement import Agreement, compare_batch, exact_arguments, largest_difference
from .charlm import Trainer, Weights, initial_weights
from .charlm_jax import JaxTrainer
from .charlm_torch import TorchTrainer
from .plots import Curve, Panel, write
from .text import Batch, batches, help_topics

TRAINERS: tuple[type[TorchTrainer] | type[JaxTrainer], ...] = (TorchTrainer, JaxTrainer)
LAYOUTS = ("stream", "wordlist")
# GRAD-021
TOLERANCE = 1e-4


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


def train(
    trainer: Trainer, config: Config, data: list[Batch], checks: set[int], progress: Progress
) -> Run:
    """Train on all batches; at the updates in ``checks`` compare with the oracle and measure."""
    run = Run(config.cell, trainer.framework, first_gradients=trainer.gradients(data[0]))
    name = f"{config.cell} {trainer.framework}"
    task = progress.add_task(
        name, total=len(data), loss="compiling" if name.endswith("jax") else ""
    )
    for update, batch in enumerate(data):
        weights, carried = trainer.weights(), trainer.carried()
        run.losses.append(trainer.step(batch))
        run.first_state = run.first_state or trainer.carried()
        if update in checks:
            after = trainer.carried()
            framework = trainer.framework
            run.agreement += compare_batch(framework, config, weights, batch, carried, after)
            run.bits.append(measure(config, weights, batch, carried, update))
        progress.update(task, advance=1, loss=f"loss {run.losses[-1]:.3f}")
    return run


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
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    given = options(arguments)
    console = Console()
    corpus = help_topics()
    data = list(islice(batches(corpus, given.rows, given.steps), given.updates))
    console.print(
        f"{len(corpus.ids):,} characters of Python's help, {len(corpus.vocabulary)} kinds; "
        f"{given.hidden_size} units, "
        f"at most {given.max_forget_bits} bits forgotten per unit and operation"
    )
    last = given.updates - 1
    checks = {round(i * last / max(given.checks - 1, 1)) for i in range(given.checks)}
    columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("{task.fields[loss]}"))  # fmt: skip
    runs = []
    with Progress(*columns, console=console) as progress:
        for cell in ("revgru", "revlstm"):
            config = Config(cell, 64, given.hidden_size, max_forget_bits=given.max_forget_bits)
            weights = initial_weights(config, len(corpus.vocabulary), given.seed)
            file = given.out.with_name(f"{cell}_initial.safetensors")
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(weights, file)
            for make in TRAINERS:
                trainer = make(config, load_file(file), given.rows, given.learning_rate)
                runs.append(train(trainer, config, data, checks, progress))
    console.print(table(runs))
    console.print("plots: " + ", ".join(str(name) for name in plot(runs, given.out)))
    return verdict(runs, given.out, console)


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
    sys.exit(main())
