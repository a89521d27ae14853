"""What the demo says of its runs: a table, plots, and whether one bit differed."""

from __future__ import annotations

import math
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from revrnn.comparison import differences

from .agreement import Agreement, largest_difference
from .demo_runs import Run
from .plots import Curve, Panel, write
from .settings import LAYOUTS

# GRAD-021
TOLERANCE = 1e-4


def tell(runs: list[Run], out: Path, console: Console) -> int:
    """Print the table, write the plots, and return the exit status."""
    console.print(table(runs))
    console.print("plots: " + ", ".join(str(name) for name in plot(runs, out)))
    return verdict(runs, out, console)


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
