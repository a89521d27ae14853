"""A mutant: a file with one change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A changed file.

    Attributes:
        name: the function, what stood there and what stands there now, each on one line.
        source: the whole text.
        line: of the change, counted from 1.
    """

    name: str
    source: str
    line: int
