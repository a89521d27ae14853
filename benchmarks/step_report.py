"""Tables and plots of what ``step.py`` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from revrnn.experiments.plots import Curve, Panel, write

Case = list[dict[str, Any]]
HEADING = (
    "| cell | size | layers | steps | threads | CPU | variant | time | of plain "
    "| peak MB | of plain | compiling s |",
    "|---|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|",
)


def table(cases: list[Case], heading: bool = True) -> str:
    """Return cases as a table in Markdown; every row's ratios are to its case's plain variant."""
    lines = list(HEADING) if heading else []
    for case in cases:
        plain = next((run for run in case if run["label"] == "plain"), {})
        lines += [row(run, plain) for run in case]
    return "\n".join(lines)


def row(run: dict[str, Any], plain: dict[str, Any]) -> str:
    """Return one row."""
    names = ("steps", "threads", "cpu", "label")
    cells = [
        f"{run['framework']} {run['cell']}",
        f"{run['inputs']} → {run['hidden']}",
        str(run["layers"]),
        *(str(run[name]) for name in names),
    ]
    if "seconds" not in run:
        cells += ["out of memory", "", "", "", ""]
    else:
        known = "seconds" in plain
        cells += [
            duration(run["seconds"]),
            f"{run['seconds'] / plain['seconds']:.2f}" if known else "",
            f"{run['peak_bytes'] / 1e6:.1f}",
            memory_ratio(run["peak_bytes"], plain["peak_bytes"]) if known else "",
            f"{run['compile_seconds']:.1f}" if "compile_seconds" in run else "",
        ]
    return f"| {' | '.join(cells)} |"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def memory_ratio(own: int, plain: int) -> str:
    """Return a share of memory as a fraction; nothing can be said of next to no memory."""
    if min(own, plain) < 1e6:
        return "–"
    return f"1/{plain / own:.1f}" if plain >= own else f"{own / plain:.1f}"


def plots(cases: list[Case], path: Path) -> None:
    """Draw ratios over the length, a file for every framework, size, threads and class of CPU."""
    names = ("framework", "inputs", "hidden", "layers", "threads", "cpu")
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        if case and case[0]["label"] == "plain" and "seconds" in case[0]:
            groups.setdefault(tuple(case[0][name] for name in names), []).append(case)
    for key, group in groups.items():
        panels = {}
        for quantity, words in (("seconds", "time"), ("peak_bytes", "peak memory")):
            panels[quantity] = Panel(
                f"{words} of a training step", "steps", "of plain", ratios(group, quantity)
            )
        write(path.with_name("_".join([path.name, *map(str, key)])), panels)


def ratios(group: list[Case], quantity: str) -> list[Curve]:
    """Return a curve for every cell and variant."""
    points: dict[str, list[tuple[int, float]]] = {}
    for case in group:
        for run in case[1:]:
            if quantity in run:
                label = f"{run['cell']}, {run['label']}"
                points.setdefault(label, []).append((run["steps"], run[quantity]))
                points[label][-1] = (run["steps"], run[quantity] / max(case[0][quantity], 1))
    curves = []
    for label, places in points.items():
        x, y = zip(*sorted(places), strict=True)
        curves.append(Curve(label, x, y, "-" if label.startswith("gru") else "--"))
    return curves
