"""Sums and counts of a chunk and of its parts, and whether they add up."""

from __future__ import annotations

from torch import Tensor

from .quantise import LOW
from .scalars import Average, Count


def by_counts(
    made: Average,
    result: Tensor,
    parts: list[tuple[Tensor, Average | None]],
    values: bool,
    low: bool,
) -> str:
    """Say whether a mean's divisor adds up over parts: ``"yes"``, ``"no"``, ``"nothing"``."""
    counts, totals = [], []
    for scalar, one in ((result, made), *parts):
        if scalar is not result and not scalar and (one is None or one.kind == "sum"):
            counts.append(0.0)  # a mean over what is kept, or 0 where nothing is
            totals.append(0.0)
            continue
        over = None if one is None else one.count if one.count is not None else one.size
        if one is None or over is None:
            return "no"
        count = number_of(over)
        counts.append(count)
        totals.append(
            float(scalar.detach()) * count if one.total is None else float(one.total.detach())
        )
    (n, *each), (s, *sums) = counts, totals
    some_bits = isinstance(made.count, Tensor) and made.count.dtype in LOW
    close, close_sums = Close(0.05 if some_bits else 1e-4), Close(0.05 if low else 1e-4)
    if not any(totals) and not close(n, sum(each)):
        return "no" if made.count == made.size is not None else "nothing"
    # A count that is kept above 0 as a Python number: max(1, keep.sum().item()).
    some = sum(count for count, total in zip(each, sums, strict=True) if total)
    if not close(n, sum(each)) and (set(each) == {n} or not close(n, some)):
        return "no"
    finite = all(value - value == 0 for value in totals)
    return "yes" if not values or not finite or close_sums(s, sum(sums), *sums) else "no"


def total_of(scalar: Tensor, made: Average | None) -> Tensor:
    """Return what a mean divides, or 0 of what counts nothing."""
    count = None if made is None else made.count if made.count is not None else made.size
    if made is not None and made.total is not None:
        return made.total
    return scalar * (count or 0)


def number_of(count: Count) -> float:
    """Return a sum or a count as a number."""
    return float(count.detach() if isinstance(count, Tensor) else count)


class Close:
    """Whether numbers are equal up to rounding."""

    def __init__(self, share: float) -> None:
        """Take how much of the largest number they may differ by."""
        self.share = share

    def __call__(self, a: float, b: float, *size: float) -> bool:
        """Compare two numbers that were made of some of the size of others."""
        largest = max(abs(value) for value in (a, b, *size))
        return abs(a - b) <= self.share * largest or a == b
