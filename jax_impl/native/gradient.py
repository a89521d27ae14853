"""Gradients of a chunk by a compiled call, added to those of the chunks before (GRAD)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config

from ..gradients import Gradients, StateGradients
from ..sequence import Steps
from ..walk import to_operand
from ..x64 import with_x64
from .calls import call
from .stack import Tape
from .threads import shares
from .weights import Packed


@with_x64
@partial(jax.jit, static_argnums=0)
def pull(
    config: Config,
    packed: Packed,
    tape: Tape,
    steps: Steps,
    grad_state: StateGradients,
    grad_outputs: jax.Array | None,
    grads: dict[str, jax.Array],
) -> Gradients:
    """Do as :func:`revrnn.jax_impl.gradients.chunk_gradient`, and add to ``grads`` so far."""
    shape = (*steps.x.shape[:2], config.hidden_size)
    given = jnp.zeros((0, *shape[1:]), jnp.float32) if grad_outputs is None else grad_outputs
    x = to_operand(config, steps.x)
    h, c = grad_state
    dh = _by_group(h)
    dc = jnp.zeros((0, *dh.shape[1:]), jnp.float32) if c is None else _by_group(c)
    names = list(config.parameter_shapes())
    total = [grads[name] for name in names]
    arguments = [tape.pieces, tape.operands, tape.slopes, tape.anew, x, given, *packed.floats]
    count = np.array([shares(config, *shape[:2]), config.layer_input_bits(0)], np.int32)
    more: list[Any] = [dh, dc, count, *total]
    shapes = [(v.shape, jnp.float32) for v in (dh, dc, x, *total)]
    aliases = {10: 0, 11: 1, **{13 + n: 3 + n for n in range(len(names))}}
    dh, dc, dx, *total = call("pull", config, [*arguments, *more], shapes, aliases)
    state = (_by_layer(dh), None if c is None else _by_layer(dc))
    return Gradients(x=dx, state=state, params=dict(zip(names, total, strict=True)))


def _by_group(v: jax.Array) -> jax.Array:
    """Return ``[L, B, H]`` as ``[L, 2, B, G]``."""
    layers, rows, hidden = v.shape
    return v.reshape(layers, rows, 2, hidden // 2).swapaxes(1, 2)


def _by_layer(v: jax.Array) -> jax.Array:
    layers, _, rows, units = v.shape
    return v.swapaxes(1, 2).reshape(layers, rows, 2 * units)
