"""Gradients by reversal, or from stored states, in float32 (GRAD).

A chunk of steps at a time: what depends on the states alone is computed for all its steps at once;
then the gradients are carried back step by step; then those of the parameters are one product each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.formats import FORGET_BITS, GATE_BITS

from .activations import ForgetGate
from .cells import GruGates
from .quantise import view_passes
from .sequence import GAIN_BITS, Groups, GroupStep, Schedule, join_groups, split_groups
from .state import State


@dataclass
class Gradients:
    """Gradients of a loss with respect to the real numbers that integers stand for, float32.

    Attributes:
        h: of the initial state, ``[L, B, H]``.
        c: the same for ``c``, or ``None``.
        params: by parameter name.
    """

    h: Tensor
    c: Tensor | None
    params: dict[str, Tensor]


def real(v: Tensor, bits: int) -> Tensor:
    """Return the float32 nearest to the number that ``v`` stands for (GEN-004)."""
    found = torch.empty(v.shape, dtype=torch.float32, device=v.device)
    return torch.mul(v, 2.0**-bits, out=found)  # converts as it multiplies


def together(values: list[Any], bits: int) -> Tensor:
    """Return the real numbers that equal tensors of many steps stand for, ``[C, B, …]``."""
    return real(torch.stack(values), bits)


@dataclass
class Slopes:
    """What one group's gradients are multiplied by on the way back, for a chunk of steps.

    Factors of masked rows are such that their gradients pass unchanged (GRAD-015). RevGRU's gates
    depend on ``h`` alone, and its ``from_c`` and ``to_c`` are absent.

    Attributes:
        v: the view, ``[C, B, G]``.
        passes: where the view did not saturate (GRAD-002).
        keep: of the new ``h`` in the old one.
        from_h: of ``h`` in the pre-activations that it reaches directly: RevGRU's ``z`` and ``g``,
            RevLSTM's ``o`` and ``p``.
        u: RevGRU's ``u``.
        r: RevGRU's reset gate.
        to_r: of ``u`` in the reset gate's pre-activation.
        to_c: of the new ``h`` in the new ``c``.
        keep_c: of the new ``c`` in the old one.
        from_c: of the new ``c`` in the pre-activations of ``f`` (if any), ``i``, ``g``.
    """

    v: Tensor
    passes: Tensor
    keep: Tensor | None
    from_h: Tensor
    u: Tensor | None = None
    r: Tensor | None = None
    to_r: Tensor | None = None
    to_c: Tensor | None = None
    keep_c: Tensor | None = None
    from_c: Tensor | None = None


def sigmoid_slope(y: Tensor) -> Tensor:
    """Return the derivative of the sigmoid from its value (GRAD-010)."""
    return y - y * y


def tanh_slope(y: Tensor) -> Tensor:
    """Return the derivative of tanh from its value (GRAD-010)."""
    return 1 - y * y


def forget_slope(config: Config, gates: list[ForgetGate]) -> Tensor:
    """Return the derivatives of forget gates with respect to their pre-activations (GRAD-010)."""
    slope = sigmoid_slope(together([gate.sigma for gate in gates], GATE_BITS))
    if config.max_forget_bits is not None:
        slope *= 1 - 2.0**-config.max_forget_bits
    passes = [gate.passes for gate in gates if gate.passes is not None]
    return slope * torch.stack(passes) if passes else slope


def slopes_of(config: Config, steps: list[GroupStep], rows: Tensor | None) -> Slopes:
    """Return the factors of one group's updates in a chunk; ``rows`` is bool ``[C, B, 1]``."""
    first = steps[0].gates
    f, bits = config.formats, config.view_bits
    v = together([step.gates.v for step in steps], bits)
    passes = view_passes(torch.stack([step.other for step in steps]), f.state_bits, bits)
    if isinstance(first, GruGates):
        found = _gru_slopes(config, steps, v, passes)
    else:
        found = _lstm_slopes(config, steps, v, passes)
    if rows is not None:
        for name in ("from_h", "to_c", "from_c"):
            factor = getattr(found, name)
            if factor is not None:
                wide = rows.unsqueeze(-2) if factor.dim() == 4 else rows
                setattr(found, name, factor * wide)
        for name in ("keep", "keep_c"):
            factor = getattr(found, name)
            if factor is not None:
                setattr(found, name, torch.where(rows, factor, 1.0))
    return found


def _gru_slopes(config: Config, steps: list[GroupStep], v: Tensor, passes: Tensor) -> Slopes:
    gates: list[Any] = [step.gates for step in steps]
    z, g = together([x.z.z for x in gates], FORGET_BITS), together([x.g for x in gates], GATE_BITS)
    r = together([x.r for x in gates], GATE_BITS)
    own = -g
    if config.forgetting:
        own = together([step.h for step in steps], config.formats.state_bits) - g
    from_h = torch.stack(
        [own * forget_slope(config, [x.z for x in gates]), (1 - z) * tanh_slope(g)], -2
    )
    u = together([x.u for x in gates], config.view_bits)
    keep = z if config.forgetting else None  # GRAD-011
    return Slopes(v, passes, keep, from_h, u=u, r=r, to_r=v * sigmoid_slope(r))


def _lstm_slopes(config: Config, steps: list[GroupStep], v: Tensor, passes: Tensor) -> Slopes:
    gates: list[Any] = [step.gates for step in steps]
    i, g, o = (together([getattr(x, n) for x in gates], GATE_BITS) for n in ("i", "g", "o"))
    t = together([step.t for step in steps], GATE_BITS)
    from_c, from_h = [g * sigmoid_slope(i), i * tanh_slope(g)], [t * sigmoid_slope(o)]
    keep = keep_c = None
    if config.forgetting:
        bits = config.formats.state_bits
        f, p = [x.f for x in gates], [x.p for x in gates]
        c, h = together([step.c for step in steps], bits), together([s.h for s in steps], bits)
        from_c.insert(0, c * forget_slope(config, f))
        from_h.append(h * forget_slope(config, p))
        # GRAD-011
        keep, keep_c = (together([x.z for x in gate], FORGET_BITS) for gate in (p, f))
    return Slopes(
        v, passes, keep, torch.stack(from_h, -2),
        to_c=o * tanh_slope(t), keep_c=keep_c, from_c=torch.stack(from_c, -2),
    )  # fmt: skip


class Backward:
    """Carries gradients back over chunks of steps, last chunk first.

    It sees only what :class:`GroupStep` holds, so recovered and stored states give the same bits
    (GRAD-020).
    """

    def __init__(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, end: State
    ) -> None:
        """Start from no gradients at all.

        Args:
            config: the stack.
            params: its parameters in fixed point.
            schedule: what happens at which step.
            end: the final state, for its shape.
        """
        self.config, self.schedule = config, schedule
        zero = torch.zeros(end.h.shape, dtype=torch.float32, device=end.h.device)
        self.dh: Groups = split_groups(zero)
        self.dc: Groups = [] if end.c is None else split_groups(zero)
        weight_bits = config.formats.weight_bits
        self.weights = {
            name: real(value, weight_bits)
            for name, value in params.items()
            if name.startswith("weight")
        }
        self.params = {
            name: torch.zeros(shape, dtype=torch.float32, device=end.h.device)
            for name, shape in config.parameter_shapes().items()
        }

    def add_to_state(self, h: Tensor | None, c: Tensor | None) -> None:
        """Add gradients with respect to the present state, ``[L, B, H]``."""
        for held, given in ((self.dh, h), (self.dc, c)):
            if given is not None:
                for layer, parts in zip(held, split_groups(given.float()), strict=True):
                    layer[:] = [a + b for a, b in zip(layer, parts, strict=True)]

    def gradients(self) -> Gradients:
        """Return what has been found, with respect to the state arrived at."""
        return Gradients(
            join_groups(self.dh), join_groups(self.dc) if self.dc else None, self.params
        )

    def chunk(
        self, x: Tensor, start: int, steps: list[list[GroupStep]], grad_outputs: Tensor | None
    ) -> Tensor:
        """Carry the gradients back over a chunk.

        Args:
            x: its input operands, int16 ``[C, B, I]``.
            start: number of its first step.
            steps: as :meth:`Walk.back` returns them.
            grad_outputs: with respect to its outputs, float32 ``[C, B, H]``.

        Returns:
            The gradient with respect to its input, float32 ``[C, B, I]``.
        """
        config, layers = self.config, range(self.config.num_layers)
        mask = self.schedule.mask
        rows = None if mask is None else mask[start : start + len(x), :, None]
        # Of each step the updates are in the order of step_back: layers down, groups down.
        by_layer = [
            [[step[2 * (len(layers) - 1 - k) + 1 - g] for step in steps] for g in (0, 1)]
            for k in layers
        ]
        slopes = [[slopes_of(config, group, rows) for group in layer] for layer in by_layer]
        inputs = [real(x, config.layer_input_bits(0))]
        below = [_Below.of(config, layer[0]) for layer in by_layer[1:]]
        inputs += [b.operand for b in below]
        size = config.num_gates * config.group_size
        ds = [
            torch.empty((len(x), 2, x.shape[1], size), dtype=torch.float32, device=x.device)
            for _ in layers
        ]
        for at in reversed(range(len(x))):
            if grad_outputs is not None:
                self._add_output(grad_outputs[at])
            for k in reversed(layers):
                for group in (1, 0):
                    self._group(k, group, at, slopes[k][group], ds[k][at, group])
                if k:
                    self._to_layer_below(k, ds[k][at], below[k - 1], at)
            reset = self.schedule.reset(start + at)
            if reset is not None:  # SEQ-013: what was before has no part in what follows
                for held in (self.dh, self.dc):
                    for layer in held:
                        layer[:] = [group.index_fill(0, reset, 0) for group in layer]
        for k in layers:
            self._parameters(k, ds[k], slopes[k], inputs[k].flatten(0, 1))
        return self._input_gradient(0, ds[0])

    def _add_output(self, grad_output: Tensor) -> None:
        """Add the gradient of a step's output, ``[B, H]`` (SEQ-005)."""
        for group, part in enumerate(grad_output.chunk(2, 1)):
            self.dh[-1][group] = self.dh[-1][group] + part

    def _group(self, layer: int, group: int, at: int, slopes: Slopes, ds: Tensor) -> None:
        """Carry the gradients back over one group's update, writing ``ds`` ``[B, N·G]``."""
        gru = slopes.from_c is None
        dv = (self._gru if gru else self._lstm)(layer, group, at, slopes, ds)
        dh = self.dh[layer]
        if slopes.keep is not None:
            dh[group] = dh[group] * slopes.keep[at]
        dh[1 - group] = torch.addcmul(dh[1 - group], dv, slopes.passes[at])  # GRAD-002

    def _gru(self, layer: int, group: int, at: int, slopes: Slopes, ds: Tensor) -> Tensor:
        """Return the gradient of the view (GRAD-012)."""
        assert slopes.r is not None
        assert slopes.to_r is not None
        units, w, dh = self.config.group_size, self._recurrent(layer, group), self.dh[layer][group]
        gates = ds.view(len(ds), 3, units)
        torch.mul(dh.unsqueeze(1), slopes.from_h[at], out=gates[:, ::2])
        du = gates[:, 2] @ w[2 * units :]
        torch.mul(du, slopes.to_r[at], out=gates[:, 1])
        dv = ds[:, : 2 * units] @ w[: 2 * units]
        return dv.addcmul_(du, slopes.r[at])

    def _lstm(self, layer: int, group: int, at: int, slopes: Slopes, ds: Tensor) -> Tensor:
        """Return the gradient of the view, and keep that of ``c`` (GRAD-013)."""
        assert slopes.to_c is not None
        assert slopes.from_c is not None
        dh = self.dh[layer][group]
        dc = torch.addcmul(self.dc[layer][group], dh, slopes.to_c[at])
        gates, by_c = ds.view(len(ds), -1, self.config.group_size), slopes.from_c.shape[-2]
        torch.mul(dc.unsqueeze(1), slopes.from_c[at], out=gates[:, :by_c])
        torch.mul(dh.unsqueeze(1), slopes.from_h[at], out=gates[:, by_c:])
        self.dc[layer][group] = dc if slopes.keep_c is None else dc * slopes.keep_c[at]
        return ds @ self._recurrent(layer, group)

    def _to_layer_below(self, layer: int, ds: Tensor, below: _Below, at: int) -> None:
        """Carry a layer's gradients to the state of the layer below (SEQ-004, SEQ-012)."""
        dx = self._input_gradient(layer, ds.unsqueeze(0))[0] * below.slope[at]
        for group, part in enumerate(dx.chunk(2, 1)):
            self.dh[layer - 1][group] = self.dh[layer - 1][group] + part

    def _input_gradient(self, layer: int, ds: Tensor) -> Tensor:
        """Return the gradient of a layer's input, ``[C, B, I_k]``, from ``[C, 2, B, N·G]``."""
        steps, _, rows, size = ds.shape
        w = self.weights[f"weight_ih_l{layer}"]
        if steps == 1:
            return torch.addmm(ds[0, 0] @ w[:size], ds[0, 1], w[size:]).unsqueeze(0)
        flat = ds.transpose(0, 1).reshape(2, steps * rows, size)
        return torch.addmm(flat[0] @ w[:size], flat[1], w[size:]).view(steps, rows, -1)

    def _parameters(self, layer: int, ds: Tensor, slopes: list[Slopes], inputs: Tensor) -> None:
        """Add a chunk's part to the gradients of a layer's parameters (GRAD-014)."""
        config = self.config
        units, size = config.group_size, config.num_gates * config.group_size
        into = {
            kind: self.params[f"{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias")
        }
        of_view = 2 * units if config.cell == "revgru" else size
        for group in (0, 1):
            own = ds[:, group].reshape(-1, size)
            rows = slice(group * size, (group + 1) * size)
            into["weight_ih"][rows].addmm_(own.t(), inputs)
            into["bias"][rows] += own.sum(0)
            w = into["weight_hh"][rows]
            w[:of_view].addmm_(own[:, :of_view].t(), slopes[group].v.flatten(0, 1))
            u = slopes[group].u
            if u is not None:
                w[of_view:].addmm_(own[:, of_view:].t(), u.flatten(0, 1))

    def _recurrent(self, layer: int, group: int) -> Tensor:
        rows = self.config.num_gates * self.config.group_size
        return self.weights[f"weight_hh_l{layer}"][group * rows : (group + 1) * rows]


@dataclass
class _Below:
    """A layer's input in a chunk, ``[C, B, H]``, and its derivative by the state below."""

    operand: Tensor
    slope: Tensor

    @classmethod
    def of(cls, config: Config, steps: list[GroupStep]) -> _Below:
        taken = [step.input for step in steps if step.input is not None]
        slope = torch.stack([t.passes for t in taken]).to(torch.float32)
        gains = [t.gain for t in taken if t.gain is not None]
        if gains:
            slope *= together(gains, GAIN_BITS)  # GRAD-016
        return cls(together([t.operand for t in taken], config.view_bits), slope)
