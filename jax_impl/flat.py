"""A function's program without programs of ``jit`` in it, and what in it has steps.

The function is traced for a number of steps that is no other number of the program; whatever is a
multiple of it has steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.extend.core import Literal as Constant

Tree = Any
# What draws random numbers.
_RANDOM: Final = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")
# Programs in a program: of jit, and of jax.checkpoint, which is computed again on the way back.
_PROGRAMS: Final = ("jit", "pjit")
_MADE_AGAIN: Final = ("checkpoint", "remat2")
# Sums over an axis by name: of devices, or of vmap.
OVER_AXES: Final = ("psum", "psum_invariant", "psum2")
# What passes a value on, or one device's as it is where there is no other.
_ALONE: Final = (*OVER_AXES, "pmax", "pmin", "ppermute", "pvary", "pcast")
# A prime that is hardly the size of anything.
STEPS = 10_007
# What does not change whether something is a mean or a sum.
SAME: Final = frozenset(
    """
    convert_element_type reshape squeeze copy neg broadcast_in_dim pvary pcast
    optimization_barrier sharding_constraint reshard mesh_cast
    """.split()  # noqa: SIM905 - one word a line would be a page
)


def flat_program(function: Callable[..., Tree], arguments: tuple[Tree, ...]) -> Any:
    """Return the program of a function, without programs of ``jit`` in it."""
    return flattened(jax.make_jaxpr(lambda *given: function(*given))(*arguments), arguments)


def flattened(traced: Any, arguments: tuple[Tree, ...]) -> Any:
    """Return a program for arguments without programs of ``jit`` in it."""

    def run(*leaves: Any) -> list[Any]:
        return _inline(traced.jaxpr, traced.consts, leaves)

    return jax.make_jaxpr(run)(*jax.tree.leaves(arguments))


def is_made_again(jaxpr: Any) -> bool:
    """Say whether ``jax.checkpoint`` is in a program, or in programs of ``jit`` in it."""
    return any(
        line.primitive.name in _MADE_AGAIN
        or (line.primitive.name in _PROGRAMS and is_made_again(line.params["jaxpr"].jaxpr))
        for line in jaxpr.eqns
    )


def has_line(program: Any, wanted: Callable[[Any], bool]) -> bool:
    """Say whether a line of a program, or of one in it, is ``wanted``."""
    return any(
        wanted(line)
        or any(
            hasattr(getattr(part, "jaxpr", part), "eqns") and has_line(part, wanted)
            for value in line.params.values()
            for part in (value if isinstance(value, (tuple, list)) else (value,))
        )
        for line in getattr(program, "jaxpr", program).eqns
    )


def still(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """Return a function that has zero bits where ``function`` draws random ones.

    It prints nothing and tells nobody, and what devices make together it makes of one alone.
    """

    def drawing_nothing(*arguments: Tree) -> Tree:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        jaxpr = _silent(traced.jaxpr)
        made = _inline(jaxpr, traced.consts, jax.tree.leaves(arguments), alone=True)
        return jax.tree.unflatten(jax.tree.structure(shapes), made)

    return drawing_nothing


def _silent(program: Any) -> Any:
    """Return a program without lines that only tell, or another parameter of a line as it is."""
    if type(program) is tuple:
        return tuple(map(_silent, program))
    inner = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    if inner is not program:  # in JAX from 0.12 on a program is its own
        return ClosedJaxpr(_silent(inner), program.consts)
    if not isinstance(program, Jaxpr) or not program.effects:
        return program
    lines = []
    for line in program.eqns:
        if not is_told(line):
            params = {name: _silent(value) for name, value in line.params.items()}
            lines.append(line.replace(params=params))
    # What is left writes to references that it was given, and does nothing in any order.
    effects = {effect for effect in program.effects if hasattr(effect, "input_index")}
    return program.replace(eqns=lines, effects=effects)


def _inline(jaxpr: Any, consts: Any, arguments: Any, *, alone: bool = False) -> list[Any]:
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Constant) else values[variable]

    for equation in jaxpr.eqns:
        given = [read(variable) for variable in equation.invars]
        if equation.primitive.name in (*_PROGRAMS, *_MADE_AGAIN):
            inner = equation.params["jaxpr"]
            consts = getattr(inner, "consts", ())
            made = _inline(getattr(inner, "jaxpr", inner), consts, given, alone=alone)
        elif alone and equation.primitive.name in (*_RANDOM, "axis_index"):
            made = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in equation.outvars]
        elif alone and equation.primitive.name in _ALONE:
            made = given
        elif alone and equation.primitive.name.startswith("all_gather"):
            made = [_gathered(given[0], equation.params)]
        elif equation.primitive.name in OVER_AXES:  # before JAX 0.10 one line sums several
            triples = zip(equation.invars, equation.outvars, given, strict=True)
            lines = [(equation.replace(invars=[v], outvars=[o]), one) for v, o, one in triples]
            made = [_alone(jaxpr, line, [one])[0] for line, one in lines]
        else:
            made = _alone(jaxpr, equation, given)
        values.update(zip(equation.outvars, made, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _gathered(value: Any, params: dict[str, Any]) -> jax.Array:
    """Return what is gathered if all devices have the same."""
    join = jnp.concatenate if params["tiled"] else jnp.stack
    return join([value] * params["axis_size"], params["all_gather_dimension"])


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
            varying.update(filter(is_reference, equation.invars))
        varying.update(variable for variable in equation.outvars if has_steps(variable))
    return varying


def is_reference(variable: Any) -> bool:
    """Say whether a variable is what ``jax.new_ref`` makes."""
    return hasattr(variable.aval, "inner_aval")


def is_told(equation: Any) -> bool:
    """Say whether a line of a program only tells its numbers, as ``jax.debug.print`` does."""
    writes = any(map(is_reference, equation.invars))
    return bool(equation.effects) and not equation.outvars and not writes


def number_of(variable: Any) -> float | None:
    """Return a constant's value, if the program holds it."""
    known = isinstance(variable, Constant) and not np.shape(variable.val)
    return float(variable.val) if known else None


def evaluated(walk: Any, place: int) -> float | None:
    """Return what a line of a program makes of numbers alone; ``None`` if it is no number.

    Args:
        walk: has the program, and tells the numbers in it.
        place: of the line.
    """
    equation = walk.jaxpr.eqns[place]
    numbers: list[float | None] = [walk.number(variable) for variable in equation.invars]
    if None in numbers or not numbers or any(v.aval.shape for v in equation.outvars):
        return None
    if equation.primitive.name in ("pvary", "pcast"):  # over axes that are not there now
        return numbers[0]
    pairs = zip(numbers, equation.invars, strict=True)
    given = [np.asarray(number, variable.aval.dtype) for number, variable in pairs]
    with jax.ensure_compile_time_eval():
        made = _alone(walk.jaxpr, equation, given)
    number = len(made) == 1 and isinstance(made[0].dtype, np.dtype)  # a key of jax.random is none
    return float(made[0]) if number else None


def steps_in(number: float) -> int:
    """Return 1 for a multiple or part of the number of steps, -1 for one over it, else 0."""
    if not np.isfinite(number) or not number:
        return 0
    for sign, size in ((1, abs(number) / STEPS), (-1, abs(number) * STEPS)):
        whole = round(max(size, 1 / size))
        # A mean is over many elements of each step, up to millions; a part of one is no such.
        most = 1 << 23 if (size > 1) == (sign > 0) else 1000
        # Numbers are float32. A whole number is a multiple of its own part, which says nothing.
        near = abs(min(size, 1 / size) * whole - 1) < 6.1e-8
        if whole <= most and near and (sign > 0 or number % 1):
            return sign
    return 0


def are_alike(walk: Any, one: Any, other: Any) -> bool:
    """Say whether two variables are computed alike from the same, as far as can be told.

    Args:
        walk: has the program, and what makes each variable.
        one: a variable of the program.
        other: the same.
    """
    known: dict[tuple[Any, Any], bool] = {}

    def alike(one: Any, other: Any) -> bool:
        if one is other or isinstance(one, Constant) or isinstance(other, Constant):
            return one is other or (None is not number_of(one) == number_of(other))
        if (one, other) not in known:
            known[one, other] = made_alike(one, other)
        return known[one, other]

    def made_alike(one: Any, other: Any) -> bool:
        if one not in walk.makers or other not in walk.makers:
            return False
        first, second = (walk.jaxpr.eqns[walk.makers[variable]] for variable in (one, other))
        return (
            first.primitive is second.primitive
            and not first.effects
            and first.params == second.params
            and first.outvars.index(one) == second.outvars.index(other)
            and len(first.invars) == len(second.invars)
            and all(map(alike, first.invars, second.invars))
        )

    return alike(one, other)
