"""The report of a run: tables and plots of what each network repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from revrnn.whole_files import encoded

from .. import markdown
from ..plots import Curve, Panel, write
from ..runs import RunFolder
from .settings import VARIANTS, MemorySettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A network of one size, at its best learning rate.

    Attributes:
        label: what people call it.
        hidden_size: units of its state.
        parameters: how many.
        learning_rate: the best, by validation.
        bits: cross-entropies float64 ``[S, T]`` by seed and position, bits a token.
        accuracy: part of tokens given back rightly, of the same shape.
        room: bits of the state, if nothing is ever discarded from it.
        seconds: of training, mean over the seeds.
    """

    label: str
    hidden_size: int
    parameters: int
    learning_rate: float
    bits: Floats
    accuracy: Floats
    room: int | None
    seconds: float


def rows(settings: MemorySettings, results: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows of the table: all networks of the first size, then of the next."""
    table = []
    for size in settings.all_hidden_sizes:
        for name in settings.all_variants:
            own = [r for r in results if r["variant"] == name and r["hidden_size"] == size]

            def valid(rate: float, own: list[dict[str, Any]] = own) -> float:
                return sum(float(r["valid_bits"]) for r in own if r["learning_rate"] == rate)

            rate = min(settings.all_learning_rates, key=valid)
            best = [r for r in own if r["learning_rate"] == rate]
            variant = VARIANTS[name]
            table.append(
                Row(
                    variant.label(settings.max_forget_bits),
                    size,
                    best[0]["parameters"],
                    rate,
                    np.array([r["bits"] for r in best]),
                    np.array([r["accuracy"] for r in best]),
                    variant.state_bits(size),
                    sum(r["seconds"] for r in best) / len(best),
                )
            )
    return table


def outcomes(settings: MemorySettings, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each network's results with means over positions in place of their lists.

    ``trained`` is up to the trained length, ``beyond`` after it.
    """
    last = settings.train_steps - settings.lag
    short = []
    for result in results:
        own = {name: value for name, value in result.items() if not isinstance(value, list)}
        for name in ("bits", "accuracy"):
            values = result[name]
            own[f"{name}_trained"] = float(np.mean(values[:last]))
            own[f"{name}_beyond"] = float(np.mean(values[last:])) if values[last:] else None
        short.append(own)
    return short


def told(settings: MemorySettings, bits: Floats) -> float:
    """Return the most bits that the outputs up to any step tell about the tokens before.

    That is the largest sum of ``log2(symbols) − bits`` over positions ``0 … t``, for any ``t``.
    """
    return max(0.0, *accumulate(math.log2(settings.symbols) - float(loss) for loss in bits))


def write_report(settings: MemorySettings, folder: RunFolder, origin: Sequence[str]) -> None:
    """Write ``report.md`` and the plot of a run that has ended."""
    table = rows(settings, folder.records("result"))
    text = [
        "# Repeating a sequence",
        "",
        f"Random tokens of {settings.symbols} kinds ({math.log2(settings.symbols):.2f} bits each); "
        f"after each step the network is to give back the token {_when(settings.lag)}. "
        f"Trained on {settings.train_steps} steps, tested on {settings.test_steps}; "
        f"{settings.updates} updates of {settings.batch_size} sequences. Means over all seeds, of "
        f"which there are {settings.seeds} (in brackets the lowest and the highest).",
        "",
        *_table(settings, table),
        "",
        "*bits*: cross-entropy, bits a token. *trained*: positions up to the trained length; "
        "*beyond*: the others. *told*: the most bits that the outputs up to any step tell about "
        "the tokens so far, sum of log2(symbols) − bits, for the best seed. *room*: "
        "bits of the state. A network "
        "that discards nothing can be run backwards from its last state, each token being read "
        "from its output before the step is undone; so it cannot tell more than it has room for, "
        "but for the lag's tokens and the chance of a finite test.",
        "",
        "![what is repeated](repeat.png)",
        *origin,
        "",
        "Settings:",
        "",
        *markdown.settings(asdict(settings)),
    ]
    plot(settings, folder, table)
    folder.write("report.md", encoded("\n".join(text)))


def _when(lag: int) -> str:
    return "it was given last" if lag == 0 else f"that it was given {lag} step(s) before that"


def _table(settings: MemorySettings, table: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table."""
    last = settings.train_steps - settings.lag
    heads = ["network", "units", "parameters", "rate", "bits, trained", "accuracy, first"]
    heads += ["trained", "at its end", "beyond", "told", "room", "s"]
    rows = []
    for row in table:
        spread = row.bits[:, :last].mean(1)
        right = row.accuracy
        # A single position of few rows is rough: a quarter of the trained length, at its end.
        end = right[:, last - max(1, last // 4) : last].mean()
        beyond = f"{100 * right[:, last:].mean():.0f} %" if right.shape[1] > last else ""
        tells = max(told(settings, bits) for bits in row.bits)
        cells = [row.label, row.hidden_size, f"{row.parameters:,}", f"{row.learning_rate:g}"]
        cells.append(f"{spread.mean():.2f} ({spread.min():.2f} … {spread.max():.2f})")
        parts = (right[:, 0].mean(), right[:, :last].mean(), end)
        cells += [*(f"{100 * part:.0f} %" for part in parts), beyond, f"{tells:.0f}"]
        rows.append([*cells, "–" if row.room is None else row.room, f"{row.seconds:.0f}"])
    return markdown.table(heads, rows)


def plot(settings: MemorySettings, folder: RunFolder, table: Sequence[Row]) -> None:
    """Draw, for the smallest state, accuracy and bits by position; and accuracy by size."""
    last = settings.train_steps - settings.lag
    smallest = min(settings.all_hidden_sizes)
    by_position, by_bits, by_size = [], [], []
    for row in (row for row in table if row.hidden_size == smallest):
        style = "--" if row.room is not None else "-"
        positions = [float(t) for t in range(row.bits.shape[1])]
        by_position.append(Curve(row.label, positions, [*map(float, row.accuracy.mean(0))], style))
        by_bits.append(
            Curve(row.label, positions[:last], [*map(float, row.bits.mean(0)[:last])], style)
        )
        same = sorted((r for r in table if r.label == row.label), key=lambda r: r.hidden_size)
        means = [float(r.accuracy[:, :last].mean()) for r in same]
        by_size.append(Curve(row.label, [float(r.hidden_size) for r in same], means, f"o{style}"))
    where = f"position; trained on {settings.train_steps} steps"
    panels = {
        "accuracy": Panel(f"{smallest} units", where, "tokens given back rightly", by_position),
        "bits": Panel(f"{smallest} units, trained length", where, "bits a token", by_bits),
        "size": Panel("Trained length", "units", "tokens given back rightly", by_size),
    }
    write(folder.path / "repeat", panels)
