"""A part of a program in two forms, of which lowering takes one.

A compiled call (:mod:`.native`) belongs to a process and its processor. What ``jax.export`` keeps,
and what is lowered for another device, has to do without: there the part's other form is taken,
which is traced only then. Both give the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from revrnn.errors import RevRNNError

from .x64 import with_x64

Tree = Any
Flat = Callable[..., Sequence[Any]]

_either: Any = Primitive("revrnn_either")
_either.multiple_results = True


def either(
    here: Callable[..., Tree], elsewhere: Callable[..., Tree] | None, *arguments: Tree
) -> Tree:
    """Return ``here(*arguments)``; in programs for elsewhere what ``elsewhere`` makes of them.

    Args:
        here: a function of pytrees of arrays.
        elsewhere: one that takes, before these, the shapes and types of what ``here`` returns, and
            returns the same; ``None`` if a program for elsewhere is an error.
        arguments: theirs.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` while lowering, if there is nothing for elsewhere; while
            tracing, if the result is differentiated (GRAD-022).
    """
    leaves, structure = jax.tree.flatten(arguments)

    def flat(*leaves: Any) -> Tree:
        return here(*jax.tree.unflatten(structure, leaves))

    program, like = jax.make_jaxpr(flat, return_shape=True)(*leaves)

    def other(*leaves: Any) -> list[Any]:
        assert elsewhere is not None
        return jax.tree.leaves(elsewhere(like, *jax.tree.unflatten(structure, leaves)))

    made = _either.bind(*leaves, here=program, elsewhere=None if elsewhere is None else other)
    return jax.tree.unflatten(jax.tree.structure(like), made)


def zeros(like: Tree) -> Tree:
    """Return zeros of shapes and types."""
    return jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), like)


def _run(*leaves: Any, here: ClosedJaxpr, elsewhere: Flat | None) -> Any:
    return with_x64(jaxpr_as_fun(here))(*leaves)


def _shapes(*_: Any, here: ClosedJaxpr, elsewhere: Flat | None) -> Any:
    return here.out_avals


def _lower(context: Any, *values: Any, here: ClosedJaxpr, elsewhere: Flat | None) -> Any:
    function: Flat | None = jaxpr_as_fun(here)
    if not stays_here(context.module_context):
        function = elsewhere
    if function is None:
        allowed = "set_engine('auto') or 'scan' for jax.export, and for other devices"
        raise RevRNNError("E_UNSUPPORTED", "engine", "'native'", allowed)
    return mlir.lower_fun(with_x64(function), multiple_results=True)(context, *values)


def stays_here(module: Any) -> bool:
    """Say whether a program that is being lowered is for this process and its processor."""
    exported = getattr(getattr(module, "lowering_parameters", None), "for_export", True)
    return not exported and tuple(module.platforms) == ("cpu",)


def export_is_seen() -> bool:
    """Say whether lowering is told by this version of JAX what it is for."""

    def wave(angle: jax.Array) -> jax.Array:
        either_wave: jax.Array = either(jnp.sin, lambda _, angle: jnp.cos(angle), angle)
        return either_wave

    jitted, angle = jax.jit(wave), jnp.float32(0)
    kept: str = export.export(jitted)(angle).mlir_module()
    return "cosine" in kept and "cosine" not in jitted.lower(angle).as_text()


def _batch(leaves: Any, axes: Any, here: ClosedJaxpr, elsewhere: Flat | None) -> Any:
    def over(function: Flat) -> Flat:
        return with_x64(jax.vmap(function, in_axes=tuple(axes)))

    program = jax.make_jaxpr(over(jaxpr_as_fun(here)))(*leaves)
    other = None if elsewhere is None else over(elsewhere)
    made = _either.bind(*leaves, here=program, elsewhere=other)
    return made, (0,) * len(made)


def refuse_derivative(*_: Any, **__: Any) -> Any:
    """Raise ``E_UNSUPPORTED``: what is inside a gradient has no derivative (GRAD-022)."""
    raise RevRNNError("E_UNSUPPORTED", "apply", "the derivative of a gradient", "first derivatives")


_either.def_impl(_run)
_either.def_abstract_eval(_shapes)
mlir.register_lowering(_either, _lower)
batching.primitive_batchers[_either] = _batch
ad.primitive_jvps[_either] = refuse_derivative
