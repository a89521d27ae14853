"""Whether a readout gives of a chunk what it gives of parts of it together, tried with numbers.

It does not if steps depend on one another. Where the program leaves a doubt
(:func:`.mixing.may_mix`), the readout, a pure function, is computed of random numbers: of five
steps, and of two and three of them; of as many as the sequence has, a chunk and the rest of them.
That happens once, while tracing, with several draws, since of some numbers a mean, a sum and what
is neither are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.errors import RevRNNError

from .averages import Average
from .draws import (
    ODD_CUTS,
    STEPS_DRAWN,
    Computed,
    Draw,
    cut_of,
    in_full,
    is_low,
    numbers_of,
    without,
)
from .flat import STEPS, flattened
from .lengths import Lengths
from .mixing import counts_places
from .ratios import as_pair

Tree = Any
# What may be added to a count, or be its least: of all chunks it changes nothing to be measured.
TINY: Final = 1e-5
# Masks that leave out a part, more classes, labels to be ignored.
_DRAWS: Final = [Draw(0), Draw(10, (0, 1, 2), 0.9, ODD_CUTS), Draw(20, (-100, -1, 0, 1))]
# And a first part in which nothing counts, as in a chunk of padding.
_PADDED: Final = Draw(30, (1, 2), 0.9)
# Larger whole numbers, where of the others nothing counts: of steps after the fifth for instance.
_LARGER: Final = [Draw(seed, (3, 9, 70, 5000), 0.9, ODD_CUTS) for seed in (50, 60, 70)]


def settled(
    average: Average, function: Callable[..., Tree], like: tuple[Tree, ...], steps: int, mean: bool
) -> Average:
    """Return what a scalar is, if numbers show it; ``average`` if they cannot.

    Args:
        average: what the program shows.
        function: of outer parameters, outputs and targets.
        like: arguments like those of a chunk, of which only types and shapes matter.
        steps: of the sequence.
        mean: whether the loss is a mean.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if the results of parts do not make up that of the whole.
    """
    ratio = average.kind == "ratio"
    call = Computed(as_pair(function, average) if ratio else function)
    plain = Computed(function)
    sums = means = True
    outer = numbers_of(like[0], None, 0, Draw())
    full = in_full(function, like[0], like[1:], steps, len(like[1]))
    tried = max(2 * STEPS_DRAWN, *(draw.steps for draw in (*full, _PADDED)))
    if tried < steps and _bends(function, like, steps):
        raise _error()
    finite = shown = False
    for draw in (*full, *_DRAWS, _PADDED, *_LARGER):
        if draw in _LARGER and shown:
            continue
        outputs, targets = (numbers_of(t, draw.steps, k, draw) for k, t in enumerate(like[1:], 1))
        targets = without(targets, draw.cuts[0]) if draw == _PADDED else targets
        given = [cut_of((outputs, targets), cut) for cut in (slice(None), *draw.cuts)]
        values = [call(outer, *by_step) for by_step in given]
        whole, *parts = values
        if whole is None and draw in full:
            continue
        if whole is None:
            if average.kind == "unknown" and _is_scalar(function, like):
                unknown = "a scalar that does not show what it is, and cannot be tried with numbers"
                raise RevRNNError("E_ARGUMENT", "readout", unknown, "(sum, count)")
            return average
        if None in parts:
            raise _error()
        if not np.isfinite([np.abs(v).max() for v in values]).all():
            continue
        finite, shown = True, shown or (draw not in _LARGER and bool(np.any(values)))
        share = 0.05 if is_low((outputs, targets)) else 1e-3
        if len(whole) == 2 or ratio:
            if not all(_close(whole[k], sum(p[k] for p in parts), parts, k, share) for k in (0, 1)):
                raise _error()
            if average.guards or average.beside:
                scalars = (plain(outer, *by_step) for by_step in given)
                lengths = [len(by_step[0]) for by_step in given]
                _check_ratios(average, values, scalars, lengths, share)
            continue
        shares = [(cut.stop - cut.start) / draw.steps for cut in draw.cuts]
        weighed = sum(part[0] * of for part, of in zip(parts, shares, strict=True))
        means &= _close(whole[0], weighed, parts, 0, share)
        sums &= _close(whole[0], sum(part[0] for part in parts), parts, 0, share)
    if len(whole) == 2 or ratio:
        nothing = call(outer, *cut_of((outputs, targets), slice(0, 0)))
        if not ratio and nothing is not None and any(abs(one) > TINY for one in nothing):
            raise _error()
        return average
    if average.kind == "unknown" and not finite:
        raise _error()
    if not (sums if average.kind == "sum" else means or (average.kind == "unknown" and sums)):
        raise _error()
    # Losses that do not depend on the numbers, 0 for instance, are both.
    return replace(average, kind="sum") if mean and sums and not means else average


def _is_scalar(function: Callable[..., Tree], like: tuple[Tree, ...]) -> bool:
    """Say whether there is one result."""
    return len(jax.tree.leaves(jax.eval_shape(function, *like))) == 1


def _bends(function: Callable[..., Tree], like: tuple[Tree, ...], steps: int) -> bool:
    """Say whether a program may do otherwise with as many steps as cannot be tried.

    Its numbers may be others, or it counts the steps.
    """
    longest = jax.tree.map(lambda a: jax.ShapeDtypeStruct((STEPS, *a.shape[1:]), a.dtype), like[1:])
    try:
        lengths = Lengths(function, (like[0], *longest), (len(like[1]), steps))
    except Exception:  # a function that does not take so many steps says nothing of itself
        return False
    if lengths.by_python:
        return False
    return lengths.bend() or counts_places(flattened(lengths.many, (like[0], *longest)).jaxpr)


def _check_ratios(
    average: Average, pairs: Any, scalars: Iterable[Any], lengths: list[int], share: float
) -> None:
    """Raise an error unless scalars of so many steps are what their sums and counts say."""
    for (total, count, *beside), scalar, steps in zip(pairs, scalars, lengths, strict=True):
        with jax.ensure_compile_time_eval(), np.errstate(all="ignore"):  # nothing may count
            due = total / np.asarray(average.finish(jnp.float32(count), steps)) + sum(beside)
        if scalar is None or (np.isfinite(due) and abs(scalar[0] - due) > share * abs(due)):
            raise _error()


def _error() -> RevRNNError:
    given = "a loss of steps that depend on one another, or neither a mean nor a sum over steps"
    allowed = (
        "one in which each step counts by itself, (sum, count) of such, a chunk_size of all steps"
    )
    return RevRNNError("E_ARGUMENT", "readout", given, allowed)


def _close(whole: Any, put_together: Any, parts: list[Any], k: int, share: float) -> bool:
    largest = max(abs(float(whole)), *(abs(float(part[k])) for part in parts))
    return abs(float(whole) - float(put_together)) <= share * largest
