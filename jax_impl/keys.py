"""Keys of ``jax.random`` among a caller's data, gone through as plain numbers.

A cut of the steps is handled more than once, while tracing, forwards and back. That is no second
use of a key: what is drawn is the same. ``jax_debug_key_reuse`` would take it for one, so keys are
made anew of their numbers for each call of the caller's function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any


class Keys:
    """Where keys stand among a tree's leaves, and of which kind they are."""

    def __init__(self, tree: Tree) -> None:
        """Look for keys."""
        leaves, self._structure = jax.tree.flatten(tree)
        self._kinds = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]

    def numbers(self, tree: Tree) -> Tree:
        """Return the tree with the numbers of keys, uint32, in their place."""
        return self._changed(tree, lambda key, _: jax.random.key_data(key))

    def keys(self, tree: Tree) -> Tree:
        """Return a tree of numbers, or of cuts of them, with keys again."""
        return self._changed(tree, lambda data, kind: jax.random.wrap_key_data(data, impl=kind))

    def _changed(self, tree: Tree, change: Callable[[Any, Any], Any]) -> Tree:
        pairs = zip(jax.tree.leaves(tree), self._kinds, strict=True)
        leaves = [leaf if kind is None else change(leaf, kind) for leaf, kind in pairs]
        return jax.tree.unflatten(self._structure, leaves)


def with_keys(function: Callable[..., Tree], *places: Keys | None) -> Callable[..., Tree]:
    """Return ``function`` of numbers, given keys in their places; ``None`` for no keys."""

    @wraps(function)
    def called(*arguments: Tree) -> Tree:
        pairs = zip(places, arguments, strict=True)
        return function(*(given if at is None else at.keys(given) for at, given in pairs))

    return called


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
