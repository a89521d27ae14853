"""What training in JAX shares: pytrees in checkpoints."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .runs import Arrays, prefixed, without_prefix

Tree = Any


def tree_arrays(name: str, tree: Tree) -> Arrays:
    """Return a copy of a pytree's leaves, named ``name/0``, ``name/1`` and so on."""
    return prefixed(name, {str(i): np.array(v) for i, v in enumerate(jax.tree.leaves(tree))})


def tree_from(name: str, arrays: Arrays, like: Tree) -> Tree:
    """Return the pytree that :func:`tree_arrays` took apart, of the structure of ``like``."""
    own = without_prefix(name, arrays)
    leaves = [jnp.array(own[str(i)]) for i in range(len(own))]
    for number, (leaf, wanted) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True)):
        if leaf.shape != jnp.shape(wanted):
            raise ValueError(f"{name}/{number} of shape {leaf.shape}, not {jnp.shape(wanted)}")
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def updated(params: Tree, changes: Tree, learning_rate: jax.Array) -> Tree:
    """Return parameters after an update; the learning rate is no constant of the program."""
    return jax.tree.map(lambda p, c: p - learning_rate * c, params, changes)
