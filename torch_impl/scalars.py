"""How a scalar was made from a chunk: a mean or a sum, and over what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from .step_places import Place

Count = Tensor | float
# Counts at which what is done to two of them is compared.
_TRIED: Final = (0.0, 1.0, 2.0, 9.0, 1e6)


@dataclass(frozen=True)
class Average:
    """How a scalar was made from a chunk.

    Attributes:
        kind: a mean, or a sum.
        sure: whether it is known to be one over all steps of the chunk, or over ``count``; else
            that must still be found out.
        count: the number (or weight) that a mean was divided by; ``None`` if every step has the
            same share in it.
        total: what was divided by ``count``, with its graph, if that is known.
        finish: what is done to a count before it divides, ``clamp(min=1)`` for instance, from it
            and the steps of the sequence.
        size: elements of what was reduced, if that is known.
        doubt: the function that made what is divided by of sums over steps, so that it is none.
        by: what was divided by, as it was given.
        seen: whether dividend and divisor are sums over steps, as far as the computation shows.
    """

    kind: Literal["mean", "sum"]
    sure: bool
    count: Count | None = None
    total: Tensor | None = None
    finish: Callable[[Tensor, int], Tensor] | None = None
    size: float | None = None
    doubt: Place | None = None
    by: Tensor | None = None
    seen: bool = False


def same_count(one: Average, other: Average) -> bool:
    """Say whether two means are over one count, or over two that are alike in this chunk."""
    if (one.kind, other.kind) != ("mean", "mean") or one.count is None or other.count is None:
        return False
    if one.by is not None and one.by is other.by:
        return True
    try:
        return bool(one.count == other.count) and _finished(one) == _finished(other)
    except RuntimeError:  # under vmap there is no number
        return False


def _finished(made: Average) -> list[float]:
    if made.finish is None:
        return list(_TRIED)
    return [float(made.finish(torch.tensor(count), 1)) for count in _TRIED]
