"""On how many threads the rows of a chunk are shared."""

from __future__ import annotations

import math
import os
from typing import Final

import jax

from revrnn.config import Config

# Multiplications that a share of a chunk must have to be worth a thread: about a millisecond.
_WORTH: Final = 40_000_000


def threads() -> int:
    """Return how many threads a process of one device may use; no result depends on it."""
    if os.name != "posix" or jax.device_count() > 1:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shares(config: Config, steps: int, rows: int) -> int:
    """Return into how many shares to divide so many rows of a chunk."""
    weights = sum(math.prod(s) for s in config.parameter_shapes().values() if len(s) > 1)
    return min(rows, shares_of(weights * steps * rows))


def shares_of(multiplications: int) -> int:
    """Return into how many shares to divide work of so many multiplications."""
    return max(1, min(threads(), multiplications // _WORTH))
