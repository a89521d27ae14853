"""What a choice between two scalars gives where nothing counts, and whether it does no more.

``jnp.where(n > 0, total / n, 0.0)`` is the ratio, of a chunk as of the sequence; with ``n > 9`` it
is not, since a chunk may have fewer and the sequence more.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import jax.numpy as jnp

from .flat import SAME, number_of

# A count that is not whole is told from 0 by no more than this.
_TINY: Final = 1e-5
_TURNED: Final = {"gt": "lt", "lt": "gt", "ge": "le", "le": "ge", "eq": "eq", "ne": "ne"}


def beside_zero(walk: Any, equation: Any) -> Any:
    """Return what is beside 0 in a sum or a difference, or ``None`` without a 0.

    ``sum([a])`` is ``0 + a``.
    """
    first, second = equation.invars
    for one, other in ((first, second), (second, first)):
        if not walk.varies(other) and walk.number(other) == 0:
            return one
    return None


class Instead(NamedTuple):
    """A number that stands for another where nothing counts.

    Attributes:
        unless: ``above``: wherever a count is not above 0; ``not``: where it is 0.
        number: the number.
    """

    unless: Literal["above", "not"]
    number: float


def given_instead(walk: Any, equation: Any) -> Instead | None:
    """Return the number that stands for a ratio, or for a count, where nothing counts.

    ``None`` if there is no such number, or if it may also stand where something counts.

    Args:
        walk: knows what varies with the steps, and what makes it.
        equation: a ``select_n`` of two scalars, of which one is the ratio.
    """
    which, if_false, if_true = equation.invars
    chosen = walk.varies(if_true)
    number = number_of(if_false if chosen else if_true)
    unless = _tells_of_any(walk, which, chosen)
    return None if number is None or unless is None else Instead(unless, number)


def _tells_of_any(walk: Any, variable: Any, wanted: bool) -> Literal["above", "not"] | None:
    """Say where a truth value is ``wanted``: where a count is above 0, or is not 0."""
    while walk.varies(variable) and variable in walk.makers:
        equation = walk.jaxpr.eqns[walk.makers[variable]]
        name: str = equation.primitive.name
        first = equation.invars[0] if equation.invars else None
        if name in SAME and name != "neg":
            variable = first
        elif name == "not":
            variable, wanted = first, not wanted
        elif name == "reduce_or":
            return "not" if wanted else None
        elif name == "is_finite":
            return "not" if wanted and walk.of(first).kind in ("ratio", "unknown") else None
        elif name == "ne" and equation.invars[1] is first:  # isnan
            return "not" if not wanted and walk.of(first).kind in ("ratio", "unknown") else None
        elif name in _TURNED:
            if not _is_above_nothing(walk, name, *equation.invars, wanted=wanted):
                return None
            return "not" if name in ("eq", "ne") else "above"
        else:
            return None
    return None


def _is_above_nothing(walk: Any, name: str, first: Any, second: Any, *, wanted: bool) -> bool:
    """Say whether a comparison of a count with a number tells it from 0."""
    number = number_of(second)
    if number is None:
        first, number, name = second, number_of(first), _TURNED[name]
    kind = walk.of(first).kind if walk.varies(first) else "unknown"
    if number is None or kind not in ("sum", "mean"):
        return False
    whole = kind == "sum" and not jnp.issubdtype(first.aval.dtype, jnp.floating)
    most = 1.0 if whole else _TINY
    if name in ("eq", "ne"):
        return number == 0 and wanted == (name == "ne")
    if wanted != (name in ("gt", "ge")):
        return False
    strict = name in ("gt", "le")  # above the number something counts, or at it already
    return 0 <= number < most if strict else 0 < number <= most
