"""Stacks of layers over sequences, forward and back (SEQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from revrnn.config import Config

from .activations import tanh
from .buffer import Buffer, fresh_heads
from .cells import Context, Gates, LayerWeights, gates_of, undo, update
from .quantise import view

# Steps whose input projections, gradients and words are handled together.
CHUNK_SIZE = 16


@dataclass(frozen=True)
class State:
    """The exact state that one call hands to the next (SEQ-006).

    Attributes:
        h: int32 ``[L, B, H]`` with ``R_H`` fraction bits.
        c: the same for RevLSTM, else ``None``.
        heads: ``[B, G]``, int32 for ``stream``, int64 for ``wordlist``, else ``None``.
    """

    h: Tensor
    c: Tensor | None
    heads: Tensor | None


def initial_state(
    config: Config, batch_size: int, device: torch.device | str | None = None
) -> State:
    """Return a fresh state: zeros, and a fresh buffer (SEQ-006)."""
    shape = (config.num_layers, batch_size, config.hidden_size)
    h = torch.zeros(shape, dtype=torch.int32, device=device)
    c = torch.zeros_like(h) if config.has_cell_state else None
    heads = None
    if config.forgetting:
        heads = fresh_heads(config.buffer, batch_size, config.group_size, device)
    return State(h, c, heads)


Groups = list[list[Tensor]]  # by layer and group, int32 [B, G]


def split_groups(h: Tensor) -> Groups:
    """Return ``[L, B, H]`` as a tensor of its own for every layer and group."""
    return [[group.contiguous() for group in layer.chunk(2, 1)] for layer in h]


def join_groups(groups: Groups) -> Tensor:
    """Return ``[L, B, H]`` from its layers and groups."""
    return torch.stack([torch.cat(layer, 1) for layer in groups])


@dataclass
class Running:
    """States in the course of a pass, by layer and group; ``c`` is empty for RevGRU."""

    h: Groups
    c: Groups

    @classmethod
    def of(cls, state: State) -> Running:
        """Start from a carried state."""
        return cls(split_groups(state.h), [] if state.c is None else split_groups(state.c))

    def copy(self) -> Running:
        """Return new lists of the same tensors (which are never changed in place)."""
        return Running([list(layer) for layer in self.h], [list(layer) for layer in self.c])

    def state(self, buffer: Buffer | None) -> State:
        """Return what the next call starts from."""
        c = join_groups(self.c) if self.c else None
        return State(join_groups(self.h), c, None if buffer is None else buffer.heads)


@dataclass
class GroupStep:
    """One group's update within a step, as its reversal finds it.

    Attributes:
        layer: which layer.
        group: 0 or 1.
        gates: the gates.
        h: the own ``h`` before.
        c: the own ``c`` before.
        t: ``tanh`` of the own ``c`` after.
        other: the other group's ``h``.
        below: ``h`` of the layer below ``[B, H]``, or ``None`` in layer 0.
    """

    layer: int
    group: int
    gates: Gates
    h: Tensor
    c: Tensor | None
    t: Tensor | None
    other: Tensor
    below: Tensor | None


class Stack:
    """A stack of layers, its weights prepared for exact products."""

    def __init__(self, config: Config, params: Mapping[str, Tensor]) -> None:
        """Take parameters in fixed point: int16 weights, int32 biases (CELL-003)."""
        self.config = config
        self.layers = [LayerWeights(config, params, layer) for layer in range(config.num_layers)]

    def input_parts(self, x: Tensor) -> Tensor:
        """Return layer 0's input parts for a chunk ``[C, B, I]``, int64 ``[C, B, 2, N·G]``."""
        steps, rows, _ = x.shape
        return self.layers[0].input_part(x.reshape(steps * rows, -1)).view(steps, rows, 2, -1)

    def input_part(
        self, layer: int, x_part: Tensor, running: Running
    ) -> tuple[Tensor, Tensor | None]:
        """Return a layer's input part in the present step, and the state it views (SEQ-004)."""
        if layer == 0:
            return x_part, None
        f = self.config.formats
        below = torch.cat(running.h[layer - 1], 1)
        operand = view(below, f.state_bits, self.config.view_bits)
        return self.layers[layer].input_part(operand), below

    def sliced(self, layer: int, group: int) -> int:
        """Return how many units of a group are sliced (SEQ-007)."""
        return self.config.layer_slice(layer) if group == 0 else 0

    def step(self, context: Context, x_part: Tensor, running: Running) -> None:
        """Carry ``running`` one step forward (SEQ-001, CELL-004)."""
        for layer, weights in enumerate(self.layers):
            part, _ = self.input_part(layer, x_part, running)
            for group in (0, 1):
                h = running.h[layer]
                gates = gates_of(self.config, weights, group, part[:, group], h[1 - group])
                c = running.c[layer][group] if running.c else None
                h[group], c = update(context, gates, self.sliced(layer, group), h[group], c)
                if c is not None:
                    running.c[layer][group] = c

    def step_back(
        self,
        context: Context,
        x_part: Tensor,
        running: Running,
        restore: Tensor | None,
        visit: Callable[[GroupStep], None] | None = None,
    ) -> None:
        """Carry ``running`` one step back (CELL-040), showing every group's update to ``visit``."""
        for layer in reversed(range(len(self.layers))):
            part, below = self.input_part(layer, x_part, running)
            for group in (1, 0):
                step = self._gates_at(layer, group, part, below, running, running)
                h, c = running.h[layer], running.c[layer][group] if running.c else None
                sliced = self.sliced(layer, group)
                h[group], c = undo(context, step.gates, sliced, restore, h[group], c, step.t)
                if c is not None:
                    running.c[layer][group] = c
                if visit is not None:
                    step.h, step.c = h[group], c
                    visit(step)

    def revisit(
        self,
        x_part: Tensor,
        before: Running,
        after: Running,
        visit: Callable[[GroupStep], None],
    ) -> None:
        """Show every group's update of a step whose states are stored, last first (GRAD-020)."""
        for layer in reversed(range(len(self.layers))):
            part, below = self.input_part(layer, x_part, after)
            for group in (1, 0):
                others = before if group == 0 else after
                step = self._gates_at(layer, group, part, below, others, after)
                step.h = before.h[layer][group]
                step.c = before.c[layer][group] if before.c else None
                visit(step)

    def _gates_at(
        self,
        layer: int,
        group: int,
        part: Tensor,
        below: Tensor | None,
        others: Running,
        after: Running,
    ) -> GroupStep:
        other = others.h[layer][1 - group]
        gates = gates_of(self.config, self.layers[layer], group, part[:, group], other)
        t = None
        if after.c:
            t = tanh(after.c[layer][group], self.config.formats.state_bits)
        return GroupStep(layer, group, gates, other, None, t, other, below)


@dataclass
class Forward:
    """What a forward pass delivers.

    Attributes:
        outputs: int32 ``[T, B, H]`` (SEQ-005).
        state: the final state.
        buffer: the buffer, or ``None`` without forgetting.
        slices: int32 ``[T+1, B, D]``, or ``None`` (SEQ-007).
        wraps: int64 ``[]``, or ``None`` where none can be (MUL-006).
        gate_counts: int64 ``[1025]``, if asked for (ACC-001).
        states: the state after each step, if asked for.
        heads_steps: the heads after each step, if asked for.
        tops: words in the store after each step, if asked for.
    """

    outputs: Tensor
    state: State
    buffer: Buffer | None
    slices: Tensor | None
    wraps: Tensor | None
    gate_counts: Tensor | None
    states: list[Running] = field(default_factory=list)
    heads_steps: list[Tensor] = field(default_factory=list)
    tops: list[Tensor] = field(default_factory=list)


def sequence_forward(
    stack: Stack,
    x: Tensor,
    mask: Tensor | None,
    state: State,
    buffer: Buffer | None,
    *,
    chunk_size: int = CHUNK_SIZE,
    keep_states: bool = False,
    trace: bool = False,
    count_gates: bool = False,
) -> Forward:
    """Run a stack over a sequence, pushing to ``buffer`` (SEQ-001).

    Args:
        stack: the stack.
        x: input operand int16 ``[T, B, I]``.
        mask: bool ``[T, B]``, or ``None`` for all true (SEQ-002).
        state: where to start; it is not changed.
        buffer: starting at the state's heads, or ``None`` without forgetting.
        chunk_size: steps handled together; it changes no result.
        keep_states: also keep the state after every step.
        trace: also keep heads and number of words after every step.
        count_gates: also count the gates.
    """
    config, device = stack.config, x.device
    running = Running.of(state)
    wraps = torch.zeros((), dtype=torch.int64, device=device) if config.can_wrap else None
    counts = torch.zeros(1025, dtype=torch.int64, device=device) if count_gates else None
    context = Context(config, None, buffer, wraps, counts)
    outputs = torch.empty((*x.shape[:2], config.hidden_size), dtype=torch.int32, device=device)
    depth = config.slice_size
    slices = None
    if depth:
        slices = torch.empty((len(x) + 1, x.shape[1], depth), dtype=torch.int32, device=device)
        slices[0] = running.h[-1][0][:, :depth]
    out = Forward(outputs, state, buffer, slices, wraps, counts)
    pushed = torch.zeros(1, dtype=torch.int64, device=device)
    for start in range(0, len(x), chunk_size):
        chunk = x[start : start + chunk_size]
        parts = stack.input_parts(chunk)
        if buffer is not None:
            buffer.open_block(len(chunk))
        for t, part in enumerate(parts, start):
            context.rows = None if mask is None else mask[t, :, None]
            stack.step(context, part, running)
            torch.cat(running.h[-1], 1, out=outputs[t])
            if slices is not None:
                slices[t + 1] = running.h[-1][0][:, :depth]
            if keep_states:
                out.states.append(running.copy())
            if trace and buffer is not None:
                out.heads_steps.append(buffer.heads)
                out.tops.append(pushed + buffer.top)
        if buffer is not None:
            buffer.close_block()
            if trace:
                pushed = pushed + buffer.top
    out.state = running.state(buffer)
    return out


def sequence_reverse(
    stack: Stack,
    x: Tensor,
    mask: Tensor | None,
    running: Running,
    buffer: Buffer | None,
    slices: Tensor | None,
    *,
    chunk_size: int,
    visit: Callable[[int, GroupStep], None] | None = None,
    before_chunk: Callable[[int], None] | None = None,
    before_step: Callable[[int], None] | None = None,
    after_step: Callable[[int], None] | None = None,
    after_chunk: Callable[[int, int], None] | None = None,
    finish: bool = True,
) -> None:
    """Undo a sequence, popping from ``buffer``; ``running`` is carried back in place.

    Args:
        stack: the stack.
        x: input operand int16 ``[T, B, I]``.
        mask: bool ``[T, B]``, or ``None``.
        running: the states after the last step.
        buffer: as the forward pass left it: blocks of ``chunk_size`` steps each.
        slices: as the forward pass gave them.
        chunk_size: as in the forward pass.
        visit: called with step and group update, last first.
        before_chunk: called with a chunk's first step.
        before_step: called with the step before it is undone.
        after_step: called with the step after it is undone.
        after_chunk: called with a chunk's first step and the one after its last.
        finish: let go of each block that was popped; else it stays open for the caller.
    """
    context = Context(stack.config, None, buffer)
    for start in reversed(range(0, len(x), chunk_size)):
        chunk = x[start : start + chunk_size]
        parts = stack.input_parts(chunk)
        if buffer is not None:
            buffer.reopen_block()
        if before_chunk is not None:
            before_chunk(start)
        for t in reversed(range(start, start + len(chunk))):
            if before_step is not None:
                before_step(t)
            context.rows = None if mask is None else mask[t, :, None]
            restore = None if slices is None else slices[t]
            on_group = None if visit is None else partial(visit, t)
            stack.step_back(context, parts[t - start], running, restore, on_group)
            if after_step is not None:
                after_step(t)
        if buffer is not None and finish:
            buffer.finish_block()
        if after_chunk is not None:
            after_chunk(start, start + len(chunk))
