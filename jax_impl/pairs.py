"""Whether both of (sum, count) are sums over the steps, as their program tells.

Those of all chunks are added up. A mean, a number, or what is kept from being 0 does not add up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.extend.core import Literal as Constant

from .apart import TINY
from .averages import Kind, Walk
from .flat import SAME, flat_program, number_of

Tree = Any


def are_sums(
    function: Callable[..., Tree], longest: tuple[Tree, ...], example: tuple[Tree, ...]
) -> bool | None:
    """Say whether two scalars may be sums; ``None`` in doubt.

    Args:
        function: what gives them.
        longest: its arguments, ``[STEPS, …]``.
        example: the same of another number of steps.
    """
    try:
        jaxpr = flat_program(function, longest).jaxpr
        other = flat_program(function, example).jaxpr.outvars[1]
    except Exception:  # a function that does not take so many steps says nothing of itself
        return True
    walk = Walk(jaxpr)
    total, count = jaxpr.outvars
    # A narrow type does not hold so many steps.
    number = number_of(count) if count.aval.dtype.itemsize >= 4 else None
    kinds = [_kind(walk, total), _kind(walk, count)]
    fixed = number and number == number_of(other)
    if fixed or "mean" in kinds or kinds[1] in ("ratio", "other"):
        return False
    doubt = number is None and kinds[1] == "unknown"
    # The square of a norm is a sum.
    return None if doubt or kinds[0] in ("ratio", "other") else True


def _kind(walk: Walk, variable: Any) -> Kind:
    """Return what a scalar is, but for what keeps it from being 0."""
    while True:
        place = None if isinstance(variable, Constant) else walk.makers.get(variable)
        if place is None:
            return "unknown"
        equation = walk.jaxpr.eqns[place]
        name: str = equation.primitive.name
        if name in SAME:
            variable = equation.invars[0]
            continue
        if name not in ("max", "add"):
            break
        varying = [v for v in equation.invars if number_of(v) is None]
        numbers = [number_of(v) for v in equation.invars]
        if len(varying) != 1 or not any(n is not None and abs(n) <= TINY for n in numbers):
            break
        variable = varying[0]
    return walk.of(variable).kind if walk.varies(variable) else "unknown"
