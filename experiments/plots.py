"""Plots, written as PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from .outputs import plot_files, write_file
from .runs import RunFolder

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen first, so that no display is needed


@dataclass(frozen=True)
class Curve:
    """One line of a plot, with a note at each of its points if there are any."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "-"
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]


def write(path: Path, panels: Mapping[str, Panel]) -> list[Path]:
    """Draw the panels side by side and write them into :func:`.outputs.plot_files`."""
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4), squeeze=False)
    for axis, panel in zip(axes[0], panels.values(), strict=True):
        for curve in panel.curves:
            axis.plot(curve.x, curve.y, curve.style, label=curve.label, linewidth=1.4)
            for note, *at in zip(curve.notes, curve.x, curve.y, strict=False):
                axis.annotate(note, at, xytext=(4, 4), textcoords="offset points", fontsize=7)
        axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    contents = {}
    for file in plot_files(path):
        content = io.BytesIO()
        figure.savefig(content, format=file.suffix[1:], dpi=130)
        contents[file] = content.getvalue()
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    return [write_file(name, content) for name, content in contents.items()]


@dataclass(frozen=True)
class Trade:
    """What a run gives for the memory that it saves.

    Attributes:
        series: what the run is compared within: points of a series are joined.
        note: what sets it apart there.
        saving: plain bits / bits stored; 1 where all states are.
        quality: how good the model is.
    """

    series: str
    note: str
    saving: float
    quality: float


def plot_trades(path: Path, trades: Sequence[Trade], saving: str, quality: str) -> list[Path]:
    """Draw how good models are over what they save; the last two are the axes' labels."""
    curves = []
    for series in dict.fromkeys(trade.series for trade in trades):
        own = sorted((t for t in trades if t.series == series), key=lambda t: t.saving)
        x, y, notes = [t.saving for t in own], [t.quality for t in own], [t.note for t in own]
        curves.append(Curve(series, x, y, "o-", notes))
    return write(path, {"trades": Panel("Memory against quality", saving, quality, curves)})


def plot_losses(
    path: Path, folders: Mapping[str, RunFolder], more: Mapping[str, Panel] | None = None
) -> list[Path]:
    """Draw losses of runs, by their labels, over the updates, and more panels beside them."""
    panels = {}
    for event, title, style in (("train", "Training", "-"), ("valid", "Validation", "o-")):
        curves = []
        for label, folder in folders.items():
            records = folder.records(event)
            x, y = [r["update"] for r in records], [r["loss"] for r in records]
            curves.append(Curve(label, x, y, style))
        panels[event] = Panel(title, "update", "loss (nats a word)", curves)
    return write(path, panels | dict(more or {}))
