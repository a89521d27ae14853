"""RevGRU and RevLSTM: one group, forward and back (CELL).

A group is updated from its layer's input and the other group. Its gates are computed once, by
:func:`gates_of`; :func:`update` and :func:`undo` are the same lines forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from revrnn.config import Config

from .activations import ForgetGate, forget_gate, tanh
from .buffer import Buffer
from .product import Weight
from .quantise import round_shift, view
from .revmul import active_units, revmul, revmul_inverse


class LayerWeights:
    """The parameters of one layer in fixed point, ready for exact products (CELL-003).

    Attributes:
        w_ih: both groups' input weights, ``[2·N·G, I_k]``.
        w_hh: by group, the recurrent weights of all gates that see the view.
        w_u: by group, RevGRU's candidate, which sees ``u`` instead.
        bias: int64 ``[2·N·G]``.
    """

    def __init__(self, config: Config, params: Mapping[str, Tensor], layer: int) -> None:
        """Take int16 weights and int32 biases by name."""
        units, rows = config.group_size, config.num_gates * config.group_size
        self.w_ih = Weight(params[f"weight_ih_l{layer}"])
        self.bias = params[f"bias_l{layer}"].to(torch.int64)
        both = params[f"weight_hh_l{layer}"]
        groups = [both[:rows], both[rows:]]
        if config.cell == "revgru":
            self.w_hh = [Weight(w[: 2 * units]) for w in groups]
            self.w_u = [Weight(w[2 * units :]) for w in groups]
        else:
            self.w_hh = [Weight(w) for w in groups]
        self.x_shift = config.formats.operand_bits - config.layer_input_bits(layer)

    def input_part(self, x: Tensor) -> Tensor:
        """Return what input and bias give to all gates, int64 ``[M, 2, N·G]`` (PROD-004)."""
        part = self.w_ih.product(x)
        if self.x_shift:
            part <<= self.x_shift
        return part.add_(self.bias).view(len(x), 2, -1)


class GruGates(NamedTuple):
    """RevGRU's gates and operands, exact int32 ``[B, G]``."""

    z: ForgetGate
    r: Tensor
    g: Tensor
    v: Tensor
    u: Tensor


class LstmGates(NamedTuple):
    """RevLSTM's gates and operand, int32 ``[B, G]``; ``f`` and ``p`` only if it forgets.

    ``sigma`` holds the sigmoids of all gates side by side, in the order of CELL-002 (the
    candidate's place is unused).
    """

    f: ForgetGate | None
    i: Tensor
    g: Tensor
    o: Tensor
    p: ForgetGate | None
    v: Tensor
    sigma: Tensor


Gates = GruGates | LstmGates


def gates_of(
    config: Config, weights: LayerWeights, group: int, x_part: Tensor, other: Tensor
) -> Gates:
    """Return a group's gates (CELL-010, CELL-011, CELL-020).

    Args:
        config: the stack.
        weights: the layer's weights.
        group: 0 or 1.
        x_part: the group's share of the input's and bias's part, int64 ``[B, N·G]``.
        other: the other group's ``h``, int32 ``[B, G]``.
    """
    v = view(other, config.formats.state_bits, config.view_bits)
    if config.cell == "revgru":
        return _gru_gates(config, weights, group, x_part, v)
    return _lstm_gates(config, weights, group, x_part, v)


def _forget(config: Config, sigma: Tensor, cap: int) -> ForgetGate:
    return forget_gate(sigma, config.max_forget_bits, cap)


def _sigmoids(s: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return tanh of half of ``s`` and from it the sigmoid (ACT-003)."""
    t = tanh(s, bits + 1)
    return t, (t + 2**15) >> 1


def _gru_gates(
    config: Config, weights: LayerWeights, group: int, x_part: Tensor, v: Tensor
) -> GruGates:
    bits, units = config.formats.sum_bits, config.group_size
    s = weights.w_hh[group].product(v) + x_part[:, : 2 * units]
    _, sigma = _sigmoids(s, bits)
    z = _forget(config, sigma[:, :units], config.resolved_z_max)  # CELL-010
    r = sigma[:, units:]
    u = round_shift(r * v, 15)  # CELL-011; below 2^30
    g = tanh(weights.w_u[group].product(u) + x_part[:, 2 * units :], bits)
    return GruGates(z, r, g, v, u)


def _lstm_gates(
    config: Config, weights: LayerWeights, group: int, x_part: Tensor, v: Tensor
) -> LstmGates:
    # CELL-020
    bits, units = config.formats.sum_bits, config.group_size
    s = weights.w_hh[group].product(v)
    shift = config.formats.operand_bits - config.view_bits
    s = (s << shift) + x_part if shift else s + x_part
    at = {gate: slice(q * units, (q + 1) * units) for q, gate in enumerate(config.gates)}
    # tanh(s, R) = tanh(2s, R+1), so that one look-up serves all gates.
    s[:, at["g"]] <<= 1
    t, sigma = _sigmoids(s, bits)
    i, g, o = sigma[:, at["i"]], t[:, at["g"]], sigma[:, at["o"]]
    if not config.forgetting:  # CELL-031
        return LstmGates(None, i, g, o, None, v, sigma)
    f = _forget(config, sigma[:, at["f"]], config.resolved_z_max)
    p = _forget(config, sigma[:, at["p"]], config.resolved_p_max)  # FMT-007
    return LstmGates(f, i, g, o, p, v, sigma)


def gru_update(config: Config, gates: GruGates) -> Tensor:
    """Return what CELL-012 adds to h, int32."""
    return round_shift((1024 - gates.z.z) * gates.g, 25 - config.formats.state_bits)


def cell_state_update(config: Config, gates: LstmGates) -> Tensor:
    """Return what CELL-021 adds to c, int32."""
    return round_shift(gates.i * gates.g, 30 - config.formats.state_bits)


def hidden_update(config: Config, gates: LstmGates, t: Tensor) -> Tensor:
    """Return what CELL-022 adds to h, int32, from ``t = tanh(c')``."""
    return round_shift(gates.o * t, 30 - config.formats.state_bits)


@dataclass
class Context:
    """What a step works with and counts.

    Attributes:
        config: the stack's configuration.
        rows: bool ``[B, 1]``, which rows have this step, or ``None`` for all (SEQ-002).
        buffer: the buffer, or ``None`` without forgetting.
        gains: int32 ``[L−1, B, H]``, the gains between layers, or ``None`` (SEQ-012).
        wraps: number of wraps so far, int64 ``[]``, or ``None`` where none can be (FMT-006).
        gate_counts: by layer, histograms of the gates of active units, int64 ``[L, 1025]``, or
            ``None`` (ACC-001).
        pushed: words (planes) that each layer pushed, int64 ``[L]``, counted with the gates.
    """

    config: Config
    rows: Tensor | None
    buffer: Buffer | None
    gains: Tensor | None = None
    wraps: Tensor | None = None
    gate_counts: Tensor | None = None
    pushed: Tensor | None = None


def update(
    context: Context, layer: int, gates: Gates, slice_size: int, h: Tensor, c: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return a group's new ``h`` and ``c``, int32 ``[B, G]`` (CELL-012, 021, 022, 030, 031)."""
    config = context.config
    if isinstance(gates, GruGates):
        return _add(context, layer, h, gates.z, slice_size, gru_update(config, gates)), None
    assert c is not None
    c = _add(context, layer, c, gates.f, 0, cell_state_update(config, gates))
    t = tanh(c, config.formats.state_bits)
    return _add(context, layer, h, gates.p, slice_size, hidden_update(config, gates, t)), c


def undo(
    context: Context,
    gates: Gates,
    slice_size: int,
    restore: Tensor | None,
    h: Tensor,
    c: Tensor | None,
    t: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Return a group's old ``h`` and ``c`` (CELL-040).

    Args:
        context: what the step works with.
        gates: the group's gates.
        slice_size: how many units are sliced.
        restore: their old values ``[B, D]``.
        h: the new ``h``.
        c: the new ``c``.
        t: ``tanh(c)`` of the new ``c``, int32.
    """
    config = context.config
    if isinstance(gates, GruGates):
        change = gru_update(config, gates)
        return _subtract(context, h, gates.z, slice_size, restore, change), None
    assert c is not None
    assert t is not None
    change = hidden_update(config, gates, t)
    h = _subtract(context, h, gates.p, slice_size, restore, change)
    return h, _subtract(context, c, gates.f, 0, None, cell_state_update(config, gates))


def _add(
    context: Context,
    layer: int,
    h: Tensor,
    gate: ForgetGate | None,
    slice_size: int,
    change: Tensor,
) -> Tensor:
    product = h  # CELL-030, CELL-031: without forgetting
    if context.buffer is not None:
        assert gate is not None
        active = active_units(context.rows, h.shape[1], slice_size, h)
        top = context.buffer.stored.top
        product = revmul(h, gate.z, active, context.buffer)
        if context.gate_counts is not None and context.pushed is not None:
            _count(context.gate_counts[layer], gate.z, active)
            context.pushed[layer] += (context.buffer.stored.top - top)[0]
    total = product + change  # int32 wraps (MUL-006)
    if context.wraps is not None:
        # The sum wrapped where both parts have one sign and the sum the other.
        wrapped = ((product ^ total) & (change ^ total)) < 0
        if context.rows is not None:
            wrapped = wrapped & context.rows
        context.wraps += wrapped.sum()
    return total if context.rows is None else torch.where(context.rows, total, h)


def _count(gate_counts: Tensor, z: Tensor, active: Tensor | None) -> None:
    # Inactive units are counted as 0, which is no gate.
    counted = z if active is None else z * active
    counts = torch.bincount(counted.flatten(), minlength=1025)
    counts[0] = 0
    gate_counts += counts


def _subtract(
    context: Context,
    h: Tensor,
    gate: ForgetGate | None,
    slice_size: int,
    restore: Tensor | None,
    change: Tensor,
) -> Tensor:
    old = h - change
    if context.buffer is not None:
        assert gate is not None
        active = active_units(context.rows, h.shape[1], slice_size, h)
        old = revmul_inverse(old, gate.z, active, context.buffer)
        if slice_size:
            assert restore is not None
            old[:, :slice_size] = restore
    return old if context.rows is None else torch.where(context.rows, old, h)
