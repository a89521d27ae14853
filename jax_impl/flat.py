"""A function's program without programs of ``jit`` in it, and what in it has steps.

The function is traced for a number of steps that is no other number of the program; whatever is a
multiple of it has steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core import Literal as Constant

Tree = Any
# A prime that is hardly the size of anything.
STEPS = 10_007


def flat_program(function: Callable[..., Tree], arguments: tuple[Tree, ...]) -> Any:
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


def has_steps(*variables: Any) -> bool:
    """Say whether one of these variables has an axis of steps."""
    return any(size % STEPS == 0 and size for v in variables for size in v.aval.shape)


def computing_of(jaxpr: Any) -> list[int]:
    """Return the places of what computes.

    What is left out is not in every trace: what tells ``shard_map`` over which axes a value varies,
    and scalars computed from numbers alone, which JAX 0.12 makes where it marks a number first.
    """
    places: list[int] = []
    numbers: set[Any] = set()
    for place, equation in enumerate(jaxpr.eqns):
        given, made = equation.invars, equation.outvars
        number = bool(given) and all(isinstance(v, Constant) or v in numbers for v in given)
        if number and not any(variable.aval.shape for variable in made):
            numbers.update(made)
        elif equation.primitive.name not in ("pvary", "pcast"):
            places.append(place)
    return places


def varying_of(jaxpr: Any) -> set[Any]:
    """Return the variables that depend on anything with steps; others are as in every chunk."""
    varying = {variable for variable in jaxpr.invars if has_steps(variable)}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Constant) and v in varying for v in equation.invars):
            varying.update(equation.outvars)
        varying.update(variable for variable in equation.outvars if has_steps(variable))
    return varying


def uses_length(jaxpr: Any) -> bool:
    """Say whether anything with steps is computed from their number, or from one over it."""
    return any(
        isinstance(v, Constant) and _is_length(v.val)
        for equation in jaxpr.eqns
        if has_steps(*equation.outvars)
        for v in equation.invars
    )


def _is_length(value: Any) -> bool:
    """Say whether a number of a program may be made of the number of steps."""
    if np.size(value) != 1 or np.asarray(value).dtype.kind not in "iuf":
        return False
    number = abs(float(np.asarray(value).reshape(())))
    inverse = 1 / number if number else 0.0
    return bool(number and number % STEPS == 0) or abs(inverse - STEPS) < 1
