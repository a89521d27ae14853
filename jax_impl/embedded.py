"""Whether an embedding gives of a chunk what it gives of parts of it, as readouts must.

``embed`` sees one chunk at a time. What it makes of one step must not depend on other steps: a
convolution, a shift, a running sum or positions from 0 along the steps give for a chunk something
else than for the whole sequence. Where its program leaves a doubt, numbers settle it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.errors import RevRNNError

from .apart import CUTS, cut_of, numbers_of, result_of
from .averages import goes_through_steps
from .flat import STEPS, flat_program, has_steps, uses_length
from .mixing import may_mix, mixes_steps

Tree = Any
# What draws random numbers. Of a key that is closed over they are the same in every chunk.
_RANDOM: Final = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")


def check_embedded(function: Callable[..., Tree], outer: Tree, inputs: Tree) -> None:
    """Raise ``E_ARGUMENT`` if the steps of what ``embed`` gives depend on one another.

    Args:
        function: of outer parameters and a cut of the inputs.
        outer: of which only types and shapes matter.
        inputs: of which only types and shapes after the steps matter.
    """
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), outer)
    longer = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((STEPS, *jnp.shape(a)[1:]), jnp.result_type(a)), inputs
    )
    try:
        by_python = goes_through_steps(function, (like, longer))
        jaxpr = None if by_python else flat_program(function, (like, longer)).jaxpr
    except Exception:  # it takes no other number of steps
        jaxpr = None
    if jaxpr is None:
        _try(function, outer, inputs)
        return
    if mixes_steps(jaxpr):
        raise _error()
    drawn = any(
        e.primitive.name in _RANDOM and has_steps(*e.outvars) and not has_steps(*e.invars)
        for e in jaxpr.eqns
    )
    kept = all(v.aval.shape[:1] == (STEPS,) for v in jaxpr.outvars)
    if not drawn and (may_mix(jaxpr) or uses_length(jaxpr) or not kept):
        _try(function, outer, inputs)


def _try(function: Callable[..., Tree], outer: Tree, inputs: Tree) -> None:
    """Compare random numbers' results with those of parts, if it can be computed of them."""
    outer, inputs = numbers_of(outer, None, 0), numbers_of(inputs, CUTS[-1].stop, 1)
    whole = result_of(function, (outer, inputs))
    if whole is None:
        return
    parts = [result_of(function, (outer, cut_of(inputs, cut))) for cut in CUTS]
    if None in parts:
        raise _error()
    low = any(jnp.result_type(leaf).itemsize < 4 for leaf in jax.tree.leaves((outer, inputs)))
    for one, *pieces in zip(whole, *parts, strict=True):
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
