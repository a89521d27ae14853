"""The gradients of one chunk whose states have been recovered, compiled by itself."""

from __future__ import annotations

from functools import partial

import jax

from revrnn.config import Config

from .gradients import LayerSlopes, chunk_backward
from .groups import Groups
from .passing import Params
from .sequence import Steps, to_operand
from .x64 import with_x64


@with_x64
@partial(jax.jit, static_argnums=0)
def chunk_gradient(
    config: Config,
    exact: Params,
    slopes: tuple[LayerSlopes, ...],
    steps: Steps,
    grad_state: tuple[jax.Array, jax.Array | None],
    grad_outputs: jax.Array | None,
) -> tuple[jax.Array, Params, tuple[jax.Array, jax.Array | None]]:
    """Carry gradients back over a chunk whose slopes are known."""
    groups = Groups.cut(*grad_state)
    found = chunk_backward(
        config, exact, slopes, steps, to_operand(config, steps.x), groups.h, groups.c, grad_outputs
    )
    return found.x, found.params, Groups(found.h, found.c).arrays()
