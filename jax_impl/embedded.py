"""Whether an embedding gives of a chunk what it gives of parts of it, as readouts must.

``embed`` sees one chunk at a time. What it makes of one step must not depend on other steps: a
convolution, a shift, a running sum or positions from 0 along the steps give for a chunk something
else than for the whole sequence. Where its program leaves a doubt, numbers settle it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.errors import RevRNNError

from .draws import ODD_CUTS, STEPS_DRAWN, Computed, Draw, cut_of, in_full, numbers_of
from .flat import STEPS, flattened
from .lengths import Lengths, uses_length
from .mixing import counts_places, may_mix, mixes_steps

Tree = Any


def check_embedded(function: Callable[..., Tree], outer: Tree, inputs: Tree, chunk: int) -> None:
    """Raise ``E_ARGUMENT`` if the steps of what ``embed`` gives depend on one another.

    Args:
        function: of outer parameters and a cut of the inputs.
        outer: of which only types and shapes matter.
        inputs: of which only types and shapes matter.
        chunk: steps of a chunk.
    """
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), outer)
    longer = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((STEPS, *jnp.shape(a)[1:]), jnp.result_type(a)), inputs
    )
    try:
        steps = len(jax.tree.leaves(inputs)[0])
        lengths = Lengths(function, (like, longer), (chunk, steps % chunk, steps))
        jaxpr = None if lengths.by_python else flattened(lengths.many, (like, longer)).jaxpr
    except Exception:  # it takes no other number of steps
        jaxpr = None
    if jaxpr is None:
        _try(function, outer, inputs, chunk, False)
        return
    if mixes_steps(jaxpr):
        raise _error()
    kept = all(v.aval.shape[:1] == (STEPS,) for v in jaxpr.outvars)
    bent = uses_length(jaxpr) or lengths.bend() or lengths.one_is_other()
    if may_mix(jaxpr) or bent or not kept:
        _try(function, outer, inputs, chunk, counts_places(jaxpr))


def _try(
    function: Callable[..., Tree], outer: Tree, inputs: Tree, chunk: int, counts: bool
) -> None:
    """Compare random numbers' results with those of parts, if it can be computed of them.

    If it ``counts`` the steps, it may do otherwise with those that are not tried.
    """
    steps = len(jax.tree.leaves(inputs)[0])
    full = in_full(function, outer, (inputs,), steps, chunk)
    if counts and max(2 * STEPS_DRAWN, *(draw.steps for draw in (*full, Draw()))) < steps:
        raise _error()
    outer, call = numbers_of(outer, None, 0, Draw()), Computed(function)
    low = any(jnp.result_type(leaf).itemsize < 4 for leaf in jax.tree.leaves((outer, inputs)))
    for draw in (Draw(), Draw(cuts=ODD_CUTS), *full):
        drawn = numbers_of(inputs, draw.steps, 1, draw)
        whole, *parts = (call(outer, cut_of(drawn, cut)) for cut in (slice(None), *draw.cuts))
        if whole is None:
            return
        if None in parts:
            raise _error()
        _compare(whole, parts, low)


def _compare(whole: list[Any], parts: list[list[Any]], low: bool) -> None:
    """Raise an error unless results of parts are those of the whole."""
    for one, *pieces in zip(whole, *parts, strict=True):
        if not one.ndim:  # without steps, which is refused as a shape
            continue
        if any(piece.shape[1:] != one.shape[1:] for piece in pieces):
            raise _error()
        joined = np.concatenate(pieces)
        if not np.isfinite(one).all() or not np.isfinite(joined).all():
            continue
        most = (0.05 if low else 1e-3) * max(np.abs(one).max(initial=0), 1e-30)
        if joined.shape != one.shape or np.abs(joined - one).max(initial=0) > most:
            raise _error()


def _error() -> RevRNNError:
    given = "a result whose steps depend on one another, for several chunks"
    allowed = "functions of each step alone; or a chunk_size of all steps"
    return RevRNNError("E_ARGUMENT", "embed", given, allowed)
