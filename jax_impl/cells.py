"""RevGRU and RevLSTM: one group, forward and back (CELL).

A group is updated from its layer's input and the other group. Its gates are computed once, by
:func:`gates_of`; :func:`update` and :func:`undo` are the same lines forwards and backwards. All
integers are int32 except the sums of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config

from .activations import ForgetGate, forget_gate, saturate, sigmoid, sigmoid_of_tanh, tanh
from .buffer import Buffer
from .isolate import isolated
from .product import factor, multiply, preactivation
from .quantise import add_wraps, round_shift, view
from .revmul import active_units, revmul, revmul_inverse


class GroupWeights(NamedTuple):
    """What one group of one layer multiplies its operands by; prepared by :func:`factor`.

    Attributes:
        w_v: ``[n·G, G]``, the rows of ``weight_hh`` of the n gates that look at the view ``v``.
        w_u: ``[G, G]``, the rows of RevGRU's ``g``, which looks at ``u``; ``None`` for RevLSTM.
        bias: int32 ``[N·G]``.
    """

    w_v: jax.Array
    w_u: jax.Array | None
    bias: jax.Array


class LayerWeights(NamedTuple):
    """The prepared weights of a layer: ``w_ih`` of both groups, ``[N·H, I_k]``, and the groups."""

    w_ih: jax.Array
    groups: tuple[GroupWeights, GroupWeights]


def layer_weights(
    config: Config, params: Mapping[str, jax.Array], layer: int, method: str
) -> LayerWeights:
    """Prepare a layer's parameters (CELL-003); ``method`` is that of :func:`factor`."""
    size = config.num_gates * config.group_size  # rows of one group

    def group(start: int) -> GroupWeights:
        w_hh = params[f"weight_hh_l{layer}"][start : start + size]
        bias = params[f"bias_l{layer}"][start : start + size]
        if config.cell == "revlstm":
            return GroupWeights(factor(w_hh, method), None, bias)
        seen = 2 * config.group_size  # the rows of z and r; those of g follow (CELL-002)
        return GroupWeights(factor(w_hh[:seen], method), factor(w_hh[seen:], method), bias)

    return LayerWeights(factor(params[f"weight_ih_l{layer}"], method), (group(0), group(size)))


class GruGates(NamedTuple):
    """RevGRU's gates and operands, int32 ``[B, G]``."""

    z: ForgetGate
    r: jax.Array
    g: jax.Array
    v: jax.Array
    u: jax.Array


class LstmGates(NamedTuple):
    """RevLSTM's gates and operand, int32 ``[B, G]``; ``f`` and ``p`` only if it forgets."""

    f: ForgetGate | None
    i: jax.Array
    g: jax.Array
    o: jax.Array
    p: ForgetGate | None
    v: jax.Array


Gates = GruGates | LstmGates


def gates_of(
    config: Config, weights: GroupWeights, layer: int, x_part: jax.Array, other: jax.Array
) -> Gates:
    """Return a group's gates (CELL-010, 011, 020).

    Args:
        config: the stack.
        weights: the group's weights.
        layer: which layer it is.
        x_part: the products of the layer's input with the group's rows, int64 ``[B, N·G]``.
        other: the other group's ``h``, int32 ``[B, G]``.
    """
    # Isolated, or XLA would look the gates up in the table again for every array they go into.
    make = _gru_gates if config.cell == "revgru" else _lstm_gates
    gates: Gates = make((config, layer), weights, x_part, other)
    return gates


def _sum(
    config: Config, layer: int, x_part: jax.Array, v_part: jax.Array, bias: jax.Array
) -> jax.Array:
    return preactivation(
        x_part,
        config.layer_input_bits(layer),
        v_part,
        config.view_bits,
        bias,
        config.formats.operand_bits,
    )


def _forget(config: Config, sigma: jax.Array, cap: int) -> ForgetGate:
    return forget_gate(sigma, config.max_forget_bits, cap)


@isolated
def _gru_gates(
    static: tuple[Config, int], weights: GroupWeights, x_part: jax.Array, other: jax.Array
) -> GruGates:
    config, layer = static
    assert weights.w_u is not None
    bits, units, bias = config.formats.sum_bits, config.group_size, weights.bias
    seen = 2 * units
    v = view(other, config.formats.state_bits, config.view_bits)
    # CELL-010: the rows of z, then those of r
    s = _sum(config, layer, x_part[:, :seen], multiply(v, weights.w_v), bias[:seen])
    sigma = sigmoid(saturate(s), bits)
    z, r = _forget(config, sigma[:, :units], config.resolved_z_max), sigma[:, units:]
    u = round_shift(r * v, 15)  # CELL-011, below 2^30
    s = _sum(config, layer, x_part[:, seen:], multiply(u, weights.w_u), bias[seen:])
    return GruGates(z, r, tanh(saturate(s), bits), v, u)


@isolated
def _lstm_gates(
    static: tuple[Config, int], weights: GroupWeights, x_part: jax.Array, other: jax.Array
) -> LstmGates:
    config, layer = static
    # CELL-020
    bits, units = config.formats.sum_bits, config.group_size
    v = view(other, config.formats.state_bits, config.view_bits)
    s = _sum(config, layer, x_part, multiply(v, weights.w_v), weights.bias)
    # One look at the table for all gates: tanh(s, R) is tanh(2·s, R+1), of which σ(s) is made.
    twice = np.repeat(np.array([gate == "g" for gate in config.gates], np.int32), units)
    tanhs = tanh(saturate(s << twice.astype(s.dtype)), bits + 1)
    sigmas = sigmoid_of_tanh(tanhs)
    columns = {q: slice(k * units, (k + 1) * units) for k, q in enumerate(config.gates)}
    i, g, o = sigmas[:, columns["i"]], tanhs[:, columns["g"]], sigmas[:, columns["o"]]
    if not config.forgetting:  # CELL-031
        return LstmGates(None, i, g, o, None, v)
    f = _forget(config, sigmas[:, columns["f"]], config.resolved_z_max)
    p = _forget(config, sigmas[:, columns["p"]], config.resolved_p_max)  # FMT-007
    return LstmGates(f, i, g, o, p, v)


def gru_update(config: Config, gates: GruGates) -> jax.Array:
    """Return what CELL-012 adds to h; for CELL-030 too."""
    return round_shift((1024 - gates.z.z) * gates.g, 25 - config.formats.state_bits)


def cell_state_update(config: Config, gates: LstmGates) -> jax.Array:
    """Return what CELL-021 adds to c."""
    return round_shift(gates.i * gates.g, 30 - config.formats.state_bits)


def hidden_update(config: Config, gates: LstmGates, c: jax.Array) -> jax.Array:
    """Return what CELL-022 adds to h, from the new cell state."""
    bits = config.formats.state_bits
    return round_shift(gates.o * tanh(c, bits), 30 - bits)


class Context(NamedTuple):
    """What a step works with and counts.

    Attributes:
        rows: bool ``[B]``, which rows have this step (SEQ-002).
        buffer: the buffer, or ``None`` without forgetting.
        wraps: number of wraps so far, int32 (MUL-006).
        gate_counts: int64 ``[1025]``, how often each gate of an active unit occurred (ACC-001), or
            ``None`` where they are not counted.
    """

    rows: jax.Array
    buffer: Buffer | None
    wraps: jax.Array
    gate_counts: jax.Array | None


def update(
    config: Config,
    context: Context,
    gates: Gates,
    slice_size: int,
    h: jax.Array,
    c: jax.Array | None,
) -> tuple[Context, jax.Array, jax.Array | None]:
    """Return a group's new ``h`` and ``c``, each ``[B, G]`` (CELL-012, 021, 022, 030, 031)."""
    if isinstance(gates, GruGates):
        context, h = _add(config, context, h, gates.z, slice_size, gru_update(config, gates))
        return context, h, None
    assert c is not None
    context, c = _add(config, context, c, gates.f, 0, cell_state_update(config, gates))
    context, h = _add(config, context, h, gates.p, slice_size, hidden_update(config, gates, c))
    return context, h, c


def undo(
    config: Config,
    context: Context,
    gates: Gates,
    restore: jax.Array,
    h: jax.Array,
    c: jax.Array | None,
) -> tuple[Context, jax.Array, jax.Array | None]:
    """Return a group's old ``h`` and ``c`` (CELL-040); ``restore`` ``[B, D]``: what was sliced."""
    if isinstance(gates, GruGates):
        change = gru_update(config, gates)
        context, h = _subtract(context, h, gates.z, restore, change)
        return context, h, None
    assert c is not None
    change = hidden_update(config, gates, c)
    context, h = _subtract(context, h, gates.p, restore, change)
    change = cell_state_update(config, gates)
    context, c = _subtract(context, c, gates.f, restore[:, :0], change)
    return context, h, c


def _add(
    config: Config,
    context: Context,
    h: jax.Array,
    gate: ForgetGate | None,
    slice_size: int,
    change: jax.Array,
) -> tuple[Context, jax.Array]:
    rows, product = context.rows[:, None], h
    if context.buffer is not None:
        assert gate is not None
        buffer, product = revmul(h, gate.z, context.rows, slice_size, context.buffer)
        counts = context.gate_counts
        if counts is not None:
            active = active_units(context.rows, h.shape[1], slice_size)
            counts = counts.at[gate.z].add(active.astype(jnp.int64), mode="promise_in_bounds")
        context = context._replace(buffer=buffer, gate_counts=counts)
    total, wrapped = add_wraps(product, change)
    # MUL-006; FMT-006 proves where there are none
    if config.can_wrap:
        wraps = context.wraps + jnp.sum(rows & wrapped, dtype=jnp.int32)
        context = context._replace(wraps=wraps)
    return context, jnp.where(rows, total, h)


def _subtract(
    context: Context, h: jax.Array, gate: ForgetGate | None, restore: jax.Array, change: jax.Array
) -> tuple[Context, jax.Array]:
    product = jnp.where(context.rows[:, None], h - change, h)  # XLA's int32 wraps (GEN-006)
    if context.buffer is None:
        return context, product
    assert gate is not None
    buffer, h = revmul_inverse(
        product, gate.z, context.rows, restore.shape[1], restore, context.buffer
    )
    return context._replace(buffer=buffer), h
