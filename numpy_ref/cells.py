"""RevGRU and RevLSTM: one group, forward and back (CELL).

A group is updated from its layer's input and the other group. Its gates are computed once, by
:func:`gates_of`; :func:`update` and :func:`undo` are the same lines forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from revrnn.config import Config

from .activations import ForgetGate, forget_gate, sigmoid, tanh
from .buffer import Buffer
from .product import preactivation, product
from .quantise import round_shift, view, wrap32
from .revmul import active_units, revmul, revmul_inverse

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupWeights:
    """The weights of one group of one layer, by gate: ``[G, I_k]``, ``[G, G]`` and ``[G]``."""

    layer: int
    w_ih: dict[str, Ints]
    w_hh: dict[str, Ints]
    bias: dict[str, Ints]


def group_weights(
    config: Config, params: Mapping[str, npt.NDArray[Any]], layer: int, group: int
) -> GroupWeights:
    """Cut the rows of group 0 or 1 out of a layer's parameters (CELL-003)."""
    units = config.group_size

    def rows(name: str) -> dict[str, Ints]:
        array = params[f"{name}_l{layer}"].astype(np.int64)
        start = group * config.num_gates * units
        return {
            gate: array[start + q * units : start + (q + 1) * units]
            for q, gate in enumerate(config.gates)
        }

    return GroupWeights(layer, rows("weight_ih"), rows("weight_hh"), rows("bias"))


class GruGates(NamedTuple):
    """RevGRU's gates and operands, exact integers ``[B, G]``."""

    z: ForgetGate
    r: Ints
    g: Ints
    v: Ints
    u: Ints


class LstmGates(NamedTuple):
    """RevLSTM's gates and operand, integers ``[B, G]``; ``f`` and ``p`` only if it forgets."""

    f: ForgetGate | None
    i: Ints
    g: Ints
    o: Ints
    p: ForgetGate | None
    v: Ints


def gates_of(config: Config, weights: GroupWeights, x: Ints, other: Ints) -> GruGates | LstmGates:
    """Return a group's gates from the layer's input and the other group (CELL-010, 011, 020)."""
    if config.cell == "revgru":
        return _gru_gates(config, weights, x, other)
    return _lstm_gates(config, weights, x, other)


def _sum(config: Config, weights: GroupWeights, gate: str, x: Ints, v: Ints) -> Ints:
    return preactivation(
        product(x, weights.w_ih[gate]),
        config.layer_input_bits(weights.layer),
        product(v, weights.w_hh[gate]),
        config.view_bits,
        weights.bias[gate],
        config.formats.operand_bits,
    )


def _forget(config: Config, s: Ints, cap: int) -> ForgetGate:
    return forget_gate(s, config.formats.sum_bits, config.max_forget_bits, cap)


def _gru_gates(config: Config, weights: GroupWeights, x: Ints, other: Ints) -> GruGates:
    bits = config.formats.sum_bits
    v = view(other, config.formats.state_bits, config.view_bits)
    z = _forget(config, _sum(config, weights, "z", x, v), config.resolved_z_max)  # CELL-010
    r = sigmoid(_sum(config, weights, "r", x, v), bits)
    u = round_shift(r * v, 15)  # CELL-011
    g = tanh(_sum(config, weights, "g", x, u), bits)
    return GruGates(z, r, g, v, u)


def _lstm_gates(config: Config, weights: GroupWeights, x: Ints, other: Ints) -> LstmGates:
    # CELL-020
    bits = config.formats.sum_bits
    v = view(other, config.formats.state_bits, config.view_bits)
    i = sigmoid(_sum(config, weights, "i", x, v), bits)
    g = tanh(_sum(config, weights, "g", x, v), bits)
    o = sigmoid(_sum(config, weights, "o", x, v), bits)
    if not config.forgetting:  # CELL-031
        return LstmGates(None, i, g, o, None, v)
    f = _forget(config, _sum(config, weights, "f", x, v), config.resolved_z_max)
    p = _forget(config, _sum(config, weights, "p", x, v), config.resolved_p_max)  # FMT-007
    return LstmGates(f, i, g, o, p, v)


def gru_update(config: Config, gates: GruGates) -> Ints:
    """Return what CELL-012 adds to h."""
    return round_shift((1024 - gates.z.z) * gates.g, 25 - config.formats.state_bits)


def cell_state_update(config: Config, gates: LstmGates) -> Ints:
    """Return what CELL-021 adds to c."""
    return round_shift(gates.i * gates.g, 30 - config.formats.state_bits)


def hidden_update(config: Config, gates: LstmGates, c: Ints) -> Ints:
    """Return what CELL-022 adds to h, from the new cell state."""
    bits = config.formats.state_bits
    return round_shift(gates.o * tanh(c, bits), 30 - bits)


@dataclass
class Context:
    """What a step works with and counts.

    Attributes:
        config: the stack's configuration.
        rows: ``[B]``, which rows have this step (SEQ-002).
        buffer: the buffer, or ``None`` without forgetting.
        gains: ``[L-1, B, H]``, the step's gains between layers, or ``None`` (SEQ-012).
        wraps: number of wraps so far (MUL-006).
        gate_counts: histogram of the gates of active units so far (ACC-001).
    """

    config: Config
    rows: Bools
    buffer: Buffer | None
    gains: Ints | None = None
    wraps: int = 0
    gate_counts: Ints = field(default_factory=lambda: np.zeros(1025, np.int64))


def update(
    context: Context, gates: GruGates | LstmGates, slice_size: int, h: Ints, c: Ints | None
) -> tuple[Ints, Ints | None]:
    """Return a group's new ``h`` and ``c``, each ``[B, G]`` (CELL-012, 021, 022, 030, 031)."""
    if isinstance(gates, GruGates):
        return _add(context, h, gates.z, slice_size, gru_update(context.config, gates)), None
    assert c is not None
    c = _add(context, c, gates.f, 0, cell_state_update(context.config, gates))
    h = _add(context, h, gates.p, slice_size, hidden_update(context.config, gates, c))
    return h, c


def undo(
    context: Context,
    gates: GruGates | LstmGates,
    slice_size: int,
    restore: Ints,
    h: Ints,
    c: Ints | None,
) -> tuple[Ints, Ints | None]:
    """Return a group's old ``h`` and ``c`` (CELL-040)."""
    if isinstance(gates, GruGates):
        change = gru_update(context.config, gates)
        return _subtract(context, h, gates.z, slice_size, restore, change), None
    assert c is not None
    change = hidden_update(context.config, gates, c)
    h = _subtract(context, h, gates.p, slice_size, restore, change)
    c = _subtract(context, c, gates.f, 0, restore[:, :0], cell_state_update(context.config, gates))
    return h, c


def _add(context: Context, h: Ints, gate: ForgetGate | None, slice_size: int, change: Ints) -> Ints:
    product = h  # CELL-030, CELL-031: without forgetting
    if context.buffer is not None:
        assert gate is not None
        product = revmul(h, gate.z, context.rows, slice_size, context.buffer)
        active = active_units(context.rows, h.shape[1], slice_size)
        context.gate_counts += np.bincount(gate.z[active], minlength=1025)
    total = product + change
    # MUL-006
    context.wraps += int((context.rows[:, None] & (wrap32(total) != total)).sum())
    return np.where(context.rows[:, None], wrap32(total), h)


def _subtract(
    context: Context, h: Ints, gate: ForgetGate | None, slice_size: int, restore: Ints, change: Ints
) -> Ints:
    product = np.where(context.rows[:, None], wrap32(h - change), h)
    if context.buffer is None:
        return product
    assert gate is not None
    return revmul_inverse(product, gate.z, context.rows, slice_size, restore, context.buffer)
