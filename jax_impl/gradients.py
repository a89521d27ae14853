"""Gradients by reversal, or from stored states, in float32 (GRAD).

Both ways give :func:`step_backward` the same integers, and it is compiled apart from what differs
around it, so that the results are equal bit for bit (GRAD-020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.formats import FORGET_BITS, GATE_BITS

from .activations import ForgetGate, tanh
from .buffer import Buffer
from .cells import Context, Gates, GruGates, LstmGates
from .isolate import isolated
from .quantise import quantise_passes, view, view_passes
from .sequence import (
    GAIN_BITS,
    Groups,
    Pair,
    Stack,
    Visit,
    buffer_is_back,
    gain_passes,
    mark,
    scan,
    status_of,
    to_operand,
)
from .status import REVERSAL, first, flag

Floats = dict[str, jax.Array]


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the real numbers that integers stand for, float32.

    Attributes:
        x: ``[T, B, I]``; in the loop over the steps, ``None``.
        h: of the initial state, by layer and group; before the pass is over, of the present one.
        c: the same for ``c``, or ``None``.
        params: by parameter name.
    """

    x: jax.Array | None
    h: tuple[Pair, ...]
    c: tuple[Pair, ...] | None
    params: Floats


class Point(NamedTuple):
    """All that one group's step back depends on, besides weights and gradients.

    Attributes:
        gates: its gates.
        x: its layer's input operand ``[B, I_k]``.
        h: its ``h`` before the update.
        c: its ``c`` before the update, or ``None``.
        t: the tanh of its ``c`` after the update, or ``None``.
        passes: where the view of the other group did not saturate (GRAD-002).
        x_passes: where the view of the layer below did not; ``None`` in layer 0.
        x_gain: what its layer's input was multiplied by, int32, or ``None`` (SEQ-012).
    """

    gates: Gates
    x: jax.Array
    h: jax.Array
    c: jax.Array | None
    t: jax.Array | None
    passes: jax.Array
    x_passes: jax.Array | None
    x_gain: jax.Array | None


def real(v: jax.Array, bits: int) -> jax.Array:
    """Return the real number that ``v`` stands for, float32 (GEN-004)."""
    x: jax.Array = v.astype(jnp.float32) * jnp.float32(2.0**-bits)
    return x


def d_sigmoid(y: jax.Array) -> jax.Array:
    """Return the derivative of the sigmoid at its value ``y`` (GRAD-010)."""
    value = real(y, GATE_BITS)
    return value * (1 - value)


def d_tanh(y: jax.Array) -> jax.Array:
    """Return the derivative of tanh at its value ``y`` (GRAD-010)."""
    value = real(y, GATE_BITS)
    return (1 - value) * (1 + value)


def d_forget(config: Config, gate: ForgetGate) -> jax.Array:
    """Return the derivative of a forget gate with respect to its pre-activation (GRAD-010)."""
    n = config.max_forget_bits
    slope = 1.0 if n is None else 1 - 2.0**-n
    return jnp.where(gate.passes, slope * d_sigmoid(gate.sigma), jnp.float32(0))


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return ``a @ b`` in full float32."""
    return lax.dot(a, b, precision=lax.Precision.HIGHEST)


def point_of(config: Config, visit: Visit) -> Point:
    """Collect the integers that a group's step back depends on."""
    bits, view_bits = config.formats.state_bits, config.view_bits
    h, c = visit.before.group(visit.layer, visit.group)
    h_other, _ = visit.before.group(visit.layer, 1 - visit.group)
    _, new_c = visit.after.group(visit.layer, visit.group)
    x_passes = None
    if visit.layer:
        below = jnp.concatenate(visit.before.h[visit.layer - 1], 1)
        x_passes = view_passes(below, bits, view_bits)
        if visit.gain is not None:  # GRAD-016
            x_passes &= gain_passes(view(below, bits, view_bits), visit.gain)
    t = None if new_c is None else tanh(new_c, bits)
    passes = view_passes(h_other, bits, view_bits)
    return Point(visit.gates, visit.x, h, c, t, passes, x_passes, visit.gain)


def _gru(
    config: Config, gates: GruGates, point: Point, dh: jax.Array, rows: jax.Array, w_hh: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return ``ds`` of all gates, ``dw_hh`` and the gradients of the old ``h`` and of the view.

    GRAD-012. ``ds`` is ``[B, N·G]``, ``w_hh`` and its gradient ``[N·G, G]``.
    """
    seen = 2 * config.group_size
    z, g = real(gates.z.z, FORGET_BITS), real(gates.g, GATE_BITS)
    v, u = (real(operand, config.view_bits) for operand in (gates.v, gates.u))
    kept = real(point.h, config.formats.state_bits) if config.forgetting else jnp.float32(0)
    ds_g = jnp.where(rows, dh * (1 - z) * d_tanh(gates.g), 0)  # GRAD-015
    du = matmul(ds_g, w_hh[seen:])
    ds_z = dh * (kept - g) * d_forget(config, gates.z)
    ds_r = du * v * d_sigmoid(gates.r)
    ds_v = jnp.where(rows, jnp.concatenate([ds_z, ds_r], 1), 0)
    dv = du * real(gates.r, GATE_BITS) + matmul(ds_v, w_hh[:seen])
    dw_hh = jnp.concatenate([matmul(ds_v.T, v), matmul(ds_g.T, u)])
    # GRAD-011
    return jnp.concatenate([ds_v, ds_g], 1), dw_hh, (dh * z if config.forgetting else dh), dv


def _lstm(
    config: Config, gates: LstmGates, point: Point, dh: jax.Array, dc: jax.Array,
    rows: jax.Array, w_hh: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Return ``ds``, ``dw_hh`` and the gradients of the old ``h`` and ``c`` and of the view.

    GRAD-013, with the shapes of :func:`_gru`.
    """
    assert point.c is not None
    assert point.t is not None
    bits = config.formats.state_bits
    i, g, o, t = (real(v, GATE_BITS) for v in (gates.i, gates.g, gates.o, point.t))
    dc = dc + dh * o * d_tanh(point.t)
    by_gate = {
        "i": dc * g * d_sigmoid(gates.i),
        "g": dc * i * d_tanh(gates.g),
        "o": dh * t * d_sigmoid(gates.o),
    }
    dh_old, dc_old = dh, dc
    if gates.f is not None and gates.p is not None:
        # GRAD-011
        by_gate["f"] = dc * real(point.c, bits) * d_forget(config, gates.f)
        by_gate["p"] = dh * real(point.h, bits) * d_forget(config, gates.p)
        dh_old, dc_old = dh * real(gates.p.z, FORGET_BITS), dc * real(gates.f.z, FORGET_BITS)
    ds = jnp.concatenate([by_gate[gate] for gate in config.gates], 1)
    ds = jnp.where(rows, ds, 0)  # GRAD-015
    dw_hh = matmul(ds.T, real(gates.v, config.view_bits))
    return ds, dw_hh, dh_old, dc_old, matmul(ds, w_hh)


@isolated
def step_backward(
    config: Config, weights: Floats, points: list[Point], rows: jax.Array, grads: Gradients
) -> tuple[Gradients, jax.Array]:
    """Carry ``grads`` back over one step; return them and the gradient of the step's input.

    It is isolated, so that it rounds alike whatever delivers its integers (GRAD-020).

    Args:
        config: the stack.
        weights: the real numbers that ``weight_ih`` and ``weight_hh`` stand for.
        points: two a layer, in the order in which the updates are undone.
        rows: bool ``[B]``, which rows have the step; the others pass gradients on (GRAD-015).
        grads: gradients with respect to the states after the step; those of parameters that are
            given back are this step's part alone.
    """
    keep = rows[:, None]
    h, c = list(map(list, grads.h)), list(map(list, grads.c or ()))
    params: Floats = {}
    dx = jnp.float32(0)
    for layer in reversed(range(config.num_layers)):
        pair = points[2 * (config.num_layers - 1 - layer) :][:2]
        ds: list[Any] = [None, None]
        dw: list[Any] = [None, None]
        for group, point in zip((1, 0), pair, strict=True):
            size = config.num_gates * config.group_size
            w_hh = weights[f"weight_hh_l{layer}"][group * size : (group + 1) * size]
            dh = h[layer][group]
            if isinstance(point.gates, GruGates):
                ds[group], dw[group], dh_old, dv = _gru(config, point.gates, point, dh, keep, w_hh)
            else:
                dc = c[layer][group]
                ds[group], dw[group], dh_old, dc_old, dv = _lstm(
                    config, point.gates, point, dh, dc, keep, w_hh
                )
                c[layer][group] = jnp.where(keep, dc_old, dc)
            h[layer][group] = jnp.where(keep, dh_old, dh)
            # dv is 0 in rows masked out, as ds is.
            h[layer][1 - group] += jnp.where(point.passes, dv, 0)  # GRAD-002
        both = jnp.concatenate(ds, 1)
        # GRAD-014
        params[f"weight_ih_l{layer}"] = matmul(
            both.T, real(pair[0].x, config.layer_input_bits(layer))
        )
        params[f"weight_hh_l{layer}"] = jnp.concatenate(dw)
        params[f"bias_l{layer}"] = both.sum(0)
        dx = matmul(both, weights[f"weight_ih_l{layer}"])
        if pair[0].x_passes is not None:  # in all layers but the first
            if pair[0].x_gain is not None:  # GRAD-016
                dx = dx * real(pair[0].x_gain, GAIN_BITS)
            dx = jnp.where(pair[0].x_passes, dx, 0)
            for group in (0, 1):
                h[layer - 1][group] += jnp.split(dx, 2, 1)[group]
    found = Gradients(None, _pairs(h), _pairs(c) if grads.c is not None else None, params)
    return found, dx


def _pairs(values: list[list[jax.Array]]) -> tuple[Pair, ...]:
    return tuple((first_group, second) for first_group, second in values)


def sequence_backward(
    config: Config,
    params: Mapping[str, jax.Array],
    x: jax.Array,
    mask: jax.Array,
    start: Groups,
    heads: jax.Array | None,
    end: Groups,
    buffer: Buffer | None,
    slices: jax.Array,
    before: tuple[jax.Array, jax.Array | None] | None,
    gradient: tuple[jax.Array, jax.Array, jax.Array | None],
    method: str,
    status: jax.Array,
    gains: jax.Array | None = None,
) -> tuple[Gradients, jax.Array]:
    """Return the gradients of a loss and a status; after a fault all gradients are NaN.

    Args:
        config: the stack.
        params: its parameters in fixed point.
        x: input ``[T, B, I]``, int16 operand or float32.
        mask: bool ``[T, B]``.
        start: the initial states, which the reversal must reach (SEQ-009).
        heads: the initial heads, as they cross a boundary.
        end: the final states.
        buffer: heads and store after the forward pass.
        slices: int32 ``[T+1, B, D]``.
        before: ``h`` and ``c`` before each step where they are stored; ``None`` to reverse.
        gradient: with respect to the outputs, float32 ``[T, B, H]``, and to the final ``h`` and
            ``c``, float32 ``[L, B, H]``.
        method: how to multiply.
        status: faults of the forward pass.
        gains: as in the forward pass.
    """
    stack = Stack(config, params, method)
    weights = {
        name: real(params[name], config.formats.weight_bits)
        for name in config.parameter_shapes()
        if name.startswith("weight")
    }
    sums = {
        name: jnp.zeros(shape, jnp.float32) for name, shape in config.parameter_shapes().items()
    }
    Carry = tuple[Context, Groups, Gradients]

    def body(carry: Carry, inputs: Any) -> tuple[Carry, jax.Array]:
        context, groups, grads = carry
        x_t, rows, restore, past, grad_out, gain = inputs
        operand, _ = to_operand(config, x_t, status)
        if past is None:
            context = context._replace(rows=rows)
            context, groups, visits = stack.step_back(context, operand, groups, restore, gain)
        else:
            earlier = Groups.cut(*past)
            visits, groups = stack.visits_between(operand, earlier, groups, gain), earlier
        points = [point_of(config, visit) for visit in visits]
        grads = grads._replace(h=_plus_output(grads.h, grad_out))
        sums = grads.params
        grads, dx = step_backward(config, weights, points, rows, grads._replace(params={}))
        grads = grads._replace(params=jax.tree.map(jnp.add, sums, grads.params))
        if x_t.dtype == jnp.float32:
            dx = jnp.where(quantise_passes("operand", x_t, config.formats), dx, 0)  # GRAD-002
        return (context, groups, grads), dx

    context = Context(jnp.zeros(x.shape[1], jnp.bool_), buffer, jnp.int32(0), None)
    grad_outputs, grad_h, grad_c = gradient
    found = Groups.cut(grad_h, grad_c)
    carry = (context, end, Gradients(None, found.h, found.c, sums))
    xs = (x, mask, slices[:-1], before, grad_outputs, gains)
    (context, groups, grads), dx = scan(body, carry, xs, reverse=True)
    if before is None:
        status = first(status, status_of(context.buffer))
        back = is_back(groups, start, context.buffer, heads)
        status = first(status, flag(~back, REVERSAL))
    return jax.tree.map(lambda v: mark(v, status), grads._replace(x=dx)), status


def _plus_output(h: tuple[Pair, ...], grad_out: jax.Array) -> tuple[Pair, ...]:
    """Add the gradient of a step's output ``[B, H]`` to that of the top layer's ``h``."""
    top = h[-1][0] + grad_out[:, : h[-1][0].shape[1]], h[-1][1] + grad_out[:, h[-1][0].shape[1] :]
    return (*h[:-1], top)


def is_back(
    groups: Groups, start: Groups, buffer: Buffer | None, heads: jax.Array | None
) -> jax.Array:
    """Say whether states and buffer are those at the start (SEQ-009)."""
    same: jax.Array = jnp.bool_(True)
    for found, wanted in zip(jax.tree.leaves(groups), jax.tree.leaves(start), strict=True):
        same &= (found == wanted).all()
    if buffer is not None and heads is not None:
        same &= buffer_is_back(buffer, heads)
    return same
