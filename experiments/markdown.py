"""Parts of reports in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> list[str]:
    """Return the lines of a table, whose columns hold numbers but for the first ``texts``."""
    rules = ["---"] * texts + ["---:"] * (len(heads) - texts)
    return [f"| {' | '.join(map(str, cells))} |" for cells in (heads, rules, *rows)]


def facts(rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table of names and values without heads."""
    return table(("", ""), rows)


def settings(config: Mapping[str, Any]) -> list[str]:
    """Return the lines of a run's settings, at the end of its report."""
    return ["```json", json.dumps(config, indent=2), "```", ""]


def megabytes(memory: Mapping[str, Any] | None) -> str:
    """Return the peak of an update in a table."""
    return "" if memory is None else f"{memory['bytes'] / 1e6:.0f}"


def peak(memory: Mapping[str, Any] | None, what: str, among: str) -> list[str]:
    """Return the paragraph on the memory of an update.

    Args:
        memory: as it was measured, if it was.
        what: the update was made on.
        among: what else is counted besides gradients.
    """
    if memory is None:
        return []
    return [
        "",
        f"One update {what.format(**memory)} takes {memory['bytes'] / 1e6:.1f} MB above parameters "
        f"and optimiser at its peak ({memory['counted']}); gradients{among} are among them.",
    ]
