"""Gradients by reversal, or from stored states, in float32 (GRAD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import FORGET_BITS, GATE_BITS

from .activations import ForgetGate
from .cells import GruGates, LstmGates
from .quantise import view, view_passes
from .sequence import (
    Forward,
    Groups,
    GroupStep,
    Running,
    Stack,
    State,
    join_groups,
    sequence_reverse,
    split_groups,
)


@dataclass
class Gradients:
    """Gradients of a loss with respect to the real numbers that integers stand for, float32.

    Attributes:
        x: ``[T, B, I]``.
        h: of the initial state, ``[L, B, H]``.
        c: the same for ``c``, or ``None``.
        params: by parameter name.
    """

    x: Tensor
    h: Tensor
    c: Tensor | None
    params: dict[str, Tensor]


def real(v: Tensor, bits: int) -> Tensor:
    """Return the float32 nearest to the number that ``v`` stands for (GEN-004)."""
    return v.to(torch.float32) * 2.0**-bits


class Backward:
    """Carries gradients back, one group's update at a time, in the order of the reversal.

    It sees only what :class:`GroupStep` holds, so recovered and stored states give the same bits
    (GRAD-020). Parameter gradients are summed over a chunk of steps at a time, by one product each.
    """

    def __init__(
        self,
        config: Config,
        params: Mapping[str, Tensor],
        x: Tensor,
        mask: Tensor | None,
        grad_h: Tensor,
        grad_c: Tensor | None,
        chunk_size: int,
    ) -> None:
        """Start from the gradients of the final state.

        Args:
            config: the stack.
            params: its parameters in fixed point.
            x: input operand int16 ``[T, B, I]``.
            mask: bool ``[T, B]``, or ``None``.
            grad_h: float32 ``[L, B, H]``.
            grad_c: the same for RevLSTM.
            chunk_size: steps of a chunk.
        """
        self.config, self.x, self.mask = config, x, mask
        self.dh: Groups = split_groups(grad_h)
        self.dc: Groups = [] if grad_c is None else split_groups(grad_c)
        weight_bits = config.formats.weight_bits
        self.weights = {
            name: real(value, weight_bits)
            for name, value in params.items()
            if name.startswith("weight")
        }
        self.params = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        for name, value in params.items():
            if name.startswith("bias"):
                self.params[name] = torch.zeros_like(value, dtype=torch.float32)
        self.grad_x = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        self._allocate(min(chunk_size, max(len(x), 1)))
        self.start = 0

    def _allocate(self, steps: int) -> None:
        config, rows, device = self.config, self.x.shape[1], self.x.device

        def empty(*shape: int) -> Tensor:
            return torch.empty((steps, rows, *shape), dtype=torch.float32, device=device)

        layers, units = range(config.num_layers), config.group_size
        self.ds = [empty(2, config.num_gates * units) for _ in layers]
        self.v = [empty(2, units) for _ in layers]
        self.u = [empty(2, units) for _ in layers] if config.cell == "revgru" else []
        self.inputs = [empty(config.hidden_size) for _ in layers[1:]]

    def begin_step(self, grad_output: Tensor) -> None:
        """Add the gradient of a step's output, ``[B, H]`` (SEQ-005)."""
        for group, part in enumerate(grad_output.chunk(2, 1)):
            self.dh[-1][group] = self.dh[-1][group] + part

    def begin_chunk(self, start: int) -> None:
        """Say which step comes first in the chunk's arrays."""
        self.start = start

    def visit(self, t: int, step: GroupStep) -> None:
        """Carry the gradients back over one group's update."""
        at, rows = t - self.start, None if self.mask is None else self.mask[t, :, None]
        layer, group = step.layer, step.group
        ds = self.ds[layer][at, :, group]
        self.v[layer][at, :, group] = real(step.gates.v, self.config.view_bits)
        if isinstance(step.gates, GruGates):
            dv, dh = self._gru(step.gates, step, ds, at, rows)
        else:
            dv, dh = self._lstm(step.gates, step, ds, rows)
        own = self.dh[layer][group]
        self.dh[layer][group] = dh if rows is None else torch.where(rows, dh, own)
        f = self.config.formats
        dv = dv * view_passes(step.other, f.state_bits, self.config.view_bits)  # GRAD-002
        self.dh[layer][1 - group] = self.dh[layer][1 - group] + dv
        if group == 0 and step.below is not None:
            self._to_layer_below(at, layer, step.below)

    def _to_layer_below(self, at: int, layer: int, below: Tensor) -> None:
        """Carry a layer's gradients to the state of the layer below, its input (SEQ-004)."""
        f, bits = self.config.formats, self.config.view_bits
        self.inputs[layer - 1][at] = real(view(below, f.state_bits, bits), bits)
        dx = self.ds[layer][at].flatten(1) @ self.weights[f"weight_ih_l{layer}"]
        dx = dx * view_passes(below, f.state_bits, bits)  # GRAD-002
        for group, part in enumerate(dx.chunk(2, 1)):
            self.dh[layer - 1][group] = self.dh[layer - 1][group] + part

    def end_chunk(self, start: int, stop: int) -> None:
        """Turn what a chunk collected into gradients of parameters and input (GRAD-014)."""
        config, steps = self.config, stop - start
        units, rows = config.group_size, config.num_gates * config.group_size
        for layer in range(config.num_layers):
            ds = self.ds[layer][:steps]
            flat = ds.reshape(-1, 2 * rows)
            if layer == 0:
                inputs = real(self.x[start:stop], config.layer_input_bits(0))
                self.grad_x[start:stop] = (flat @ self.weights["weight_ih_l0"]).view(inputs.shape)
            else:
                inputs = self.inputs[layer - 1][:steps]
            self.params[f"weight_ih_l{layer}"].addmm_(flat.t(), inputs.flatten(0, 1))
            self.params[f"bias_l{layer}"] += flat.sum(0)
            target = self.params[f"weight_hh_l{layer}"]
            for group in (0, 1):
                own = ds[:, :, group].reshape(-1, rows)
                of_view = 2 * units if config.cell == "revgru" else rows
                into = target[group * rows : (group + 1) * rows]
                v = self.v[layer][:steps, :, group].reshape(-1, units)
                into[:of_view].addmm_(own[:, :of_view].t(), v)
                if config.cell == "revgru":
                    u = self.u[layer][:steps, :, group].reshape(-1, units)
                    into[of_view:].addmm_(own[:, of_view:].t(), u)

    def _recurrent(self, layer: int, group: int) -> Tensor:
        rows = self.config.num_gates * self.config.group_size
        return self.weights[f"weight_hh_l{layer}"][group * rows : (group + 1) * rows]

    def _forget_slope(self, ds: Tensor, gate: ForgetGate) -> None:
        """Multiply by what GRAD-010 adds to the sigmoid's derivative for a forget gate."""
        if self.config.max_forget_bits is not None:
            ds *= 1 - 2.0**-self.config.max_forget_bits
        if gate.passes is not None:
            ds *= gate.passes

    def _gru(
        self, gates: GruGates, step: GroupStep, ds: Tensor, at: int, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the view and of the old ``h`` (GRAD-012, GRAD-011)."""
        config, units = self.config, self.config.group_size
        w = self._recurrent(step.layer, step.group)
        dh = self.dh[step.layer][step.group]
        z, g = real(gates.z.z, FORGET_BITS), real(gates.g, GATE_BITS)
        sigma, r = real(gates.z.sigma, GATE_BITS), real(gates.r, GATE_BITS)
        v = self.v[step.layer][at, :, step.group]
        self.u[step.layer][at, :, step.group] = real(gates.u, config.view_bits)
        kept = dh * z
        ds_z, ds_r, ds_g = ds[:, :units], ds[:, units : 2 * units], ds[:, 2 * units :]
        torch.mul(dh - kept, 1 - g * g, out=ds_g)
        if rows is not None:
            ds_g *= rows  # GRAD-015
        du = ds_g @ w[2 * units :]
        torch.mul(du * v, r - r * r, out=ds_r)
        own = -g if not config.forgetting else real(step.h, config.formats.state_bits) - g
        torch.mul(dh * own, sigma - sigma * sigma, out=ds_z)
        self._forget_slope(ds_z, gates.z)
        if rows is not None:
            ds_z *= rows
        dv = torch.addcmul(ds[:, : 2 * units] @ w[: 2 * units], du, r)
        return dv, kept if config.forgetting else dh

    def _lstm(
        self, gates: LstmGates, step: GroupStep, ds: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of the view and of the old ``h`` (GRAD-013)."""
        config, units = self.config, self.config.group_size
        bits = config.formats.state_bits
        assert step.t is not None
        dh, dc = self.dh[step.layer][step.group], self.dc[step.layer][step.group]
        t, o = real(step.t, GATE_BITS), real(gates.o, GATE_BITS)
        i, g = real(gates.i, GATE_BITS), real(gates.g, GATE_BITS)
        at = {gate: slice(q * units, (q + 1) * units) for q, gate in enumerate(config.gates)}
        total = torch.addcmul(dc, dh * o, 1 - t * t)
        sigma = real(gates.sigma, GATE_BITS)
        torch.sub(sigma, sigma * sigma, out=ds)
        ds[:, at["g"]] = 1 - g * g
        ds[:, at["i"]] *= total * g
        ds[:, at["g"]] *= total * i
        ds[:, at["o"]] *= dh * t
        old_dh, old_dc = dh, total
        if gates.f is not None and gates.p is not None:
            assert step.c is not None
            ds[:, at["f"]] *= total * real(step.c, bits)
            ds[:, at["p"]] *= dh * real(step.h, bits)
            self._forget_slope(ds[:, at["f"]], gates.f)
            self._forget_slope(ds[:, at["p"]], gates.p)
            old_dh, old_dc = dh * real(gates.p.z, FORGET_BITS), total * real(gates.f.z, FORGET_BITS)
        if rows is not None:
            ds *= rows  # GRAD-015
            old_dc = torch.where(rows, old_dc, dc)
        self.dc[step.layer][step.group] = old_dc
        return ds @ self._recurrent(step.layer, step.group), old_dh


def sequence_gradient(
    stack: Stack,
    params: Mapping[str, Tensor],
    x: Tensor,
    mask: Tensor | None,
    start: State,
    forward: Forward,
    grad_outputs: Tensor,
    grad_h: Tensor,
    grad_c: Tensor | None,
    *,
    states: str,
    chunk_size: int,
) -> Gradients:
    """Return the gradients of a loss, given those of outputs and final state.

    Args:
        stack: the stack.
        params: its parameters in fixed point.
        x: input operand int16 ``[T, B, I]``.
        mask: bool ``[T, B]``, or ``None``.
        start: the state in which the forward pass began.
        forward: what it gave; ``"reversed"`` uses its store up, ``"stored"`` its kept states.
        grad_outputs: float32 ``[T, B, H]``.
        grad_h: float32 ``[L, B, H]``.
        grad_c: the same for RevLSTM.
        states: where the states come from; the results are equal bit for bit (GRAD-020).
        chunk_size: as in the forward pass.

    Raises:
        RevRNNError: ``E_REVERSAL`` if the reversal does not end where the sequence began (SEQ-009).
    """
    backward = Backward(stack.config, params, x, mask, grad_h, grad_c, chunk_size)
    if states == "reversed":
        running, buffer = Running.of(forward.state), forward.buffer
        sequence_reverse(
            stack, x, mask, running, buffer, forward.slices, chunk_size=chunk_size,
            before_chunk=backward.begin_chunk,
            before_step=lambda t: backward.begin_step(grad_outputs[t]),
            visit=backward.visit,
            after_chunk=backward.end_chunk,
        )  # fmt: skip
        check_reversal(running.state(buffer), start, forward)
    else:
        _from_stored(stack, x, start, forward, grad_outputs, backward, chunk_size)
    dc = join_groups(backward.dc) if backward.dc else None
    return Gradients(backward.grad_x, join_groups(backward.dh), dc, backward.params)


def _from_stored(
    stack: Stack,
    x: Tensor,
    start: State,
    forward: Forward,
    grad_outputs: Tensor,
    backward: Backward,
    chunk_size: int,
) -> None:
    first = Running.of(start)
    for begin in reversed(range(0, len(x), chunk_size)):
        chunk = x[begin : begin + chunk_size]
        parts = stack.input_parts(chunk)
        backward.begin_chunk(begin)
        for t in reversed(range(begin, begin + len(chunk))):
            backward.begin_step(grad_outputs[t])
            before = forward.states[t - 1] if t else first
            after = forward.states[t]
            visit = partial(backward.visit, t)
            stack.revisit(parts[t - begin], before, after, visit)
        backward.end_chunk(begin, begin + len(chunk))


def check_reversal(found: State, start: State, forward: Forward) -> None:
    """Raise ``E_REVERSAL`` unless states and buffer are back at the start (SEQ-009).

    All comparisons are made with one synchronisation.
    """
    pairs = [(found.h, start.h), (found.c, start.c), (found.heads, start.heads)]
    different = [(a != b).any() for a, b in pairs if a is not None and b is not None]
    if forward.buffer is not None:
        different.append((forward.buffer.left_over != 0).any())
    if bool(torch.stack(different).any()):
        raise RevRNNError("E_REVERSAL", "state", "another state or buffer", "those at the start")
