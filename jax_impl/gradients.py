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
from revrnn.formats import FORGET_BITS, GAIN_BITS, GATE_BITS

from .activations import ForgetGate, tanh
from .cells import Gates, GruGates, LstmGates
from .chunks import scan
from .groups import Pair
from .isolate import isolated
from .quantise import quantise_passes, view_passes
from .sequence import LayerInput, Steps, Visit, Visits

Floats = dict[str, jax.Array]


class Gradients(NamedTuple):
    """Gradients of a loss with respect to the real numbers that integers stand for, float32.

    Attributes:
        x: ``[C, B, I]``.
        h: of the state before the chunk, by layer and group.
        c: the same for ``c``, or ``None``.
        params: by parameter name, this chunk's part.
    """

    x: jax.Array
    h: tuple[Pair, ...]
    c: tuple[Pair, ...] | None
    params: Floats


class Point(NamedTuple):
    """The integers that one group's slopes depend on, ``[B, G]``.

    Attributes:
        gates: its gates.
        h: its ``h`` before the update.
        c: its ``c`` before the update, or ``None``.
        t: the tanh of its ``c`` after the update, or ``None``.
        other: the other group's ``h``.
        rows: bool ``[B]``, which rows have the step.
    """

    gates: Gates
    h: jax.Array
    c: jax.Array | None
    t: jax.Array | None
    other: jax.Array
    rows: jax.Array


class GruSlopes(NamedTuple):
    """What RevGRU's gradients are multiplied by, float32 ``[B, G]`` (GRAD-012).

    Slopes of rows masked out are such that their gradients pass unchanged (GRAD-015).

    Attributes:
        keep: of the new ``h`` in the old one.
        to_z: of ``h`` in the pre-activation of ``z``.
        to_g: of ``h`` in that of ``g``.
        r: of ``u`` in the view.
        to_r: of ``u`` in the pre-activation of ``r``.
        passes: where the view did not saturate, bool (GRAD-002).
        v: the view, int16.
        u: the reset view, int16.
    """

    keep: jax.Array
    to_z: jax.Array
    to_g: jax.Array
    r: jax.Array
    to_r: jax.Array
    passes: jax.Array
    v: jax.Array
    u: jax.Array


class LstmSlopes(NamedTuple):
    """What RevLSTM's gradients are multiplied by, float32 ``[B, G]`` (GRAD-013).

    Attributes:
        keep: of the new ``h`` in the old one.
        keep_c: of the new ``c`` in the old one.
        h_to_c: of the new ``h`` in the new ``c``.
        from_h: of ``h`` in the pre-activations of ``o`` and ``p``, by gate.
        from_c: of ``c`` in those of ``f``, ``i`` and ``g``, by gate.
        passes: where the view did not saturate, bool (GRAD-002).
        v: the view, int16.
    """

    keep: jax.Array
    keep_c: jax.Array
    h_to_c: jax.Array
    from_h: Floats
    from_c: Floats
    passes: jax.Array
    v: jax.Array


Slopes = GruSlopes | LstmSlopes


class LayerSlopes(NamedTuple):
    """The slopes of a layer's two groups, and its input; ``None`` for layer 0."""

    groups: tuple[Slopes, Slopes]
    input: LayerInput | None


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


def slopes_of(config: Config, visits: Visits, rows: jax.Array) -> tuple[LayerSlopes, ...]:
    """Return the slopes of a step's updates, by layer; ``rows`` is its mask ``[B]``."""
    by_place = {(visit.layer, visit.group): visit for visit in visits[0]}
    taken = visits[1][::-1]
    found = []
    for layer in range(config.num_layers):
        pair = [_point_of(config, by_place[layer, group], rows) for group in (0, 1)]
        first, second = (_slopes(config, point) for point in pair)
        below = taken[layer]
        if below is not None:
            below = below._replace(operand=below.operand.astype(jnp.int16))
        found.append(LayerSlopes((first, second), below))
    return tuple(found)


def _point_of(config: Config, visit: Visit, rows: jax.Array) -> Point:
    h, c = visit.before.group(visit.layer, visit.group)
    other, _ = visit.before.group(visit.layer, 1 - visit.group)
    _, new_c = visit.after.group(visit.layer, visit.group)
    t = None if new_c is None else tanh(new_c, config.formats.state_bits)
    return Point(visit.gates, h, c, t, other, rows)


@isolated
def _slopes(config: Config, point: Point) -> Slopes:
    """Return one group's slopes; isolated, so that they round alike wherever points come from."""
    gates = point.gates
    if isinstance(gates, GruGates):
        return _gru_slopes(config, gates, point)
    return _lstm_slopes(config, gates, point)


def _gru_slopes(config: Config, gates: GruGates, point: Point) -> GruSlopes:
    rows = point.rows[:, None]
    z, g = real(gates.z.z, FORGET_BITS), real(gates.g, GATE_BITS)
    own = real(point.h, config.formats.state_bits) if config.forgetting else jnp.float32(0)
    r = real(gates.r, GATE_BITS)
    return GruSlopes(
        jnp.where(rows, z, 1) if config.forgetting else jnp.ones_like(z),  # GRAD-011
        jnp.where(rows, (own - g) * d_forget(config, gates.z), 0),
        jnp.where(rows, (1 - z) * d_tanh(gates.g), 0),
        r,
        real(gates.v, config.view_bits) * d_sigmoid(gates.r),
        _view_passes(config, point),
        gates.v.astype(jnp.int16),
        gates.u.astype(jnp.int16),
    )


def _lstm_slopes(config: Config, gates: LstmGates, point: Point) -> LstmSlopes:
    assert point.c is not None
    assert point.t is not None
    bits = config.formats.state_bits
    i, g, o, t = (real(v, GATE_BITS) for v in (gates.i, gates.g, gates.o, point.t))
    keep = keep_c = jnp.ones_like(i)
    from_h = {"o": t * d_sigmoid(gates.o)}
    from_c = {"i": g * d_sigmoid(gates.i), "g": i * d_tanh(gates.g)}
    if gates.f is not None and gates.p is not None:  # GRAD-011
        keep, keep_c = real(gates.p.z, FORGET_BITS), real(gates.f.z, FORGET_BITS)
        from_h["p"] = real(point.h, bits) * d_forget(config, gates.p)
        from_c["f"] = real(point.c, bits) * d_forget(config, gates.f)
    rows = point.rows[:, None]

    def active(slopes: Floats) -> Floats:
        return {gate: jnp.where(rows, slope, 0) for gate, slope in slopes.items()}

    return LstmSlopes(
        jnp.where(rows, keep, 1),
        jnp.where(rows, keep_c, 1),
        jnp.where(rows, o * d_tanh(point.t), 0),
        active(from_h),
        active(from_c),
        _view_passes(config, point),
        gates.v.astype(jnp.int16),
    )


def _view_passes(config: Config, point: Point) -> jax.Array:
    return view_passes(point.other, config.formats.state_bits, config.view_bits)


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return ``a @ b`` in full float32."""
    return lax.dot(a, b, precision=lax.Precision.HIGHEST)


def _gru_back(slopes: GruSlopes, w_hh: jax.Array, dh: jax.Array) -> tuple[jax.Array, ...]:
    """Return ``ds`` ``[B, N·G]`` and the gradients of the old ``h`` and of the view (GRAD-012)."""
    seen = 2 * dh.shape[1]  # the rows of z and r; those of g follow (CELL-002)
    ds_g = dh * slopes.to_g
    du = matmul(ds_g, w_hh[seen:])
    ds_v = jnp.concatenate([dh * slopes.to_z, du * slopes.to_r], 1)
    dv = du * slopes.r + matmul(ds_v, w_hh[:seen])
    return jnp.concatenate([ds_v, ds_g], 1), dh * slopes.keep, dv


def _lstm_back(
    config: Config, slopes: LstmSlopes, w_hh: jax.Array, dh: jax.Array, dc: jax.Array
) -> tuple[jax.Array, ...]:
    """Return ``ds`` and the gradients of the old ``h``, of the view and of ``c`` (GRAD-013)."""
    dc = dc + dh * slopes.h_to_c
    by_gate = {gate: dh * slope for gate, slope in slopes.from_h.items()}
    by_gate |= {gate: dc * slope for gate, slope in slopes.from_c.items()}
    ds = jnp.concatenate([by_gate[gate] for gate in config.gates], 1)
    return ds, dh * slopes.keep, matmul(ds, w_hh), dc * slopes.keep_c


Carry = tuple[Pair, Pair | None]


def _layer_back(
    config: Config,
    slopes: LayerSlopes,
    w_hh: jax.Array,
    carry: Carry,
    grad_outputs: jax.Array | None,
    resets: jax.Array | None,
) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
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

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        pair, reset, grad_out = inputs
        h, c = list(carry[0]), None if carry[1] is None else list(carry[1])
        if grad_out is not None:
            h = [part + more for part, more in zip(h, jnp.split(grad_out, 2, 1), strict=True)]
        ds: list[Any] = [None, None]
        for group in (1, 0):
            weights, slopes = w_hh[group * size : (group + 1) * size], pair[group]
            if c is None:
                ds[group], h[group], dv = _gru_back(slopes, weights, h[group])
            else:
                ds[group], h[group], dv, c[group] = _lstm_back(
                    config, slopes, weights, h[group], c[group]
                )
            # dv is 0 in rows masked out, as ds is.
            h[1 - group] += jnp.where(slopes.passes, dv, 0)  # GRAD-002
        if reset is not None:  # GRAD-016
            h = [jnp.where(reset[:, None], 0, part) for part in h]
            c = None if c is None else [jnp.where(reset[:, None], 0, part) for part in c]
        return ((h[0], h[1]), None if c is None else (c[0], c[1])), (ds[0], ds[1])

    found: tuple[Carry, tuple[jax.Array, jax.Array]] = scan(
        body, carry, (slopes.groups, resets, grad_outputs), reverse=True
    )
    return found


@isolated
def chunk_backward(
    config: Config,
    params: Mapping[str, jax.Array],
    slopes: tuple[LayerSlopes, ...],
    steps: Steps,
    x: jax.Array,
    h: tuple[Pair, ...],
    c: tuple[Pair, ...] | None,
    grad_outputs: jax.Array | None,
) -> Gradients:
    """Carry gradients back over a chunk of steps.

    It is isolated, so that it rounds alike whatever delivers the slopes (GRAD-020).

    Args:
        config: the stack.
        params: its parameters in fixed point.
        slopes: by layer, with a leading axis of steps.
        steps: what the forward pass was given.
        x: its inputs as operands.
        h: gradients with respect to ``h`` after the chunk, by layer and group.
        c: the same for ``c``, or ``None``.
        grad_outputs: float32 ``[C, B, H]``, with respect to the outputs, or ``None``.
    """
    found: Floats = {}
    h_before, c_before = list(h), list(c or ())
    weight_bits, down = config.formats.weight_bits, grad_outputs
    for layer in reversed(range(config.num_layers)):
        here = slopes[layer]
        w_hh = real(params[f"weight_hh_l{layer}"], weight_bits)
        carry = (h[layer], None if c is None else c[layer])
        (h_before[layer], c_layer), ds = _layer_back(config, here, w_hh, carry, down, steps.resets)
        if c_layer is not None:
            c_before[layer] = c_layer
        both = _flat(jnp.concatenate(ds, 2))  # [C·B, N·H]
        operand = x if here.input is None else here.input.operand
        # GRAD-014
        found[f"weight_ih_l{layer}"] = matmul(
            both.T, _flat(real(operand, config.layer_input_bits(layer)))
        )
        found[f"weight_hh_l{layer}"] = jnp.concatenate(
            [
                _hidden_gradient(config, pair, part)
                for pair, part in zip(here.groups, ds, strict=True)
            ]
        )
        found[f"bias_l{layer}"] = both.sum(0)
        w_ih = real(params[f"weight_ih_l{layer}"], weight_bits)
        down = matmul(both, w_ih).reshape(*operand.shape)
        if here.input is not None:
            if steps.gains is not None:  # GRAD-016
                down = down * real(steps.gains[:, layer - 1], GAIN_BITS)
            down = jnp.where(here.input.passes, down, 0)
    assert down is not None
    if steps.x.dtype == jnp.float32:  # GRAD-002
        down = jnp.where(quantise_passes("operand", steps.x, config.formats), down, 0)
    return Gradients(down, tuple(h_before), tuple(c_before) if c is not None else None, found)


def _hidden_gradient(config: Config, slopes: Slopes, ds: jax.Array) -> jax.Array:
    """Return one group's part of the gradient of ``weight_hh``, ``[N·G, G]`` (GRAD-014)."""
    ds, v = _flat(ds), _flat(real(slopes.v, config.view_bits))
    if isinstance(slopes, LstmSlopes):
        return matmul(ds.T, v)
    seen = 2 * config.group_size
    u = _flat(real(slopes.u, config.view_bits))
    return jnp.concatenate([matmul(ds[:, :seen].T, v), matmul(ds[:, seen:].T, u)])


def _flat(v: jax.Array) -> jax.Array:
    """Return ``[C, B, F]`` as ``[C·B, F]``."""
    return v.reshape(-1, v.shape[2])
