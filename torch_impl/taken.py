"""Numbers that a readout takes out of PyTorch (``item()``), and what it does with them.

What comes back of them is not seen. So the readout is tried with other numbers in their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, Final

import numpy as np
from torch import Tensor

from .modes import Mode
from .part_sums import Close, number_of
from .parts import Parts, mixed
from .step_functions import TAKEN, TAKES_NUMBERS, name_of
from .step_places import Place

# By what a number of the loss is multiplied: a little, and beyond a threshold.
_OTHERS: Final = (1 + 2.0**-6, 1024.0, 2.0**-10)
# Choices that are tried the other way, one at a time.
_CHOICES: Final = 8
# How much a count is: beyond its chunk's, and beyond any threshold that a thousand chunks reach.
_MANY: Final = (2.0, 1024.0)


def check_numbers(parts: Parts, taken: list[str]) -> bool:
    """Raise if a loss is made of numbers in a way that differs between chunks and the whole.

    Numbers that depend on the chunk must not count at all, nor choices by them; by a count the loss
    may be multiplied or divided. A loss of 0 or NaN, of a chunk of which nothing counts, does not
    show it.

    Args:
        parts: the chunk.
        taken: what each number is of, in the order in which they were taken
            (:class:`.averages.Watch`).

    Returns:
        Whether the chunk could show it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if it is.
    """
    if not any(taken) or parts.outputs._version != parts.version:
        return False
    try:
        same = _with(parts, taken, {})
        other = [_with(parts, taken, {"chunk": n}) for n in _OTHERS if "chunk" in taken]
        more = [_with(parts, taken, {"count": n}) for n in _MANY if "count" in taken]
    except Exception:  # which a number that was altered may be the cause of
        return False
    other += _chosen(parts, taken)
    allowed = all(_alike(*values) for values in zip(same, *other, strict=True))
    allowed &= not more or all(_is_power(*values) for values in zip(same, *more, strict=True))
    if not allowed:
        raise mixed(Place(doubt=TAKEN, of_sums=True))
    return bool(same[0]) and same[0] == same[0]


def _alike(one: float, *others: float) -> bool:
    """Say whether numbers are the same, NaN too."""
    return all(one == other or (one != one and other != other) for other in others)


def _is_power(one: float, *more: float) -> bool:
    """Say whether a value is as it was, or multiplied or divided by what a count was multiplied by.

    NaN and infinities do not show it.
    """
    if not all(math.isfinite(value) for value in (one, *more)):
        return True
    close = Close(1e-4)
    powers = (-1, 0, 1)
    return any(
        all(close(b, one * n**power) for b, n in zip(more, _MANY, strict=True)) for power in powers
    )


def _chosen(parts: Parts, taken: list[str]) -> list[list[float]]:
    """Return what becomes of the loss if Python chooses otherwise, if it can."""
    made = []
    for at in [at for at, kind in enumerate(taken) if kind == "choice"][:_CHOICES]:
        with suppress(Exception):  # a check that fails now
            made.append(_with(parts, [*taken[:at], "turned", *taken[at + 1 :]], {}))
    return made


def _with(parts: Parts, taken: list[str], factors: dict[str, float]) -> list[float]:
    trial = copy(parts)
    trial.readout = partial(_altered, parts.readout, taken, factors)
    result = trial.of(slice(None), drops=False)[0]
    pair = result if isinstance(result, (tuple, list)) else (result,)
    return [number_of(value) for value in pair]


def _altered(
    readout: Callable[..., Any], taken: list[str], factors: Mapping[str, float], *given: Any
) -> Any:
    # Inside of what watches the readout, whose own numbers stay as they are.
    with _Altered(taken, factors):
        return readout(*given)


class _Altered(Mode):
    """Some of the numbers that leave PyTorch are others."""

    def __init__(self, taken: list[str], factors: Mapping[str, float]) -> None:
        """Multiply numbers by the factor of their kind.

        Args:
            taken: the kinds, in the order in which numbers leave.
            factors: by kind.
        """
        super().__init__()
        self._taken, self._factors = iter(taken), factors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, and multiply what it takes out of PyTorch."""
        result = func(*args, **(kwargs or {}))
        if name_of(func) not in (*TAKES_NUMBERS, "bool") or isinstance(result, Tensor):
            return result
        kind = next(self._taken, "")
        factor = self._factors.get(kind, 1.0)
        if isinstance(result, bool):
            return result != (kind == "turned")
        if factor == 1:
            return result
        if isinstance(result, int):  # of which fewer may be too few
            return max(math.ceil(result * factor), result)
        return result * factor if isinstance(result, (float, np.ndarray)) else result
