"""What a readout's scalar is a sum or a mean of, as its program tells.

The loss of a whole sequence is put together from those of its chunks, and for that a mean must be
known from a sum, and how much it is a mean of. The readout is traced, nothing is computed, for a
number of steps that is no other number of the program; whatever is a multiple of it has steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal as Constant

from .flat import (
    OVER_AXES,
    SAME,
    are_alike,
    computing_of,
    evaluated,
    flattened,
    has_steps,
    number_of,
    steps_in,
    varying_of,
)
from .guards import beside_zero, given_instead
from .lengths import Lengths, uses_length
from .mixing import may_mix, mixes_steps

Tree = Any
# What keeps a count from being 0, and its number.
Least = tuple[Literal["max", "add", "above", "not"], float]
# What makes of a mean or sum something that is neither.
_BENDS: Final = frozenset(
    """
    exp exp2 expm1 log log1p sqrt rsqrt cbrt pow integer_pow square tanh logistic sin cos abs
    slice dynamic_slice reduce_max reduce_min reduce_prod reduce_or reduce_and max min pmax pmin
    """.split()  # noqa: SIM905 - one word a line would be a page
)

Kind = Literal["mean", "sum", "ratio", "other", "mixed", "unknown"]


@dataclass(frozen=True)
class Average:
    """How a scalar is made from the steps of a chunk.

    Attributes:
        kind: a mean over all steps, a sum, a sum over a count, known to be neither, of steps that
            depend on one another, or not known.
        names: the primitives of the program, in order.
        at: for a ratio, the place of the division among them; several, if ratios with the same
            count are added.
        count: the place of what makes the count, before it is kept from being 0.
        means: whether both sides of the ratio are means themselves.
        least: what keeps the count from being 0: ``max`` or ``add`` with a number; one that stands
            for it unless it is ``above`` 0, or ``not`` 0.
        guards: places of what replaces the ratio by a number where nothing counts, and which of its
            arguments stands where something does.
        beside: whether the ratio has a term beside it that is made of no steps.
        doubt: whether steps may depend on one another, or a scalar that is not known may be none of
            these, which numbers must show.
    """

    kind: Kind
    names: tuple[str, ...] = ()
    at: tuple[int, ...] = ()
    count: int = -1
    means: bool = False
    least: Least | None = None
    guards: tuple[tuple[int, int], ...] = ()
    beside: bool = False
    doubt: bool = True

    def finish(self, count: jax.Array, steps: int) -> jax.Array:
        """Return what the sum is divided by; of means sum and count are times the steps."""
        if self.least is None:
            return count
        kind, value = self.least
        value = value * steps if self.means else value
        if kind in ("above", "not"):
            return jnp.where(count > 0 if kind == "above" else count != 0, count, value)
        return jnp.maximum(count, value) if kind == "max" else count + value


def average_of(
    function: Callable[..., Tree], *arguments: Tree, others: tuple[int, ...] = ()
) -> Average:
    """Return how the scalar that ``function`` gives for arguments ``[STEPS, …]`` is made.

    Of ``(sum, count)`` it says only whether steps depend on one another. ``others`` are further
    numbers of steps, for which it must be made alike.
    """
    try:
        lengths = Lengths(function, arguments, others)
        if lengths.by_python:
            return Average("unknown")
        closed, bent = flattened(lengths.many, arguments), lengths.bend()
    except Exception:  # a function that does not take so many steps says nothing of itself
        return Average("unknown")
    jaxpr = closed.jaxpr
    if any(variable.aval.shape for variable in jaxpr.outvars):
        return Average("unknown")
    if mixes_steps(jaxpr):
        return Average("mixed")
    used = uses_length(jaxpr)
    doubt = may_mix(jaxpr) or bent or used or lengths.one_is_other()
    if len(jaxpr.outvars) != 1:
        return Average("unknown", doubt=doubt)
    computing = computing_of(jaxpr)
    names = tuple(jaxpr.eqns[place].primitive.name for place in computing)
    try:
        made = Walk(jaxpr).of(jaxpr.outvars[0])
    except RecursionError:  # thousands of scalars added one by one
        made = Average("unknown")
    if {"ratio": bent or used, "sum": used and not bent}.get(made.kind):  # or divided otherwise
        made = Average("unknown")
    if made.kind == "ratio":
        made = replace(
            made,
            at=tuple(map(computing.index, made.at)),
            count=computing.index(made.count),
            guards=tuple((computing.index(place), case) for place, case in made.guards),
        )
    unsure = doubt or made.kind == "unknown" or bool(made.guards)
    return replace(made, names=names, doubt=unsure)


class Walk:
    """From a program's result back to the sum over steps that it is made of."""

    def __init__(self, jaxpr: Any) -> None:
        """Look for what varies, and for what makes each variable."""
        self.jaxpr, self.varying = jaxpr, varying_of(jaxpr)
        self.makers: dict[Any, int] = {}
        for place, equation in enumerate(jaxpr.eqns):
            self.makers.update((variable, place) for variable in equation.outvars)

    def varies(self, variable: Any) -> bool:
        """Say whether a variable depends on anything with steps."""
        return not isinstance(variable, Constant) and variable in self.varying

    def number(self, variable: Any) -> float | None:
        """Return a number that the program holds, or makes of such."""
        place = None if isinstance(variable, Constant) else self.makers.get(variable)
        return number_of(variable) if place is None else evaluated(self, place)

    def of(self, variable: Any) -> Average:
        """Return how a scalar, or an array without steps, is made."""
        over = 0  # how many times it is divided by the number of steps
        while True:
            place = self.makers.get(variable) if self.varies(variable) else None
            if place is None or not (equation := self.jaxpr.eqns[place]).invars:
                return Average("unknown")
            name: str = equation.primitive.name
            first, *others = list(equation.invars)
            if name in ("reduce_sum", "dot_general") and has_steps(*equation.invars):
                if equation.outvars[0].aval.dtype == bool:  # a product of bools says whether any is
                    return Average("other")
                over += sum(map(self._over, equation.invars))
                kind: Kind = "sum" if over == 0 else "mean" if over == 1 else "other"
                return Average(kind)
            if name in OVER_AXES and self.of(first).kind == "ratio":  # each has its own count
                return Average("other")
            if name in SAME or name in ("reduce_sum", *OVER_AXES):
                variable = first
            elif name in ("mul", "div") and not all(map(self.varies, equation.invars)):
                if name == "div" and self.varies(others[0]):
                    return Average("other")
                value = first if not self.varies(first) else others[0]
                number = self.number(value)
                if number is not None:  # else known to the program alone
                    over += steps_in(number) if name == "div" else -steps_in(number)
                variable = first if value is not first else others[0]
            elif name == "mul" or (name == "cond" and self.varies(first)):
                return Average("other")  # switched off for some chunks, by keep.any() for instance
            elif name == "div":
                return self._ratio(place, first, others[0], over)
            elif name == "select_n" and self._guarded(others) is not None:
                inner = self.of(self._guarded(others))
                if inner.kind in ("mean", "sum") and self.varies(equation.invars[0]):
                    return Average("other")
                instead = given_instead(self, equation)
                if inner.kind != "ratio" or over:
                    sure = instead is None and self.varies(equation.invars[0])
                    return Average("other" if sure else "unknown")
                case = 1 + others.index(self._guarded(others))
                inner = replace(inner, guards=(*inner.guards, (place, case)))
                if instead is not None and instead.number == 0 and not inner.beside:
                    kept = inner.least and inner.least[0] in ("max", "add")
                    least = inner.least if kept else (instead.unless, np.inf)
                    return replace(inner, least=least)
                if instead is not None and np.isnan(instead.number) and inner.least is None:
                    return replace(inner, least=instead)
                return Average("other")
            elif name in ("add", "sub") and (kept := beside_zero(self, equation)) is None:
                return self._added(first, others[0], over)
            elif name in ("add", "sub"):
                variable = kept
            else:
                return Average("other" if name in _BENDS else "unknown")

    def _over(self, variable: Any) -> int:
        """Return how many times an array with steps has been divided by their number."""
        if not self.varies(variable) or variable not in self.makers:
            return 0
        equation = self.jaxpr.eqns[self.makers[variable]]
        if not equation.invars:  # numbers by the place in a chunk
            return 0
        name, (first, *others) = equation.primitive.name, equation.invars
        if name in ("mul", "div"):
            sign = 1 if name == "mul" else -1
            return self._factor_over(first) + sign * self._factor_over(others[0])
        if name == "select_n":
            return max((self._over(v) for v in others if not self._is_number(v)), default=0)
        return self._factor_over(first) if name in SAME else 0

    def _is_number(self, variable: Any) -> bool:
        """Say whether an array is one number everywhere."""
        if not self.varies(variable) or variable not in self.makers:
            return not self.varies(variable)
        equation = self.jaxpr.eqns[self.makers[variable]]
        return equation.primitive.name == "broadcast_in_dim" and self._is_number(equation.invars[0])

    def _factor_over(self, variable: Any) -> int:
        """Return the same of a factor, which may be a number."""
        number = None if self.varies(variable) else self.number(variable)
        return self._over(variable) if number is None else -steps_in(number)

    def _guarded(self, cases: list[Any]) -> Any:
        """Return the case that varies, if the only other one is a number."""
        varying = [v for v in cases if self.varies(v)]
        return varying[0] if len(cases) == 2 and len(varying) == 1 else None

    def _added(self, first: Any, second: Any, over: int) -> Average:
        """Return what the sum of two scalars is; what does not vary is the same in every mean."""
        made = [self.of(v) for v in (first, second) if self.varies(v)]
        kinds, both = {average.kind for average in made}, len(made) == 2
        if kinds == {"ratio"} and not over:
            return self._joined(*made) if both else replace(made[0], beside=True)
        if over and kinds == {"sum"} and both:
            return Average("mean" if over == 1 else "other")
        if not over and (kinds == {"mean"} or (kinds == {"sum"} and both)):
            return Average(kinds.pop())
        return Average("unknown" if "unknown" in kinds else "other")

    def _joined(self, one: Average, other: Average) -> Average:
        """Return what the sum of two ratios is: one, if their counts are the same."""
        counts = [self.jaxpr.eqns[average.count].outvars[0] for average in (one, other)]
        if (one.means, one.least) != (other.means, other.least) or not are_alike(self, *counts):
            return Average("other")
        beside = one.beside or other.beside
        return replace(one, at=one.at + other.at, guards=one.guards + other.guards, beside=beside)

    def _ratio(self, place: int, total: Any, count: Any, over: int) -> Average:
        """Return what a quotient is: a ratio, if both sides are sums or both means."""
        least: Least | None = None
        while self.varies(count) and count in self.makers:
            equation = self.jaxpr.eqns[self.makers[count]]
            if not equation.invars:
                return Average("unknown")
            name: str = equation.primitive.name
            first, *others = list(equation.invars)
            if name in ("max", "add"):
                constant, varying = (others[0], first) if self.varies(first) else (first, others[0])
                number = None if self.varies(constant) else self.number(constant)
                if number is not None and steps_in(number) > 0:  # more where there are more steps
                    return Average("other")
                least = None if number is None else ("max" if name == "max" else "add", number)
            elif name == "select_n":
                varying, least = self._guarded(others), given_instead(self, equation)
                if varying is not None and not (least and least[1]):
                    return Average("other")
            elif name in SAME and name != "neg":
                count = first
                continue
            elif name == "stop_gradient":  # a loss divided by itself is 1 whatever it is
                return Average("other")
            else:
                break
            if varying is None or least is None:
                return Average("unknown")
            if self.of(count := varying).kind in ("sum", "mean"):
                break
        if not self.varies(count) or count not in self.makers:
            return Average("unknown")
        above, below = self.of(total), self.of(count)
        kinds = (above.kind, below.kind)
        if total.aval.shape or kinds not in (("sum", "sum"), ("mean", "mean")):  # of each row
            return Average("other" if "unknown" not in kinds else "unknown")
        means = above.kind == "mean"
        if over:
            return Average("unknown")
        return Average("ratio", at=(place,), count=self.makers[count], means=means, least=least)
