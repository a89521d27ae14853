"""Where an array has its steps, and where they are after its axes are changed (:mod:`.mixing`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import torch
from torch import Tensor

from .step_functions import CERTAIN, PERMUTES, SUMS


@dataclass(frozen=True)
class Place:
    """Where an array has its steps.

    Attributes:
        axis: the axis with the steps, ``None`` if they have been added up.
        major: elements of that axis which are major to the steps; −1 if some steps are left out.
        doubt: the function after which steps may depend on one another, or ``""``.
        of_sums: whether that function was given what is added up over the steps.
    """

    axis: int | None = None
    major: int = 1
    doubt: str = ""
    of_sums: bool = False

    @property
    def certain(self) -> bool:
        """Whether that function certainly makes steps depend on one another."""
        return self.doubt in CERTAIN


_FUNCTIONS: Final[dict[str, Callable[..., Tensor]]] = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    **{name: getattr(Tensor, name) for name in PERMUTES - {"T", "mT"}},
}


def permuted(name: str, x: Tensor, place: Place, args: Any, given: Mapping[str, Any]) -> Place:
    """Return the place after axes change their order; strides of no numbers tell how."""
    at = torch.empty_strided(x.shape, tuple(range(1, x.dim() + 1)), device="meta")
    assert place.axis is not None
    strides = _FUNCTIONS[name](at, *args[1:], **given).stride()
    return replace(place, axis=strides.index(place.axis + 1))


def reshaped(steps: int, x: Tensor, place: Place, made: Tensor) -> Place | None:
    """Return the axis of the result in which all steps are, if there is one."""
    if place.major < 0 or place.axis is None:
        return place if x.shape == made.shape else None
    before = prod(x.shape[: place.axis]) * place.major
    outer = 1
    for axis, size in enumerate(made.shape):
        if before * steps <= outer * size:
            whole = before % outer == 0 and (outer * size) % (before * steps) == 0
            return Place(axis, before // outer) if whole else None
        outer *= size
    return None


def reduced(
    name: str, x: Tensor, place: Place, args: Any, given: Mapping[str, Any], made: Tensor
) -> Place | None:
    """Return the place in what is reduced along some axes; along the steps only a sum has one."""
    at = 2 if name in ("norm", "vector_norm") else 1
    dim = args[at] if len(args) > at else given.get("dim", given.get("axis"))
    axes = axes_of(dim, x.dim())
    if place.axis in axes:
        return Place(None) if name in SUMS else None
    assert place.axis is not None
    if made.dim() == x.dim():
        return place
    return replace(place, axis=place.axis - sum(axis < place.axis for axis in axes))


def asks_length(x: Tensor, place: Place, args: Any, given: Mapping[str, Any]) -> bool:
    """Say whether a shape that Python is told has the steps: of ``size(1)`` it has not."""
    dim = args[1] if len(args) > 1 else given.get("dim")
    return place.axis is not None and place.axis in axes_of(dim, x.dim())


def axes_of(dim: Any, dims: int) -> set[int]:
    """Return axes as numbers from 0; all of them for ``None``."""
    if dim is None:
        return set(range(dims))
    return {int(one) % dims for one in (dim if isinstance(dim, (tuple, list)) else (dim,))}
