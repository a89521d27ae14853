"""What a caller's function closes over, made an argument of it.

JAX differentiates with respect to arguments. A function with its own derivative
(``jax.custom_vjp``) that calls a caller's function would give nothing to the variables of an outer
``jax.grad`` which that function closes over, silently. So a caller's function is traced once for
each length of cut, and every traced value that it closes over becomes an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from revrnn.errors import RevRNNError

from .flat import has_line
from .meshes import on_explicit_axes
from .status import is_array_or_number, is_concrete

Tree = Any
# Effects on a reference that is not of the function's own, by the names of JAX's types.
_WRITES = ("WriteEffect", "AccumEffect")


class Hoisted:
    """A caller's function, free of traced values; called with those it closed over."""

    def __init__(
        self, name: str, function: Callable[..., Tree], examples: Sequence[tuple[Tree, ...]]
    ) -> None:
        """Trace ``function``, the caller's argument ``name``, for arguments like each example.

        What it closes over is in :attr:`values` until they are taken by :func:`hoist`.
        """
        self.name = name
        self.values: list[jax.Array] = []
        self.programs = {_key(example): self._trace(function, example) for example in examples}

    def _trace(self, function: Callable[..., Tree], example: tuple[Tree, ...]) -> _Program:
        # JAX remembers by the function what it traced; this one is new, so nothing is remembered.
        # What JAX says of it, of a Python `if` for instance, is said of the caller's.
        @wraps(function)
        def anew(*arguments: Tree) -> Tree:
            made = function(*arguments)
            for leaf in jax.tree.leaves(made):
                if not is_array_or_number(leaf):
                    raise RevRNNError("E_DTYPE", self.name, f"a {type(leaf).__name__}", "an array")
            return made

        closed, shapes = _traced(anew, example)
        if any(type(effect).__name__ in _WRITES for effect in closed.effects):
            given, allowed = "a function that writes to what jax.new_ref made", "a pure function"
            raise RevRNNError("E_UNSUPPORTED", self.name, given, allowed)
        if has_line(closed.jaxpr, _asks_host):
            given = "an io_callback with a result"
            allowed = "jax.pure_callback; an io_callback whose result_shape_dtypes is None"
            raise RevRNNError("E_UNSUPPORTED", self.name, given, allowed)
        places = [self._place(value) for value in closed.consts]
        consts = [None if p is not None else c for p, c in zip(places, closed.consts, strict=True)]
        return _Program(closed.jaxpr, consts, places, shapes)

    def _place(self, value: Any) -> int | None:
        """Return a value's number among those hoisted, or ``None`` if it is no traced one."""
        if is_concrete(value):
            return None
        for place, other in enumerate(self.values):
            if other is value:
                return place
        self.values.append(value)
        return len(self.values) - 1

    def shapes(self, *arguments: Tree) -> Tree:
        """Return the shapes and types of what is returned for such arguments."""
        return self.programs[_key(arguments)].shapes

    def __call__(self, values: Sequence[jax.Array], *arguments: Tree) -> Tree:
        """Call the function as if it had closed over ``values``."""
        program = self.programs[_key(arguments)]
        consts = [
            const if place is None else values[place]
            for const, place in zip(program.consts, program.places, strict=True)
        ]
        run = jaxpr_as_fun(ClosedJaxpr(program.jaxpr, consts))
        results = run(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(program.shapes), results)


def _asks_host(line: Any) -> bool:
    """Say whether a line has a result of ``io_callback``, which may be another at each call.

    ``embed`` is called again on the way back, and both are tried with random numbers.
    """
    return line.primitive.name == "io_callback" and bool(line.outvars)


def _traced(function: Callable[..., Tree], example: tuple[Tree, ...]) -> tuple[Any, Tree]:
    """Return a function's program, and the shapes of its results."""
    try:
        return jax.make_jaxpr(function, return_shape=True)(*example)
    except ValueError:
        explicit = on_explicit_axes(function)
        if explicit is None:
            raise
        # It closes over arrays with explicit axes, which automatic ones cannot be mixed with.
        return jax.make_jaxpr(explicit, return_shape=True)(*example)


@dataclass(frozen=True)
class _Program:
    """A traced function: its constants, or their places among the hoisted values."""

    jaxpr: Any
    consts: list[Any]
    places: list[int | None]
    shapes: Tree


def hoist(
    name: str, function: Callable[..., Tree], examples: Sequence[tuple[Tree, ...]]
) -> tuple[Hoisted, tuple[jax.Array, ...]]:
    """Return ``function`` without traced values in it, and those it closed over."""
    made = Hoisted(name, function, examples)
    values, made.values = tuple(made.values), []
    return made, values


def _key(arguments: tuple[Tree, ...]) -> tuple[Any, ...]:
    return tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(arguments))


def is_float(leaf: Any) -> bool:
    """Say whether an array's elements are such that one can differentiate by them."""
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def wanted_of(tree: Tree) -> tuple[bool, ...]:
    """Return which leaves are differentiated by, given those of a derivative's forward rule."""
    leaves = jax.tree.leaves(tree, is_leaf=_is_primal)
    return tuple(bool(leaf.perturbed) and is_float(leaf.value) for leaf in leaves)


def primals_of(tree: Tree) -> Tree:
    """Return the values of leaves of a derivative's forward rule."""
    return jax.tree.map(lambda leaf: leaf.value, tree, is_leaf=_is_primal)


def _is_primal(leaf: Any) -> bool:
    return hasattr(leaf, "perturbed")


def divide(tree: Tree, chosen: Sequence[bool]) -> tuple[Tree, Tree]:
    """Return a tree's chosen leaves, and the others; ``None`` stands where a leaf is not."""
    leaves, structure = jax.tree.flatten(tree)
    paired = list(zip(leaves, chosen, strict=True))
    first = [leaf if yes else None for leaf, yes in paired]
    second = [None if yes else leaf for leaf, yes in paired]
    return jax.tree.unflatten(structure, first), jax.tree.unflatten(structure, second)


def unite(first: Tree, second: Tree) -> Tree:
    """Return the tree that :func:`divide` divided."""
    return jax.tree.map(lambda a, b: b if a is None else a, first, second, is_leaf=_is_none)


def _is_none(leaf: Any) -> bool:
    return leaf is None
