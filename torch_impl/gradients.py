"""Gradients by reversal, or from stored states, in float32 (GRAD).

A chunk of steps at a time: what depends on the states alone is computed for all its steps at once;
then the gradients are carried back step by step; then those of the parameters are one product each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from revrnn.config import Config

from .sequence import Groups, GroupStep, Schedule, join_groups, split_groups
from .slopes import Below, Slopes, real, slopes_of
from .state import State


@dataclass
class Gradients:
    """Gradients of a loss with respect to the real numbers that integers stand for, float32.

    Attributes:
        h: of the state arrived at, in the end the initial one, ``[L, B, H]``.
        c: the same for ``c``, or ``None``.
        params: by parameter name.
    """

    h: Tensor
    c: Tensor | None
    params: dict[str, Tensor]

    @classmethod
    def zeros(cls, config: Config, end: State) -> Gradients:
        """Return gradients of 0; ``end`` is the final state, for its shape."""
        zero = torch.zeros_like(end.h, dtype=torch.float32)
        shapes = config.parameter_shapes().items()
        params = {name: _zeros(shape, zero.device) for name, shape in shapes}
        return cls(zero, None if end.c is None else torch.zeros_like(zero), params)

    def add_to_state(self, h: Tensor | None, c: Tensor | None) -> None:
        """Add gradients with respect to the present state, ``[L, B, H]``."""
        if h is not None:
            self.h = self.h + h
        if c is not None and self.c is not None:
            self.c = self.c + c


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return zeros; on a processor pages that the system clears when they are first added to."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape, dtype=torch.float32, device=device)


class Backward:
    """Carries gradients back over chunks of steps, last chunk first.

    It sees only what :class:`GroupStep` holds, so recovered and stored states give the same bits
    (GRAD-020).
    """

    def __init__(self, config: Config, params: Mapping[str, Tensor], schedule: Schedule) -> None:
        """Take parameters in fixed point, and what happens at which step."""
        self.config, self.schedule = config, schedule
        weight_bits = config.formats.weight_bits
        self.weights = {
            name: real(value, weight_bits)
            for name, value in params.items()
            if name.startswith("weight")
        }
        self.dh: Groups = []
        self.dc: Groups = []
        self.params: dict[str, Tensor] = {}

    def chunk(
        self,
        x: Tensor,
        start: int,
        steps: list[list[GroupStep]],
        grad_outputs: Tensor | None,
        into: Gradients,
    ) -> Tensor:
        """Carry the gradients back over a chunk.

        Args:
            x: its input operands, int16 ``[C, B, I]``.
            start: number of its first step.
            steps: for each step, first step first, its updates, last first.
            grad_outputs: with respect to its outputs, float32 ``[C, B, H]``.
            into: gradients so far, which are carried on.

        Returns:
            The gradient with respect to its input, float32 ``[C, B, I]``.
        """
        self.dh, self.params = split_groups(into.h), into.params
        self.dc = [] if into.c is None else split_groups(into.c)
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
        below = [Below.of(config, layer[0]) for layer in by_layer[1:]]
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
            if reset is not None:  # SEQ-013: nothing before a reset affects what follows
                for held in (self.dh, self.dc):
                    for layer in held:
                        layer[:] = [group.index_fill(0, reset, 0) for group in layer]
        for k in layers:
            self._parameters(k, ds[k], slopes[k], inputs[k].flatten(0, 1))
        into.h = join_groups(self.dh)
        into.c = join_groups(self.dc) if self.dc else None
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

    def _to_layer_below(self, layer: int, ds: Tensor, below: Below, at: int) -> None:
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
