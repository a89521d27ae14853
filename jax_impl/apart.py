"""Whether a readout gives of a chunk what it gives of parts of it together, tried with numbers.

It does not if steps depend on one another. Where the program leaves a doubt
(:func:`.mixing.may_mix`), the readout, a pure function, is computed of random numbers: of five
steps, and of two and three of them. That happens once, while tracing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.errors import RevRNNError

from .averages import Average, as_pair
from .closures import Hoisted

Tree = Any
_STEPS: Final = 5
# What may be added to a count, or be its least: of all chunks it changes nothing to be measured.
TINY: Final = 1e-5
CUTS: Final = (slice(0, 2), slice(2, 5))


def settled(
    average: Average, function: Callable[..., Tree], like: tuple[Tree, ...], mean: bool
) -> Average:
    """Return what a scalar is, if numbers show it; ``average`` if they cannot.

    Args:
        average: what the program shows.
        function: of outer parameters, outputs and targets.
        like: arguments, of which only types and shapes after the steps matter.
        mean: whether the loss is a mean.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if the results of parts do not make up that of the whole.
    """
    ratio = average.kind == "ratio"
    call = as_pair(function, average) if ratio else function
    outer, *by_step = like
    outer = numbers_of(outer, None, 0)
    by_step = [numbers_of(tree, _STEPS, seed) for seed, tree in enumerate(by_step, 1)]
    whole = result_of(call, (outer, *by_step))
    if whole is None:
        return average
    parts = [result_of(call, (outer, *(cut_of(tree, cut) for tree in by_step))) for cut in CUTS]
    if None in parts:
        raise _error()
    low = any(
        leaf.dtype.itemsize < 4 for leaf in jax.tree.leaves(by_step) if leaf.dtype.kind == "f"
    )
    share = 0.05 if low else 1e-3
    values = [whole, *parts]
    if not np.isfinite([np.abs(v).max() for v in values]).all():
        return average
    if len(whole) == 2 or ratio:
        if not all(_close(whole[k], sum(p[k] for p in parts), parts, k, share) for k in (0, 1)):
            raise _error()
        nothing = result_of(call, (outer, *(cut_of(tree, slice(0, 0)) for tree in by_step)))
        if not ratio and nothing is not None and any(abs(one) > TINY for one in nothing):
            raise _error()
        return average
    shares = [(cut.stop - cut.start) / _STEPS for cut in CUTS]
    weighed = sum(part[0] * of for part, of in zip(parts, shares, strict=True))
    is_mean = _close(whole[0], weighed, parts, 0, share)
    is_sum = _close(whole[0], sum(part[0] for part in parts), parts, 0, share)
    if not (is_sum if average.kind == "sum" else is_mean or (average.kind == "unknown" and is_sum)):
        raise _error()
    # Losses that do not depend on the numbers, 0 for instance, are both.
    return replace(average, kind="sum") if mean and is_sum and not is_mean else average


def _error() -> RevRNNError:
    given = "a loss of steps that depend on one another, or neither a mean nor a sum over steps"
    allowed = (
        "one in which each step counts by itself, (sum, count) of such, a chunk_size of all steps"
    )
    return RevRNNError("E_ARGUMENT", "readout", given, allowed)


def _close(whole: Any, put_together: Any, parts: list[Any], k: int, share: float) -> bool:
    largest = max(abs(float(whole)), *(abs(float(part[k])) for part in parts))
    return abs(float(whole) - float(put_together)) <= share * largest


def numbers_of(tree: Tree, steps: int | None, seed: int) -> Tree:
    """Return random numbers of the types and shapes of a tree, with so many steps."""
    random = np.random.default_rng(seed)

    def drawn(leaf: Any) -> Any:
        shape = tuple(jnp.shape(leaf))
        shape = shape if steps is None else (steps, *shape[1:])
        dtype = jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.inexact):
            return random.normal(size=shape).astype(dtype)
        if dtype == jnp.uint32:  # the numbers of keys
            return random.integers(2**32, size=shape, dtype=np.uint32)
        return random.integers(2, size=shape).astype(dtype)

    return jax.tree.map(drawn, tree)


def cut_of(tree: Tree, cut: slice) -> Tree:
    """Return some steps of all arrays."""
    return jax.tree.map(lambda leaf: leaf[cut], tree)


def result_of(function: Callable[..., Tree], arguments: tuple[Tree, ...]) -> Any:
    """Return a result's numbers; ``None`` if it cannot be computed of these."""
    try:
        made = Hoisted("readout", function, [arguments])
        values, made.values = numbers_of(made.values, None, 9), []
        with jax.ensure_compile_time_eval():
            result = jax.jit(made.__call__)(values, *arguments)
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(result)]
    except Exception:
        return None
