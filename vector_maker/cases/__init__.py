"""The requests of the test vectors, each built to tell a right from a plausibly wrong answer.

There is a file for each section of the specification, with the mistakes that break its rules and
the requests that catch them. Contents are written out where an edge is meant, and come from a fixed
integer generator where any numbers will do; NumPy's own generators may change their streams and are
not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from . import (
    activations,
    buffer,
    cells,
    conventions,
    ends,
    errors,
    formats,
    gradients,
    kinds,
    names,
    orders,
    porting,
    product,
    quantisation,
    sequences,
    single_precision,
    situations,
    survivors,
)
from .draft import Draft, Evaluate, Mistakes

WITH_MISTAKES: Final = (
    conventions,
    formats,
    quantisation,
    product,
    activations,
    buffer,
    cells,
    sequences,
    gradients,
    errors,
)

MISTAKES: Final[Mistakes] = {
    flag: mistake for section in WITH_MISTAKES for flag, mistake in section.MISTAKES.items()
}

# As the manifest of the vectors has them.
FLAGS: Final = {flag: f"{rule}: {sentence}" for flag, (rule, sentence) in MISTAKES.items()}


def drafts(evaluate: Evaluate) -> Iterator[Draft]:
    """Give all requests; ``evaluate`` computes what a reversal is to start from."""
    without = (situations, survivors, kinds, names, orders, ends, porting, single_precision)
    for section in (*WITH_MISTAKES, *without):
        yield from section.cases(evaluate)
