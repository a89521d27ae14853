"""Whether steps of a chunk depend on one another in a readout, as its program tells.

A softmax or a norm over the steps, or weights that are divided by their sum, make of a chunk what
they would not make of the whole sequence. What is certain is refused; what only may be so (a
convolution, steps that are shifted, a loop) is tried with numbers (:mod:`.apart`).
"""

from __future__ import annotations

import math
from typing import Any, Final

import jax.numpy as jnp
from jax.extend.core import Literal as Constant

from .flat import STEPS, has_steps, is_reference, is_told, varying_of

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


# What treats each element alone, or copies or adds up whole axes; _MOVES may move steps.
_APART: Final = frozenset(
    """
    abs acos acosh add add_any and approx_top_k asin asinh atan atan2 atanh bitcast_convert_type
    broadcast_in_dim cbrt ceil clamp conj convert_element_type copy copy_p cos cosh digamma div
    eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log log1p
    logistic lt max min mul nan nansum ne neg nextafter not optimization_barrier or pcast pow
    pvary real reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor rem
    reshard round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square squeeze stop_gradient sub tan tanh transpose xor
    argmax argmin expand_dims mesh_cast random_wrap random_unwrap random_bits psum psum_invariant
    psum2
    """.split()  # noqa: SIM905 - one word a line would be a page
)
_INNER: Final = ("call_jaxpr", "jaxpr", "fun_jaxpr")
_LOOPS: Final = ("scan", "while", "cond")


def may_mix(jaxpr: Any) -> bool:
    """Say whether a program has anything by which steps may depend on one another."""
    own = [v for v in jaxpr.constvars if has_steps(v)]  # numbers by the place in a chunk
    return bool(own) or any(
        any(map(is_reference, e.outvars))  # what is written there is read by whoever comes later
        or (has_steps(*e.invars, *e.outvars) and not _is_apart(e))
        for e in jaxpr.eqns
    )


def _is_apart(equation: Any) -> bool:
    """Say whether a line of a program certainly keeps steps apart."""
    name, params = equation.primitive.name, equation.params
    if name in _APART or is_told(equation):
        return True
    # iota: numbers by the place in a chunk
    if name in _LOOPS or not equation.invars:
        return False
    first, out = equation.invars[0].aval, equation.outvars[0].aval
    inner = next((params[key] for key in _INNER if key in params), None)
    if inner is not None:
        return not may_mix(getattr(inner, "jaxpr", inner))
    axes = _axes_of_steps(first)
    if len(axes) != 1:
        return not axes and name in ("dot_general", "gather") and not has_steps(*equation.outvars)
    (axis,) = axes
    if name in ("rev", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort"):
        along = params.get("dimensions", (params.get("axis", params.get("dimension")),))
        return axis not in along
    if name == "slice":
        return bool(first.shape[axis] == out.shape[axis])
    if name == "concatenate":
        return bool(params["dimension"] != axis)
    if name == "pad":
        return tuple(params["padding_config"][axis]) == (0, 0, 0)
    if name == "reshape":
        places = _axes_of_steps(out)
        before = [math.prod(a.shape[:k]) for a, k in ((first, axis), *((out, k) for k in places))]
        return len(places) == 1 and before[0] == before[1]
    if name == "dot_general":
        contracted, batched = params["dimension_numbers"]
        other = _axes_of_steps(equation.invars[1].aval)
        if axis in batched[0]:
            return other == [batched[1][batched[0].index(axis)]]
        return not other or (axis in contracted[0] and not has_steps(*equation.outvars))
    if name == "gather":
        numbers = params["dimension_numbers"]
        whole = params["slice_sizes"][axis] == first.shape[axis]
        return axis in numbers.operand_batching_dims or (
            whole and axis not in numbers.start_index_map and len(_axes_of_steps(out)) == 1
        )
    return name in ("top_k", "split") and axis != params.get("axis", first.ndim - 1)


def counts_places(jaxpr: Any) -> bool:
    """Say whether results depend on the places of steps in a chunk, but for what is looked up."""
    places = {v for v in jaxpr.constvars if has_steps(v)}
    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, equation.invars
        inputs = inputs[:1] if name == "gather" else inputs
        if any(_is_in(v, places) for v in inputs) or (name == "iota" and _along_steps(equation)):
            places.update(equation.outvars)
    return any(_is_in(v, places) for v in jaxpr.outvars)


def _along_steps(iota: Any) -> bool:
    return bool(iota.params["shape"][iota.params["dimension"]] % STEPS == 0)


def _axes_of_steps(array: Any) -> list[int]:
    return [k for k, size in enumerate(array.shape) if size and size % STEPS == 0]


def _is_in(variable: Any, variables: set[Any]) -> bool:
    return not isinstance(variable, Constant) and variable in variables
