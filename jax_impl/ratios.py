"""Sum and count of a readout whose scalar is a ratio, and what its scalar has beside the ratio.

What the program makes of the ratio, a learned factor, a penalty on weights added, it makes of the
sum: nothing else is done to a ratio, as :mod:`.averages` has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core import Literal as Constant

from revrnn.errors import RevRNNError

from .averages import Average
from .flat import computing_of, flattened, is_made_again

Tree = Any


def as_pair(function: Callable[..., Tree], average: Average) -> Callable[..., Tree]:
    """Return a function that gives sum and count where ``function`` gives their ratio.

    A third result, if there is one (``average.beside``), is what is added to the ratio.
    """

    def pair(*arguments: Tree) -> Tree:
        traced = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
        closed = flattened(traced, arguments)
        jaxpr = closed.jaxpr
        lines = [jaxpr.eqns[place] for place in computing_of(jaxpr)]
        names = tuple(line.primitive.name for line in lines)
        # What comes before the count may be made otherwise for chunks of this length.
        first, later = min(*average.at, average.count) - len(average.names), len(average.names)
        if names[first:] != average.names[first:]:
            given = "a mean over a count, made otherwise for other numbers of steps"
            raise RevRNNError("E_ARGUMENT", "readout", given, "(sum, count)")
        divisions = [lines[place - later] for place in average.at]
        guards = {id(lines[place - later]): case for place, case in average.guards}
        wanted = [line.invars[0] for line in divisions]
        wanted.append(lines[average.count - later].outvars[0])
        leaves = jax.tree.leaves(arguments)
        run = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(outvars=wanted), closed.consts))
        *totals, count = (jax.checkpoint(run) if is_made_again(traced.jaxpr) else run)(*leaves)
        end = _end(jaxpr, [line.outvars[0] for line in divisions], guards)
        made = jaxpr_as_fun(ClosedJaxpr(end, closed.consts))

        def scalar(*ratios: jax.Array) -> jax.Array:
            result: jax.Array = made(*leaves, *ratios)[0]
            return result

        # It is linear but for what is beside the ratio: a multiple of it is that of the sum.
        beside, total = jax.jvp(scalar, tuple(map(jnp.zeros_like, totals)), tuple(totals))
        scale = len(arguments[1]) if average.means else 1
        sums = total * scale, count * scale
        return (*sums, beside) if average.beside else sums

    return pair


def _end(jaxpr: Any, ratios: list[Any], guards: dict[int, int]) -> Any:
    """Return the part of a program that makes its result of ratios, which are its last arguments.

    Of each of the ``guards``, by its line, the argument is taken that stands if something counts.
    """
    lines: list[Any] = []
    needed, instead = set(jaxpr.outvars), dict[Any, Any]()
    for line in reversed(jaxpr.eqns):
        if needed.isdisjoint(line.outvars) or any(line.outvars[0] is ratio for ratio in ratios):
            continue
        given = line.invars
        if id(line) in guards:
            given = [given[guards[id(line)]]]
            instead[line.outvars[0]] = given[0]
        else:
            lines.insert(0, line)
        needed.update(variable for variable in given if not isinstance(variable, Constant))

    def standing(variable: Any) -> Any:
        while not isinstance(variable, Constant) and variable in instead:
            variable = instead[variable]
        return variable

    lines = [line.replace(invars=list(map(standing, line.invars))) for line in lines]
    results = list(map(standing, jaxpr.outvars))
    return jaxpr.replace(eqns=lines, invars=[*jaxpr.invars, *ratios], outvars=results)
