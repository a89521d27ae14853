"""Plots, written as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

from .runs import RunFolder

mpl.use("Agg")
import matplotlib.pyplot as plt  # the backend is chosen first, so that no display is needed


@dataclass(frozen=True)
class Curve:
    """One line of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "-"


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]


def write(path: Path, panels: Mapping[str, Panel]) -> list[Path]:
    """Draw the panels side by side and write ``path`` with the endings ``.png`` and ``.svg``."""
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4), squeeze=False)
    for axis, panel in zip(axes[0], panels.values(), strict=True):
        for curve in panel.curves:
            axis.plot(curve.x, curve.y, curve.style, label=curve.label, linewidth=1.4)
        axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    for name in written:
        figure.savefig(name, dpi=130)
    plt.close(figure)
    return written


def plot_losses(path: Path, folders: Mapping[str, RunFolder]) -> list[Path]:
    """Draw training and validation losses of runs, by their labels, over the updates."""
    panels = {}
    for event, title, style in (("train", "Training", "-"), ("valid", "Validation", "o-")):
        curves = []
        for label, folder in folders.items():
            found = folder.records(event)
            x, y = [r["update"] for r in found], [r["loss"] for r in found]
            curves.append(Curve(label, x, y, style))
        panels[event] = Panel(title, "update", "loss (nats a word)", curves)
    return write(path, panels)
