"""What readouts return, and how the losses of chunks become that of the sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from revrnn.errors import RevRNNError

from .apart import settled
from .averages import Average, average_of
from .closures import Hoisted
from .flat import STEPS
from .pairs import are_sums
from .readout import LinearCrossEntropy
from .status import NONFINITE, flag

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
        average: how a scalar that the caller's readout gives is made.
        linear: the readout itself, if it is computed in place (:mod:`.in_place`); ``readout`` then
            takes the outer parameters alone too, and gives the parts of its layer.
    """

    readout: Hoisted
    steps: int
    mean: bool
    counts: bool
    average: Average
    linear: LinearCrossEntropy | None = None

    def __call__(self, values: Values, outer: Tree, outputs: jax.Array, targets: Tree) -> Sums:
        """Return a chunk's sum and count, from outputs ``[C, B, H]``."""
        result = self.readout(values, outer, outputs, targets)
        if self.counts:
            total, count = (jnp.asarray(value).astype(jnp.float32) for value in result[:2])
            return total, count
        # A readout may return Python's number, which has no type of its own.
        total = jnp.asarray(result)
        if self.mean and self.average.kind != "sum":
            total = total * (len(outputs) / self.steps)
        return total.astype(jnp.float32), jnp.float32(0)

    def beside(self, values: Values, outer: Tree, outputs: jax.Array, targets: Tree) -> jax.Array:
        """Return what is added to the loss, if the readout has anything beside its ratio."""
        made: jax.Array = self.readout(values, outer, outputs, targets)[2].astype(jnp.float32)
        return made

    @property
    def divides(self) -> bool:
        """Whether the sum is divided by the count, in the end."""
        return self.counts and self.mean

    def divisor(self, count: jax.Array) -> jax.Array:
        """Return what the sum is divided by, of what counts in all chunks."""
        return self.average.finish(count, self.steps)

    def loss(self, total: jax.Array, count: jax.Array) -> jax.Array:
        """Return the loss of the sequence; without anything that counts it is NaN, 0/0."""
        return total / self.divisor(count) if self.divides else total

    def fault(self, total: jax.Array, count: jax.Array) -> jax.Array:
        """Return the fault of a sum that is NaN; of nothing that counts 0/0 is none."""
        wrong = jnp.isnan(total) | ~jnp.isfinite(count)
        return flag(wrong & (count != 0) if self.divides else wrong, NONFINITE)


def reader_of(
    readout: Hoisted,
    example: tuple[Tree, ...],
    steps: int,
    mean: bool,
    to_train: bool,
    average: Average,
) -> Reader:
    """Return a readout as a :class:`Reader`.

    Raises:
        RevRNNError: ``E_SHAPE`` or ``E_DTYPE`` if it returns neither a real scalar nor two; to
            train, the first must be a float.
    """
    result = readout.shapes(*example)
    result = result[:2] if average.beside else result
    counts = isinstance(result, (tuple, list)) and len(result) == 2
    inside = [type(part).__name__ for part in result if _is_tree(part)] if counts else []
    if inside:
        raise RevRNNError("E_SHAPE", "readout", f"a pair with a {inside[0]}", _ALLOWED)
    leaves = jax.tree.leaves(result)
    shapes = [list(leaf.shape) for leaf in leaves]
    if len(leaves) != (2 if counts else 1) or any(shapes) or (len(leaves) == 1) == counts:
        given = f"shapes {shapes}" if shapes else "nothing"
        raise RevRNNError("E_SHAPE", "readout", given, _ALLOWED)
    if not counts and not jax.tree_util.treedef_is_leaf(jax.tree.structure(result)):
        raise RevRNNError("E_SHAPE", "readout", f"a {type(result).__name__}", _ALLOWED)
    for leaf in leaves:
        floats = leaf is leaves[0] and to_train
        if not _is_real(leaf.dtype) or (floats and not jnp.issubdtype(leaf.dtype, jnp.floating)):
            allowed = "a float loss" if floats else "real numbers"
            raise RevRNNError("E_DTYPE", "readout", f"elements of {leaf.dtype}", allowed)
    return Reader(readout, steps, mean, counts, average)


def average_of_scalar(
    readout: Hoisted,
    function: Callable[..., Tree],
    example: tuple[Tree, ...],
    steps: int,
    mean: bool,
) -> Average:
    """Return how a readout's scalar is made, if it gives one and there are several chunks.

    Args:
        readout: as it was traced.
        function: of outer parameters, outputs and targets, that ``readout`` was traced from.
        example: arguments like those of the largest chunk.
        steps: T.
        mean: whether the loss is a mean.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if a scalar is known to be neither a mean nor a sum over steps,
            or made of steps that depend on one another.
    """
    outer, outputs, targets = example
    made = readout.shapes(*example)
    results = jax.tree.leaves(made)
    # The loss of one chunk is the sequence's; what is no scalar or pair is refused later, by name.
    parts = made if isinstance(made, (tuple, list)) else (made,)
    plain = all(not leaf.shape and _is_real(leaf.dtype) for leaf in results)
    if steps == len(outputs) or len(parts) not in (1, 2) or any(map(_is_tree, parts)) or not plain:
        return Average("unknown")

    def longer(tree: Tree) -> Tree:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((STEPS, *a.shape[1:]), a.dtype), tree)

    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), outer)
    longest = like, longer(outputs), longer(targets)
    average = average_of(function, *longest, others=(len(outputs), steps % len(outputs), steps))
    sums = are_sums(function, longest, example) if mean and len(parts) == 2 else True
    if sums is False:
        given = "a pair of which one is a mean, a number or another that is no sum over steps"
        allowed = "(sum, count), both added up over steps; a scalar; a chunk_size of all steps"
        raise RevRNNError("E_ARGUMENT", "readout", given, allowed)
    if average.kind == "other":
        given = "a scalar that is neither a mean nor a sum over steps, for several chunks"
        allowed = (
            "a mean or a sum over steps, or (sum, count); with several counts a sum of losses times"
            " weights that are among the targets and were divided by their sum before,"
            " mask / mask.sum()"
        )
        raise RevRNNError("E_ARGUMENT", "readout", given, allowed)
    if average.kind == "mixed":
        given = "a scalar of steps that depend on one another, for several chunks"
        allowed = "one in which each step counts by itself, a chunk_size of all steps, (sum, count)"
        raise RevRNNError("E_ARGUMENT", "readout", given, allowed)
    doubt = average.doubt or sums is None
    return settled(average, function, (like, outputs, targets), steps, mean) if doubt else average


def _is_tree(part: Any) -> bool:
    return not jax.tree_util.treedef_is_leaf(jax.tree.structure(part))


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
