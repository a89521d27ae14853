"""Gradients of a chunk by kernels, added to those of the chunks before (GRAD)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from revrnn.config import Config

from ...gpu.constants import Mode
from ...gpu.sizes import Sizes, Tiles
from ..gradients import Gradients, StateGradients, matmul
from ..groups import Groups
from ..sequence import Steps
from ..slopes import real
from ..walk import to_operand
from ..x64 import with_x64
from .arrays import put_groups, take_groups
from .launch import GRADIENT, Launcher
from .numbers import Number
from .stack import Tape
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
    length, rows = steps.mask.shape
    sizes = Sizes(config, rows, length, Tiles.for_batch(rows))
    padded, gates, slots = sizes.padded_units, config.num_gates, sizes.slots
    held = put_groups(sizes, Groups.cut(*grad_state))
    arrays = {
        # Two copies, of which the first one counts.
        **{f"d{name}": jnp.stack([v, jnp.zeros_like(v)]) for name, v in held.items()},
        "tape": tape.factors,
        "lower": tape.lower,
        "ds": jnp.zeros((slots, length, rows, gates, padded), jnp.float32),
        "through": jnp.zeros((sizes.padded_rows, padded), jnp.float32),
    }
    if grad_outputs is not None:
        arrays["given"] = grad_outputs
    go = Launcher(sizes, Mode(mask=True), packed, arrays)

    def step(counter: Number, _: None) -> None:
        # RevLSTM's kernels write the other copy.
        now = 0 if go.gru else Number(1, 0, odd=True)
        go.pull_step(counter * -1 + (length - 1), now, grad_outputs is not None)
        if steps.resets is not None:  # nothing before a reset affects what follows
            again = jnp.pad(steps.resets[length - 1 - go.now()], (0, sizes.padded_rows - rows))
            for name in ("dh", "dc"):
                if name in go.arrays:
                    go.arrays[name] = jnp.where(again[:, None], 0, go.arrays[name])

    go.over(GRADIENT, length, step, None)
    last = 0 if go.gru else length % 2
    ends = {name: go.arrays[f"d{name}"][last] for name in held}
    dx, params = _of_parameters(config, packed, tape, steps, go.arrays["ds"])
    total = {name: grads[name] + params[name] for name in grads}
    return Gradients(dx, take_groups(config, ends, rows).arrays(), total)


def _of_parameters(
    config: Config, packed: Packed, tape: Tape, steps: Steps, ds: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return a chunk's part of the gradients of inputs and of parameters (GRAD-014)."""
    gates, units, (length, rows) = config.num_gates, config.group_size, steps.mask.shape
    x = real(to_operand(config, steps.x), config.layer_input_bits(0))
    flat = x.reshape(length * rows, -1)
    own = ds.reshape(config.num_layers, 2, length * rows, -1)  # gates side by side, padded
    of_view = 2 if config.cell == "revgru" else gates
    params: dict[str, jax.Array] = {}

    def plane(array: jax.Array, number: int) -> jax.Array:
        return array[:, number].reshape(len(array), length * rows, -1)

    def by_gate(part: jax.Array) -> jax.Array:
        """Return ``[N·Gp, …]`` without padding, ``[N·G, …]``."""
        inside = part.reshape(-1, tape.factors.shape[-1], *part.shape[1:])[:, :units]
        return inside.reshape(-1, *part.shape[1:])

    views = plane(tape.factors, 0)
    dx = jnp.zeros_like(flat)
    for layer in range(config.num_layers):
        w_ih, w_hh, bias = [], [], []
        for group in (0, 1):
            here, slot = own[layer, group], 2 * layer + group
            bias.append(by_gate(here.sum(0)))
            if layer == 0:
                w_in = packed.floats_in[group].reshape(here.shape[1], -1)
                dx = dx + matmul(here, w_in)
                w_ih.append(by_gate(matmul(here.T, flat)))
            else:
                below = plane(tape.lower, 0)[2 * layer - 2 : 2 * layer, :, :units]
                a = jnp.concatenate([below[0], below[1]], 1)
                w_ih.append(by_gate(matmul(here.T, a)))
            seen = of_view * tape.factors.shape[-1]
            w_hh.append(by_gate(matmul(here[:, :seen].T, views[slot, :, :units])))
            if of_view < gates:
                u = plane(tape.factors, 5)[slot, :, :units]
                w_hh.append(by_gate(matmul(here[:, seen:].T, u)))
        for name, parts in (("weight_ih", w_ih), ("weight_hh", w_hh), ("bias", bias)):
            params[f"{name}_l{layer}"] = jnp.concatenate(parts)
    return dx.reshape(x.shape), params
