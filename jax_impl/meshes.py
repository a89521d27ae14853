"""Arrays sharded over explicit axes of a mesh, ``jax.make_mesh``'s default.

There JAX carries the sharding of every array in its type and wants that of results said. Inside,
all axes are automatic: the compiler finds the shardings, and rows stay where they are. The types at
the door are the caller's again: what has a batch is sharded over it as the inputs are, gradients
are sharded as what they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

from revrnn.config import Config

from .state import State

Tree = Any
R = TypeVar("R")
# The mesh axes over which the batch is sharded: a name, several, or none.
Rows = Any

# The axes that are being traced as automatic ones.
_made_automatic: ContextVar[tuple[str, ...]] = ContextVar("_made_automatic", default=())


def on_automatic_axes(
    function: Callable[[Tree], R],
    given: Tree,
    batches: Sequence[tuple[Any, int]],
    specs: Callable[[Rows], Tree],
) -> R:
    """Return ``function(given)``, on a mesh with explicit axes computed with automatic ones.

    Args:
        function: hashable, of arrays; what was compiled is remembered by it.
        given: a pytree of arrays.
        batches: arrays that have a batch, or ``None``, each with its axis: the first that is
            sharded says how.
        specs: from the batch's mesh axes to the results' :class:`PartitionSpec`, in a tree of the
            structure of what ``function`` returns.
    """
    mesh = explicit_mesh(given)
    if mesh is None:
        return function(given)
    rows = next((part for v, axis in batches if (part := _part(v, axis)) is not None), None)
    shardings = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs(rows),
        is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
    )
    leaves, structure = jax.tree.flatten(shardings)
    results: R = _call(function, tuple(leaves), structure, given)
    return results


@partial(jax.jit, static_argnums=(0, 1, 2))
def _call(function: Callable[[Tree], Tree], leaves: Any, structure: Any, given: Tree) -> Tree:
    axes = leaves[0].mesh.explicit_axes
    shardings = jax.tree.unflatten(structure, leaves)
    token = _made_automatic.set(axes)
    try:
        return jax.sharding.auto_axes(function, axes=axes, out_sharding=shardings)(given)
    finally:
        _made_automatic.reset(token)


def on_explicit_axes(function: Callable[..., Tree]) -> Callable[..., Tree] | None:
    """Return ``function`` computed with explicit axes inside :func:`on_automatic_axes`.

    Its arguments are gathered first. It is ``None`` where no axes have been made automatic.
    """
    axes = _made_automatic.get()
    if not axes:
        return None

    def explicit(*arguments: Tree) -> Tree:
        whole = jax.tree.map(lambda _: PartitionSpec(), arguments)
        wrapped = jax.sharding.explicit_axes(function, axes=axes, in_sharding=whole)
        results: Tree = wrapped(*arguments)
        return results

    return explicit


def batches_of(
    hx: tuple[jax.Array, ...] | None,
    state: State | None,
    mask: jax.Array | None,
    gains: jax.Array | None,
    resets: jax.Array | None,
) -> list[tuple[Any, int]]:
    """Return arrays of a call that have a batch, and which axis it is."""
    first_h = hx[0] if hx else None if state is None else state.h
    return [(mask, 1), (first_h, 1), (gains, 2), (resets, 1)]


def state_specs(config: Config, rows: Rows) -> Any:
    """Return how a state is sharded whose batch is sharded over ``rows``, as a :class:`State`."""
    by_layer: Any = PartitionSpec(None, rows)
    heads: Any = PartitionSpec(rows)
    c = by_layer if config.has_cell_state else None
    return State(by_layer, c, heads if config.forgetting else None)


def spec_of(leaf: Any) -> PartitionSpec:
    """Return the sharding that is part of an array's type."""
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    return PartitionSpec() if sharding is None else sharding.spec


def _part(value: Any, axis: int) -> Rows:
    spec = () if value is None else tuple(spec_of(value))
    return spec[axis] if len(spec) > axis else None


def explicit_mesh(tree: Tree) -> Any:
    """Return the mesh with explicit axes on which an array of ``tree`` lies, or ``None``."""
    for leaf in jax.tree.leaves(tree):
        mesh = getattr(getattr(jax.typeof(leaf), "sharding", None), "mesh", None)
        if getattr(mesh, "explicit_axes", ()):
            return mesh
    return None
