"""Random numbers in the place of what a function is given, and what is computed of them.

Whether steps depend on one another is tried with them (:mod:`.apart`, :mod:`.embedded`), once,
while tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .closures import Hoisted
from .flat import flat_program, still

Tree = Any
STEPS_DRAWN: Final = 5
# The second part begins at an even step, then at an odd one: every other step shows itself.
CUTS: Final = (slice(0, 2), slice(2, 5))
ODD_CUTS: Final = (slice(0, 3), slice(3, 5))
_ONE_CUTS: Final = (slice(0, 4), slice(4, 5))
# Elements of the largest array that is made for a trial of more steps.
_LARGEST: Final = 1 << 22


class Draw(NamedTuple):
    """How numbers are drawn.

    Attributes:
        seed: each draw has its own.
        whole: whole numbers, of which those are drawn that a type holds.
        share: how many truth values are true.
        cuts: the parts that the steps are cut into.
    """

    seed: int = 0
    whole: tuple[int, ...] = (0, 1)
    share: float = 0.5
    cuts: tuple[slice, slice] = CUTS

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return int(self.cuts[1].stop)


def in_full(
    function: Callable[..., Tree], outer: Tree, by_step: Tree, steps: int, chunk: int
) -> list[Draw]:
    """Return draws of the lengths that there are: all steps, of which a chunk is the first part.

    What begins at the sixth step, or changes with it, does not show in five. There is no such draw
    if there are hardly more steps, or if fewer would have to do, not to need much memory. Where a
    chunk has one step, another draw has such a part.

    Args:
        function: of ``outer`` and of what has steps.
        outer: arrays, of which only types and shapes matter.
        by_step: arguments, of which only types and shapes after the steps matter.
        steps: how many there are.
        chunk: steps of a chunk.
    """
    like = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((steps, *jnp.shape(a)[1:]), jnp.result_type(a)), by_step
    )
    try:
        lines = flat_program(function, (outer, *like)).jaxpr.eqns
    except Exception:  # it takes no other number of steps
        return []
    one = 1 in (chunk, steps % chunk)
    shapes = [v.aval.shape for line in lines for v in line.outvars]
    shapes += [leaf.shape for leaf in jax.tree.leaves(like)]
    largest = max(prod(shape) for shape in shapes if any(size % steps == 0 for size in shape))
    steps = min(steps, steps * _LARGEST // max(largest, 1))
    enough = steps > max(chunk, 2 * STEPS_DRAWN)
    draws = [Draw(40, cuts=(slice(0, chunk), slice(chunk, steps)))] if enough else []
    return [Draw(50, cuts=_ONE_CUTS), *draws] if one else draws


def numbers_of(tree: Tree, steps: int | None, seed: int, draw: Draw) -> Tree:
    """Return random numbers of the types and shapes of a tree, with so many steps."""
    random = np.random.default_rng(draw.seed + seed)

    def drawn(leaf: Any) -> Any:
        shape = tuple(jnp.shape(leaf))
        shape = shape if steps is None else (steps, *shape[1:])
        dtype = jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.inexact):
            return random.normal(size=shape).astype(dtype)
        if dtype == jnp.uint32:  # the numbers of keys
            return random.integers(2**32, size=shape, dtype=np.uint32)
        if dtype == jnp.bool_:
            return random.random(shape) < draw.share
        signed = jnp.issubdtype(dtype, jnp.signedinteger)
        held = [number for number in draw.whole if number >= 0 or signed]
        return random.choice(held, size=shape).astype(dtype)

    return jax.tree.map(drawn, tree)


def cut_of(tree: Tree, cut: slice) -> Tree:
    """Return some steps of all arrays."""
    return jax.tree.map(lambda leaf: leaf[cut], tree)


def without(tree: Tree, cut: slice) -> Tree:
    """Return arrays of numbers with zeros in some steps, where nothing counts then."""

    def one(leaf: Any) -> Any:
        leaf = leaf.copy()
        leaf[cut] = 0
        return leaf

    return jax.tree.map(one, tree)


def is_low(tree: Tree) -> bool:
    """Say whether any floats have fewer bits than float32."""
    return any(
        leaf.dtype.itemsize < 4
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    )


class Computed:
    """What a function gives for numbers; it is compiled once for each number of steps.

    What it draws at random is the same everywhere: zero bits, of which dropout drops nothing.
    """

    def __init__(self, function: Callable[..., Tree]) -> None:
        """Compile nothing yet."""
        self._function, self._made = still(function), dict[Any, Any]()

    def __call__(self, *arguments: Tree) -> Any:
        """Return the numbers of all results; ``None`` if they cannot be computed of these."""
        shapes = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(arguments))
        try:
            if shapes not in self._made:
                made = Hoisted("readout", self._function, [arguments])
                values, made.values = numbers_of(made.values, None, 9, Draw()), []
                # Traced before the numbers are looked at: what jax.new_ref made would lose its own.
                lowered = jax.jit(made.__call__, keep_unused=True).lower(values, *arguments)
                self._made[shapes] = lowered.compile(), values
            run, values = self._made[shapes]
            with jax.ensure_compile_time_eval():
                result = run(values, *arguments)
            return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(result)]
        except Exception:
            return None
