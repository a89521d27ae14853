"""Whether steps of a chunk depend on one another in a readout, as its program tells.

A softmax or a norm over the steps, or weights that are divided by their sum, make of a chunk what
they would not make of the whole sequence. No alarm is raised that is not certain: what is not
understood is let pass.
"""

from __future__ import annotations

from typing import Any, Final

import jax.numpy as jnp
from jax.extend.core import Literal as Constant

from .flat import STEPS, has_steps, varying_of

# What makes one of many along some axes.
_REDUCTIONS: Final = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "dot_general"}
# What makes each of all before it, or of all, by the name of the axis.
_ALONG: Final = {
    "cumsum": "axis",
    "cumprod": "axis",
    "cummax": "axis",
    "cummin": "axis",
    "cumlogsumexp": "axis",
    "sort": "dimension",
}


def mixes_steps(jaxpr: Any) -> bool:
    """Say whether results of a program depend on steps that depend on others.

    Args:
        jaxpr: from :func:`.flat.flat_program`.
    """
    varying = varying_of(jaxpr)
    reduced: set[Any] = set()  # floats without steps, made of all steps
    mixed: set[Any] = set()
    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, [v for v in equation.invars if _is_in(v, varying)]
        for out in equation.outvars:
            if any(_is_in(v, mixed) for v in inputs) or _mixes(name, equation, out, reduced):
                mixed.add(out)
            elif not has_steps(out) and jnp.issubdtype(out.aval.dtype, jnp.number):
                from_steps = name in _REDUCTIONS and has_steps(*inputs)
                if from_steps or any(_is_in(v, reduced) for v in inputs):
                    reduced.add(out)
    return any(_is_in(v, mixed) for v in jaxpr.outvars)


def _mixes(name: str, equation: Any, out: Any, reduced: set[Any]) -> bool:
    """Say whether steps of ``out`` depend on others, where those of the inputs do not."""
    if not has_steps(out):
        return False
    if any(_is_in(v, reduced) for v in equation.invars):
        return True
    if name in _ALONG:
        return bool(out.aval.shape[equation.params[_ALONG[name]]] % STEPS == 0)
    # Each step with each.
    return name == "dot_general" and sum(size % STEPS == 0 for size in out.aval.shape) > 1


def _is_in(variable: Any, variables: set[Any]) -> bool:
    return not isinstance(variable, Constant) and variable in variables
