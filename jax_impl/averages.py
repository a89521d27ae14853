"""What a readout's scalar is a sum or a mean of, as its program tells.

The loss of a whole sequence is put together from those of its chunks, and for that a mean must be
known from a sum, and how much it is a mean of. The readout is traced, nothing is computed, for a
number of steps that is no other number of the program; whatever is a multiple of it has steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core import Literal as Constant

from revrnn.errors import RevRNNError

Tree = Any
# A prime that is hardly the size of anything.
STEPS = 10_007
# What does not change whether something is a mean or a sum.
_SAME = {
    "convert_element_type",
    "reshape",
    "squeeze",
    "copy",
    "neg",
    "broadcast_in_dim",
    "pvary",
    "pcast",
    "optimization_barrier",
    "sharding_constraint",
    "reshard",
    "mesh_cast",
}
# A count that is 0 divides nothing but 0; what is kept from dividing by it gives 0 so too.
_TINY = 1e-30
# What makes of a mean or sum something that is neither.
_BENDS = {
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "cbrt",
    "pow",
    "integer_pow",
    "square",
    "tanh",
    "logistic",
    "sin",
    "cos",
    "abs",
    "slice",
    "dynamic_slice",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "max",
    "min",
}

Kind = Literal["mean", "sum", "ratio", "other", "unknown"]


@dataclass(frozen=True)
class Average:
    """How a scalar is made from the steps of a chunk.

    Attributes:
        kind: a mean over all steps, a sum, a sum over a count, known to be neither, or not known.
        names: the primitives of the program, in order.
        at: for a ratio, the place of the division among them.
        count: the place of what makes the count, before it is kept from being 0.
        factor: what the ratio is multiplied by.
        means: whether both sides of the ratio are means themselves.
        least: what keeps the count from being 0: ``max`` or ``add`` with a number.
    """

    kind: Kind
    names: tuple[str, ...] = ()
    at: int = -1
    count: int = -1
    factor: float = 1.0
    means: bool = False
    least: tuple[Literal["max", "add"], float] | None = None

    def finish(self, count: jax.Array) -> jax.Array:
        """Return what the sum is divided by."""
        if self.least is None:
            return count
        kind, value = self.least
        return jnp.maximum(count, value) if kind == "max" else count + value


def average_of(function: Callable[..., Tree], *arguments: Tree) -> Average:
    """Return how the scalar that ``function`` gives for arguments ``[STEPS, …]`` is made."""
    try:
        closed = _flat(function, arguments)
    except Exception:  # a function that does not take so many steps says nothing of itself
        return Average("unknown")
    jaxpr = closed.jaxpr
    if len(jaxpr.outvars) != 1 or jaxpr.outvars[0].aval.shape:
        return Average("unknown")
    names = tuple(equation.primitive.name for equation in jaxpr.eqns)
    return replace(_Walk(jaxpr).of(jaxpr.outvars[0]), names=names)


def as_pair(function: Callable[..., Tree], average: Average) -> Callable[..., Tree]:
    """Return a function that gives sum and count where ``function`` gives their ratio."""

    def pair(*arguments: Tree) -> Tree:
        closed = _flat(function, arguments)
        jaxpr = closed.jaxpr
        names = tuple(equation.primitive.name for equation in jaxpr.eqns)
        if names != average.names:  # made otherwise for chunks of this length
            given = "a mean over a count, made otherwise for other numbers of steps"
            raise RevRNNError("E_ARGUMENT", "readout", given, "(sum, count)")
        total = jaxpr.eqns[average.at].invars[0]
        count = jaxpr.eqns[average.count].outvars[0]
        run = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(outvars=[total, count]), closed.consts))
        total, count = run(*jax.tree.leaves(arguments))
        scale = len(arguments[1]) if average.means else 1
        return total * (average.factor * scale), count * scale

    return pair


def _flat(function: Callable[..., Tree], arguments: tuple[Tree, ...]) -> Any:
    """Return the program of a function, without programs of ``jit`` in it."""
    traced = jax.make_jaxpr(lambda *given: function(*given))(*arguments)

    def run(*leaves: Any) -> list[Any]:
        return _inline(traced.jaxpr, traced.consts, leaves)

    return jax.make_jaxpr(run)(*jax.tree.leaves(arguments))


def _inline(jaxpr: Any, consts: Any, arguments: Any) -> list[Any]:
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Constant) else values[variable]

    for equation in jaxpr.eqns:
        given = [read(variable) for variable in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            made = _inline(inner.jaxpr, inner.consts, given)
        else:
            made = _alone(jaxpr, equation, given)
        values.update(zip(equation.outvars, made, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _alone(jaxpr: Any, equation: Any, given: list[Any]) -> list[Any]:
    """Return the results of one line of a program."""
    places = [n for n, v in enumerate(equation.invars) if not isinstance(v, Constant)]
    inputs = {equation.invars[n]: given[n] for n in places}
    line = jaxpr.replace(
        eqns=[equation], constvars=[], invars=list(inputs), outvars=equation.outvars
    )
    made: list[Any] = jaxpr_as_fun(ClosedJaxpr(line, []))(*inputs.values())
    return made


class _Walk:
    """From a program's result back to the sum over steps that it is made of."""

    def __init__(self, jaxpr: Any) -> None:
        self.jaxpr = jaxpr
        self.makers: dict[Any, int] = {}
        # What hangs on anything that has steps; the rest is the same for every chunk.
        self.varying = {v for v in jaxpr.invars if _has_steps(v)}
        for place, equation in enumerate(jaxpr.eqns):
            self.makers.update((variable, place) for variable in equation.outvars)
            if any(self._varies(v) for v in equation.invars):
                self.varying.update(equation.outvars)
            self.varying.update(v for v in equation.outvars if _has_steps(v))

    def _varies(self, variable: Any) -> bool:
        return not isinstance(variable, Constant) and variable in self.varying

    def of(self, variable: Any) -> Average:
        """Return how a scalar, or an array without steps, is made."""
        divisor, factor = 1.0, 1.0
        while True:
            place = self.makers.get(variable) if self._varies(variable) else None
            if place is None:
                return Average("unknown")
            equation = self.jaxpr.eqns[place]
            name: str = equation.primitive.name
            first, *others = list(equation.invars)
            if name in ("reduce_sum", "dot_general") and _has_steps(*equation.invars):
                # A mean divides by a multiple of the steps, and a sum does not.
                return Average("sum" if divisor % STEPS else "mean", factor=factor)
            if name in _SAME or name == "reduce_sum":
                factor = -factor if name == "neg" else factor
                variable = first
            elif name in ("mul", "div") and not all(map(self._varies, equation.invars)):
                if name == "div" and self._varies(others[0]):
                    return Average("other")
                value = first if not self._varies(first) else others[0]
                number = _number(value)
                if number is None:
                    factor = float("nan")  # known to the program alone
                elif name == "div":
                    divisor, factor = divisor * number, factor / number
                else:
                    factor *= number
                    if number and (1 / number) % STEPS == 0:
                        divisor /= number
                variable = first if value is not first else others[0]
            elif name == "div":
                return self._ratio(place, first, others[0], divisor, factor)
            elif name == "select_n" and self._guarded(others) is not None:
                inner = self.of(self._guarded(others))
                ratio = inner.kind == "ratio" and inner.least is None and divisor == factor == 1
                return replace(inner, least=("max", _TINY)) if ratio else Average("unknown")
            elif name in ("add", "sub"):
                return self._added(first, others[0], divisor)
            else:
                return Average("other" if name in _BENDS else "unknown")

    def _guarded(self, cases: list[Any]) -> Any:
        """Return the case that varies, if the only other one is a number."""
        varying = [v for v in cases if self._varies(v)]
        return varying[0] if len(cases) == 2 and len(varying) == 1 else None

    def _added(self, first: Any, second: Any, divisor: float) -> Average:
        """Return what the sum of two scalars is; what does not vary is the same in every mean."""
        kinds = {self.of(v).kind for v in (first, second) if self._varies(v)}
        if (
            divisor % STEPS == 0
            and kinds == {"sum"}
            and self._varies(first) == self._varies(second)
        ):
            return Average("mean")
        both = self._varies(first) and self._varies(second)
        if kinds == {"mean"} or (kinds == {"sum"} and both):
            return Average(kinds.pop())
        return Average("unknown" if "unknown" in kinds else "other")

    def _ratio(self, place: int, total: Any, count: Any, divisor: float, factor: float) -> Average:
        """Return what a quotient is: a ratio, if both sides are sums or both means."""
        least: tuple[Literal["max", "add"], float] | None = None
        while self._varies(count) and count in self.makers:
            equation = self.jaxpr.eqns[self.makers[count]]
            name: str = equation.primitive.name
            first, *others = list(equation.invars)
            if name in ("max", "add"):
                constant, varying = (
                    (others[0], first) if self._varies(first) else (first, others[0])
                )
                number = None if self._varies(constant) else _number(constant)
                least = None if number is None else ("max" if name == "max" else "add", number)
            elif name == "select_n":
                varying, least = self._guarded(others), ("max", _TINY)
            elif name in _SAME and name != "neg":
                count = first
                continue
            else:
                break
            if varying is None or least is None:
                return Average("unknown")
            count = varying
            if self.of(count).kind in ("sum", "mean"):
                break
        if not self._varies(count) or count not in self.makers:
            return Average("unknown")
        above, below = self.of(total), self.of(count)
        kinds = (above.kind, below.kind)
        if kinds not in (("sum", "sum"), ("mean", "mean")):
            return Average("other" if "unknown" not in kinds else "unknown")
        means = above.kind == "mean"
        if np.isnan(factor) or divisor % STEPS == 0 or (means and least is not None):
            return Average("unknown")
        return Average(
            "ratio", at=place, count=self.makers[count], factor=factor, means=means, least=least
        )


def _has_steps(*variables: Any) -> bool:
    return any(size % STEPS == 0 and size for v in variables for size in v.aval.shape)


def _number(variable: Any) -> float | None:
    """Return a constant's value, if the program holds it."""
    if not isinstance(variable, Constant) or np.shape(variable.val):
        return None
    return float(variable.val)
