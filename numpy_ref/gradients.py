"""Gradients by reversal, or from stored states, in float64 (GRAD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import FORGET_BITS, GAIN_BITS, GATE_BITS

from .activations import ForgetGate, tanh
from .buffer import Buffer, make_buffer
from .cells import GruGates, LstmGates
from .quantise import view_passes
from .sequence import Params, Stack, State, gain_passes, sequence_forward, sequence_reverse

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


@dataclass
class Gradients:
    """Gradients of a loss with respect to the real numbers that integers stand for.

    Attributes:
        x: ``[T, B, I]``.
        h: of the initial state, ``[L, B, H]``; before the pass is over, of the present one.
        c: the same for ``c``, or ``None``.
        params: by parameter name.
    """

    x: Floats
    h: Floats
    c: Floats | None
    params: dict[str, Floats]


def real(v: Ints, bits: int) -> Floats:
    """Return the real number that ``v`` stands for (GEN-004)."""
    return v.astype(np.float64) * 2.0**-bits


def sigmoid_slope(y: Ints) -> Floats:
    """Return the derivative of the sigmoid at its value ``y`` (GRAD-010)."""
    value = real(y, GATE_BITS)
    return value * (1 - value)


def tanh_slope(y: Ints) -> Floats:
    """Return the derivative of tanh at its value ``y`` (GRAD-010)."""
    return 1 - real(y, GATE_BITS) ** 2


def forget_slope(config: Config, gate: ForgetGate) -> Floats:
    """Return the derivative of a forget gate with respect to its pre-activation (GRAD-010)."""
    n = config.max_forget_bits
    slope = 1.0 if n is None else 1 - 2.0**-n
    return slope * sigmoid_slope(gate.sigma) * gate.passes


class _GroupBackward:
    """One group's step back: from the gradient of its new state to all others."""

    def __init__(
        self, stack: Stack, layer: int, group: int, x: Ints, rows: Bools, out: Gradients
    ) -> None:
        self.config, self.weights = stack.config, stack.weights[layer][group]
        self.group, self.rows, self.out = group, rows, out
        self.x = real(x, self.config.layer_input_bits(layer))
        self.dx: Floats = np.zeros_like(self.x)

    def product(self, gate: str, ds: Floats, operand: Ints) -> Floats:
        """Take the gradient of a gate's pre-activation to its operands and weights (GRAD-014)."""
        ds = np.where(self.rows[:, None], ds, 0.0)  # GRAD-015
        config, layer = self.config, self.weights.layer
        units = config.group_size
        start = (self.group * config.num_gates + config.gates.index(gate)) * units
        rows = slice(start, start + units)
        params = self.out.params
        params[f"weight_ih_l{layer}"][rows] += ds.T @ self.x
        params[f"weight_hh_l{layer}"][rows] += ds.T @ real(operand, config.view_bits)
        params[f"bias_l{layer}"][rows] += ds.sum(0)
        self.dx += ds @ real(self.weights.w_ih[gate], config.formats.weight_bits)
        d_operand: Floats = ds @ real(self.weights.w_hh[gate], config.formats.weight_bits)
        return d_operand

    def gru(self, gates: GruGates, h: Ints, dh: Floats) -> tuple[Floats, Floats]:
        """Return the gradients of the old ``h`` and of the view (GRAD-012)."""
        config = self.config
        z, g = real(gates.z.z, FORGET_BITS), real(gates.g, GATE_BITS)
        kept = real(h, config.formats.state_bits) if config.forgetting else np.zeros_like(g)
        dz = dh * (kept - g)
        du = self.product("g", dh * (1 - z) * tanh_slope(gates.g), gates.u)
        dr = du * real(gates.v, config.view_bits)
        dv = du * real(gates.r, GATE_BITS)
        dv += self.product("z", dz * forget_slope(config, gates.z), gates.v)
        dv += self.product("r", dr * sigmoid_slope(gates.r), gates.v)
        return (dh * z if config.forgetting else dh), dv  # GRAD-011

    def lstm(
        self, gates: LstmGates, h: Ints, c: Ints, new_c: Ints, dh: Floats, dc: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return the gradients of the old ``h``, the old ``c`` and the view (GRAD-013)."""
        config = self.config
        bits = config.formats.state_bits
        i, g, o = (real(v, GATE_BITS) for v in (gates.i, gates.g, gates.o))
        t = tanh(new_c, bits)
        dc = dc + dh * o * tanh_slope(t)
        dv = self.product("i", dc * g * sigmoid_slope(gates.i), gates.v)
        dv += self.product("g", dc * i * tanh_slope(gates.g), gates.v)
        dv += self.product("o", dh * real(t, GATE_BITS) * sigmoid_slope(gates.o), gates.v)
        if gates.f is None or gates.p is None:  # GRAD-011 only where something is forgotten
            return dh, dc, dv
        dv += self.product("f", dc * real(c, bits) * forget_slope(config, gates.f), gates.v)
        dv += self.product("p", dh * real(h, bits) * forget_slope(config, gates.p), gates.v)
        return dh * real(gates.p.z, FORGET_BITS), dc * real(gates.f.z, FORGET_BITS), dv


def _group_backward(
    stack: Stack,
    layer: int,
    group: int,
    gates: GruGates | LstmGates,
    x: Ints,
    rows: Bools,
    before: State,
    new_c: Ints | None,
    grads: Gradients,
) -> Floats:
    """Carry ``grads`` back over one group's update; return the gradient of the layer's input."""
    config = stack.config
    work = _GroupBackward(stack, layer, group, x, rows, grads)
    units = config.group_size
    own, other = (slice(g * units, (g + 1) * units) for g in (group, 1 - group))
    h, c = before.group(layer, group)
    dh = grads.h[layer][:, own]
    keep = rows[:, None]
    if isinstance(gates, GruGates):
        dh_old, dv = work.gru(gates, h, dh)
    else:
        assert c is not None
        assert new_c is not None
        assert grads.c is not None
        dc = grads.c[layer][:, own]
        dh_old, dc_old, dv = work.lstm(gates, h, c, new_c, dh, dc)
        grads.c[layer][:, own] = np.where(keep, dc_old, dc)
    grads.h[layer][:, own] = np.where(keep, dh_old, dh)
    h_other, _ = before.group(layer, 1 - group)
    passes = view_passes(h_other, config.formats.state_bits, config.view_bits)  # GRAD-002
    grads.h[layer][:, other] += np.where(keep, dv * passes, 0.0)
    return work.dx


def _between(before: State, after: State, layer: int, group: int) -> State:
    """Return the state just before a group's update, from those around the step (SEQ-001)."""
    state = after.copy()
    for later in range(layer, len(state.h)):
        for g in (0, 1):
            if (later, g) >= (layer, group):
                state.set_group(later, g, *before.group(later, g))
    return state


def _step_backward(
    stack: Stack,
    t: int,
    x: Ints,
    rows: Bools,
    before: State,
    after: State,
    grads: Gradients,
    gains: Ints | None,
) -> None:
    """Carry ``grads`` back over one step, from the states before and after it."""
    config = stack.config
    for layer in reversed(range(config.num_layers)):
        for group in (1, 0):
            state = _between(before, after, layer, group)
            gates = stack.gates(x, state, layer, group, gains)
            layer_x = stack.layer_input(x, state, layer, gains)
            new_c = after.group(layer, group)[1]
            dx = _group_backward(stack, layer, group, gates, layer_x, rows, state, new_c, grads)
            if layer == 0:
                grads.x[t] += dx
            else:
                below = state.h[layer - 1]
                if gains is not None:  # GRAD-016
                    gain, a = gains[layer - 1], stack.layer_input(x, state, layer, None)
                    dx = dx * real(gain, GAIN_BITS) * gain_passes(a, gain)
                passes = view_passes(below, config.formats.state_bits, config.view_bits)
                grads.h[layer - 1] += dx * passes


def sequence_gradient(
    config: Config,
    params: Params,
    x: Ints,
    mask: Bools,
    state: State,
    heads: Ints | None,
    grad_outputs: npt.NDArray[Any],
    grad_h: npt.NDArray[Any],
    grad_c: npt.NDArray[Any] | None,
    states: str,
    gains: Ints | None = None,
) -> Gradients:
    """Return the gradients of a loss, given those of outputs ``[T, B, H]`` and final state.

    Args:
        config: the stack.
        params: its parameters in fixed point.
        x: input operand ``[T, B, I]``.
        mask: ``[T, B]``.
        state: the initial state.
        heads: the initial heads, or ``None`` without forgetting.
        grad_outputs: gradient with respect to the outputs.
        grad_h: with respect to the final ``h``.
        grad_c: with respect to the final ``c``.
        states: ``"reversed"`` recovers the states from the buffer, ``"stored"`` keeps them; the
            results are equal (GRAD-020).
        gains: ``[T, L-1, B, H]`` or ``None`` (SEQ-012).

    Raises:
        RevRNNError: ``E_REVERSAL`` if the reversal does not end where the sequence began (SEQ-009).
    """
    buffer = None if heads is None else make_buffer(config.buffer, heads)
    forward = sequence_forward(config, params, x, mask, state, buffer, gains)
    stack = Stack(config, params)
    grads = Gradients(
        np.zeros(x.shape),
        grad_h.astype(np.float64),
        None if grad_c is None else grad_c.astype(np.float64),
        {name: np.zeros(shape) for name, shape in config.parameter_shapes().items()},
    )
    if states == "reversed":
        earlier = sequence_reverse(
            config, params, x, mask, forward.state, buffer, forward.slices, gains
        )
    else:
        earlier = iter([*forward.states[-2::-1], state][: len(x)])
    after = forward.state
    for t, before in zip(reversed(range(len(x))), earlier, strict=True):
        grads.h[-1] += grad_outputs[t]
        gain = None if gains is None else gains[t]
        _step_backward(stack, t, x[t], mask[t], before, after, grads, gain)
        after = before.copy()
    if states == "reversed":
        check_reversal(after, state, buffer, heads)
    return grads


def check_reversal(reached: State, start: State, buffer: Buffer | None, heads: Ints | None) -> None:
    """Raise ``E_REVERSAL`` unless state and buffer are those at the start (SEQ-009)."""
    same = np.array_equal(reached.h, start.h)
    if reached.c is not None and start.c is not None:
        same = same and np.array_equal(reached.c, start.c)
    if buffer is not None and heads is not None:
        same = same and np.array_equal(buffer.heads, heads) and buffer.words_count() == 0
    if not same:
        raise RevRNNError("E_REVERSAL", "state", "another state or buffer", "those at the start")
