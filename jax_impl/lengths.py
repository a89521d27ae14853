"""Numbers of a caller's function that are made of the number of steps.

A chunk has fewer steps than the sequence. A mean divides by their number, which is told as such
(:mod:`.averages`). Any other number made of it, a root, a logarithm, one less, leaves a doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant

from .flat import STEPS, has_steps, steps_in, varying_of
from .status import is_concrete

Tree = Any
# Larger constants are no numbers, and would be fetched from a device.
_LARGEST = 64


class Lengths:
    """A function's programs for two, three, some other numbers of steps, and very many."""

    def __init__(
        self,
        function: Callable[..., Tree],
        arguments: tuple[Tree, ...],
        others: tuple[int, ...] = (),
    ) -> None:
        """Trace ``function``, of arguments ``[STEPS, …]`` but for the first."""

        def cut(steps: int) -> Any:
            return jax.tree.map(
                lambda a: jax.ShapeDtypeStruct((steps, *a.shape[1:]), a.dtype), arguments[1:]
            )

        self._few = {
            n: jax.make_jaxpr(function)(arguments[0], *cut(n)) for n in (2, 3, *others) if n
        }
        two, three = (len(self._few[n].jaxpr.eqns) for n in (2, 3))
        # Whether a loop in Python makes the program longer for more steps.
        self.by_python = two != three
        if not self.by_python:
            # JAX remembers by the function what it traced; this one is new.
            self.many = jax.make_jaxpr(lambda *given: function(*given))(*arguments)

    def bend(self) -> bool:
        """Say whether the programs differ by more than multiples of the number of steps.

        That of one step is left out: JAX writes some functions otherwise for one of anything.
        """
        return self._differ({n: closed for n, closed in self._few.items() if n > 1})

    def one_is_other(self) -> bool:
        """Say whether the program of one step differs, if there is a chunk of one."""
        return 1 in self._few and self._differ({1: self._few[1]})

    def _differ(self, few: dict[int, ClosedJaxpr]) -> bool:
        programs = [list(_lines(closed)) for closed in (*few.values(), self.many)]
        if len(set(map(len, programs))) > 1:
            return True
        steps = np.array([*few, STEPS], np.float64)
        return not all(_is_plain(steps, *entries) for entries in zip(*programs, strict=True))


def _lines(closed: ClosedJaxpr) -> Iterator[Any]:
    """Give the names of a program's lines and the numbers in them, those of inner ones too."""
    yield from (_known(const) for const in closed.consts)
    for equation in closed.jaxpr.eqns:
        yield equation.primitive.name
        yield from (v.val for v in equation.invars if isinstance(v, Constant))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if isinstance(inner, Jaxpr):
                yield from _lines(ClosedJaxpr(inner, ()))
            elif isinstance(inner, ClosedJaxpr):
                yield from _lines(inner)
    yield from (v.val for v in closed.jaxpr.outvars if isinstance(v, Constant))


def _is_program(value: Any) -> bool:
    return isinstance(value, (Jaxpr, ClosedJaxpr)) or not isinstance(value, (list, tuple))


def _known(const: Any) -> Any:
    """Return a constant that is a few numbers, as an array."""
    number = jnp.issubdtype(jnp.result_type(const), jnp.number)
    if not number or not is_concrete(const) or np.size(const) > _LARGEST:
        return None
    there = getattr(const, "is_fully_addressable", True)
    return np.asarray(const)[None] if there else None


def _is_plain(steps: np.ndarray[Any, Any], first: Any, *others: Any) -> bool:
    """Say whether an entry is the same in all programs, or a multiple of the number of steps."""
    if first is None or isinstance(first, str):
        return all(first == other for other in others)
    if any(jnp.shape(first) != jnp.shape(other) for other in others):
        return False
    if not jnp.issubdtype(jnp.result_type(first), jnp.number):
        return all(bool(np.all(first == other)) for other in others)
    kind = jnp.result_type(first)
    numbers = [np.asarray(v).astype(np.float64) for v in (first, *others)]
    if all(np.array_equal(numbers[0], v, equal_nan=True) for v in numbers[1:]):
        return True
    if np.ndim(first):  # a constant beside the program, whose numbers nobody reads
        return False
    info: Any = jnp.finfo
    near = 4 * float(info(kind).eps) if jnp.issubdtype(kind, jnp.floating) else 1e-12
    with np.errstate(all="ignore"):
        shares = [np.stack(numbers) / steps, np.stack(numbers) * steps]
        return any(bool((np.abs(v / v[0] - 1) <= near).all()) for v in shares)


def uses_length(jaxpr: Any) -> bool:
    """Say whether more than a division is computed from the number of steps, or from one over it.

    That is anything with steps, and any number.
    """
    varying = varying_of(jaxpr)
    return any(
        isinstance(v, Constant) and _is_length(v.val)
        for equation in jaxpr.eqns
        if has_steps(*equation.outvars) or not varying.intersection(equation.outvars)
        for v in equation.invars
    )


def _is_length(value: Any) -> bool:
    """Say whether a number of a program may be made of the number of steps."""
    if np.size(value) != 1 or np.asarray(value).dtype.kind not in "iuf":
        return False
    number = float(np.asarray(value).reshape(()))
    return bool(number and number % STEPS == 0) or steps_in(number) != 0
