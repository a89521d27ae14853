"""Gradients by reversal, or from stored states, in float32 (GRAD).

A chunk of steps at a time. On the way back each step leaves the slopes of its updates; then the
gradients are carried back, layer by layer and step by step; then those of the parameters are one
product each. Both ways to the states make the same integers, and what turns them into floats is
compiled apart from what differs around it, so that the results are equal bit for bit (GRAD-020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.formats import GAIN_BITS

from .groups import Groups, Pair
from .isolate import isolated
from .scans import scan
from .sequence import Steps
from .slopes import Floats, LayerSlopes, Slopes, real
from .walk import to_operand
from .x64 import with_x64

# Gradients with respect to h and c: [L, B, H], or those of both groups of one layer.
StateGradients = tuple[jax.Array, jax.Array | None]
Carry = tuple[Pair, Pair | None]


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the real numbers that integers stand for, float32.

    Attributes:
        x: ``[C, B, I]``.
        state: of ``h`` and ``c`` before the chunk.
        params: by parameter name, this chunk's part.
    """

    x: jax.Array
    state: StateGradients
    params: Floats


@with_x64
@isolated
def chunk_gradient(
    config: Config,
    params: Mapping[str, jax.Array],
    slopes: tuple[LayerSlopes, ...],
    steps: Steps,
    grad_state: StateGradients,
    grad_outputs: jax.Array | None,
) -> Gradients:
    """Carry gradients back over a chunk of steps.

    It is isolated, so that it rounds alike whatever delivers the slopes (GRAD-020).

    Args:
        config: the stack.
        params: its parameters in fixed point.
        slopes: by layer, with a leading axis of steps.
        steps: what the forward pass was given.
        grad_state: with respect to ``h`` and ``c`` after the chunk.
        grad_outputs: with respect to the outputs, float32 ``[C, B, H]``, or ``None``.
    """
    h, c = Groups.cut(*grad_state)
    h_before, c_before = list(h), list(c or ())
    weight_bits, down, of_params = config.formats.weight_bits, grad_outputs, {}
    for layer in reversed(range(config.num_layers)):
        here = slopes[layer]
        w_ih, w_hh = (real(params[f"weight_{k}_l{layer}"], weight_bits) for k in ("ih", "hh"))
        carry = (h[layer], None if c is None else c[layer])
        (h_before[layer], c_layer), ds = _layer_back(config, here, w_hh, carry, down, steps.resets)
        if c_layer is not None:
            c_before[layer] = c_layer
        both = _flat(jnp.concatenate(ds, 2))  # [C·B, N·H]
        operand = to_operand(config, steps.x) if here.input is None else here.input.operand
        # GRAD-014
        inputs = _flat(real(operand, config.layer_input_bits(layer)))
        of_params[f"weight_ih_l{layer}"] = matmul(both.T, inputs)
        parts = [_hidden_gradient(config, *pair) for pair in zip(here.groups, ds, strict=True)]
        of_params[f"weight_hh_l{layer}"] = jnp.concatenate(parts)
        of_params[f"bias_l{layer}"] = both.sum(0)
        down = matmul(both, w_ih).reshape(*operand.shape)
        if here.input is not None:
            if steps.gains is not None:  # GRAD-016
                down = down * real(steps.gains[:, layer - 1], GAIN_BITS)
            down = jnp.where(here.input.passes, down, 0)
    assert down is not None
    before = Groups(tuple(h_before), tuple(c_before) if c_before else None)
    return Gradients(down, before.arrays(), of_params)


def _layer_back(
    config: Config,
    slopes: LayerSlopes,
    w_hh: jax.Array,
    carry: Carry,
    grad_outputs: jax.Array | None,
    resets: jax.Array | None,
) -> tuple[Carry, Pair]:
    """Carry gradients back over a chunk in one layer; return also ``ds`` of both groups.

    Args:
        config: the stack.
        slopes: those of the layer, with a leading axis of steps.
        w_hh: its weights, ``[N·H, G]``.
        carry: gradients with respect to ``h`` and ``c`` after the chunk.
        grad_outputs: gradients with respect to ``h`` after each step, ``[C, B, H]``.
        resets: bool ``[C, B]`` or ``None``.
    """
    size = config.num_gates * config.group_size

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Pair]:
        pair, reset, grad_out = inputs
        h, c = list(carry[0]), None if carry[1] is None else list(carry[1])
        if grad_out is not None:
            h = [part + more for part, more in zip(h, jnp.split(grad_out, 2, 1), strict=True)]
        ds: list[Any] = [None, None]
        for group in (1, 0):
            weights, slopes, dh = w_hh[group * size : (group + 1) * size], pair[group], h[group]
            if c is None:
                ds[group], dv = _gru_back(slopes, weights, dh)
            else:
                dc = c[group] + dh * slopes.to_c
                ds[group], dv = _lstm_back(config, slopes, weights, dh, dc)
                c[group] = dc if slopes.keep_c is None else dc * slopes.keep_c
            h[group] = dh if slopes.keep is None else dh * slopes.keep
            # dv is 0 in masked rows, as ds is.
            h[1 - group] += jnp.where(slopes.passes, dv, 0)  # GRAD-002
        if reset is not None:  # GRAD-016
            h = [jnp.where(reset[:, None], 0, part) for part in h]
            c = None if c is None else [jnp.where(reset[:, None], 0, part) for part in c]
        return ((h[0], h[1]), None if c is None else (c[0], c[1])), (ds[0], ds[1])

    back: tuple[Carry, Pair] = scan(
        body, carry, (slopes.groups, resets, grad_outputs), reverse=True
    )
    return back


def _gru_back(slopes: Slopes, w_hh: jax.Array, dh: jax.Array) -> Pair:
    """Return ``ds`` ``[B, N·G]`` and the gradient of the view (GRAD-012)."""
    assert slopes.r is not None
    assert slopes.to_r is not None
    seen = 2 * dh.shape[1]  # the rows of z and r; those of g follow (CELL-002)
    ds_g = dh * slopes.from_h["g"]
    du = matmul(ds_g, w_hh[seen:])
    ds_v = jnp.concatenate([dh * slopes.from_h["z"], du * slopes.to_r], 1)
    return jnp.concatenate([ds_v, ds_g], 1), du * slopes.r + matmul(ds_v, w_hh[:seen])


def _lstm_back(
    config: Config, slopes: Slopes, w_hh: jax.Array, dh: jax.Array, dc: jax.Array
) -> Pair:
    """Return ``ds`` ``[B, N·G]`` and the gradient of the view (GRAD-013)."""
    by_gate = {gate: dh * slope for gate, slope in slopes.from_h.items()}
    by_gate |= {gate: dc * slope for gate, slope in (slopes.from_c or {}).items()}
    ds = jnp.concatenate([by_gate[gate] for gate in config.gates], 1)
    return ds, matmul(ds, w_hh)


def _hidden_gradient(config: Config, slopes: Slopes, ds: jax.Array) -> jax.Array:
    """Return one group's part of the gradient of ``weight_hh``, ``[N·G, G]`` (GRAD-014)."""
    ds, v = _flat(ds), _flat(real(slopes.v, config.view_bits))
    if slopes.u is None:
        return matmul(ds.T, v)
    seen, u = 2 * config.group_size, _flat(real(slopes.u, config.view_bits))
    return jnp.concatenate([matmul(ds[:, :seen].T, v), matmul(ds[:, seen:].T, u)])


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return ``a @ b`` in full float32."""
    return lax.dot(a, b, precision=lax.Precision.HIGHEST)


def _flat(v: jax.Array) -> jax.Array:
    """Return ``[C, B, F]`` as ``[C·B, F]``."""
    return v.reshape(-1, v.shape[2])
