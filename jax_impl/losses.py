"""What readouts return, and how the losses of chunks become that of the sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from revrnn.errors import RevRNNError

from .closures import Hoisted

Tree = Any
Values = tuple[jax.Array, ...]
# A chunk's, or the sequence's, losses added up, and what they are to be divided by, float32.
Sums = tuple[jax.Array, jax.Array]

_ALLOWED = "a scalar, or (sum, count), two scalars"


@dataclass(frozen=True, eq=False)
class Reader:
    """A readout whose results add up.

    Attributes:
        readout: the caller's function.
        steps: T.
        mean: whether the loss is a mean.
        counts: whether the readout gives ``(sum, count)``.
    """

    readout: Hoisted
    steps: int
    mean: bool
    counts: bool

    def __call__(self, values: Values, outer: Tree, outputs: jax.Array, targets: Tree) -> Sums:
        """Return a chunk's sum and count, from outputs ``[C, B, H]``."""
        found = self.readout(values, outer, outputs, targets)
        if self.counts:
            total, count = (jnp.asarray(value).astype(jnp.float32) for value in found)
            return total, count
        # A readout may return Python's number, which has no type of its own.
        total = jnp.asarray(found)
        if self.mean:
            total = total * (len(outputs) / self.steps)
        return total.astype(jnp.float32), jnp.float32(0)

    @property
    def divides(self) -> bool:
        """Whether the sum is divided by the count, in the end."""
        return self.counts and self.mean

    def loss(self, total: jax.Array, count: jax.Array) -> jax.Array:
        """Return the loss of the sequence; without anything that counts it is NaN, 0/0."""
        return total / count if self.divides else total


def reader_of(
    readout: Hoisted, example: tuple[Tree, ...], steps: int, mean: bool, to_train: bool
) -> Reader:
    """Return a readout as a :class:`Reader`.

    Raises:
        RevRNNError: ``E_SHAPE`` or ``E_DTYPE`` if it returns neither a real scalar nor two; to
            train, the first must be a float.
    """
    found = readout.shapes(*example)
    counts = isinstance(found, (tuple, list)) and len(found) == 2
    leaves = jax.tree.leaves(found)
    shapes = [list(leaf.shape) for leaf in leaves]
    if len(leaves) != (2 if counts else 1) or any(shapes) or (len(leaves) == 1) == counts:
        given = f"shapes {shapes}" if shapes else "nothing"
        raise RevRNNError("E_SHAPE", "readout", given, _ALLOWED)
    if not counts and not jax.tree_util.treedef_is_leaf(jax.tree.structure(found)):
        raise RevRNNError("E_SHAPE", "readout", f"a {type(found).__name__}", _ALLOWED)
    for leaf in leaves:
        floats = leaf is leaves[0] and to_train
        if not _is_real(leaf.dtype) or (floats and not jnp.issubdtype(leaf.dtype, jnp.floating)):
            allowed = "a float loss" if floats else "real numbers"
            raise RevRNNError("E_DTYPE", "readout", f"elements of {leaf.dtype}", allowed)
    return Reader(readout, steps, mean, counts)


def _is_real(dtype: Any) -> bool:
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def count_varies(read: Callable[..., Sums], *arguments: Tree) -> bool:
    """Say whether the count of ``read(*arguments)`` has a derivative by any of the arguments."""
    varies = []

    @jax.custom_jvp
    def probe(count: jax.Array) -> jax.Array:
        return count

    def rule(primals: tuple[jax.Array], tangents: tuple[Any]) -> tuple[jax.Array, Any]:
        varies.append(not isinstance(tangents[0], SymbolicZero))
        return primals[0], tangents[0]

    probe.defjvp(rule, symbolic_zeros=True)

    def count(*arguments: Tree) -> jax.Array:
        return probe(read(*arguments)[1])

    jax.eval_shape(lambda *given: jax.vjp(count, *given)[0], *arguments)
    return any(varies)
