"""Stacks of layers over sequences, forward and back (SEQ).

A :class:`Walk` goes over a sequence by chunks of steps, first forwards, then back. Going back it
delivers, for a whole chunk, every group's update as it was met, so that gradients can be computed
for many steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.formats import OPERAND_MAX

from .activations import packed_table, tanh
from .buffer import Buffer
from .cells import Context, Gates, LayerWeights, gates_of, undo, update
from .compiled import compiled
from .quantise import round_shift
from .state import State

# Steps whose input projections, gradients and words are handled together.
CHUNK_SIZE = 16
# Fraction bits of the gains between layers (SEQ-012).
GAIN_BITS = 12


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
        """Return what the next call starts from, sharing nothing with this object."""
        c = join_groups(self.c) if self.c else None
        return State(join_groups(self.h), c, None if buffer is None else buffer.heads.clone())

    def top(self) -> Tensor:
        """Return ``h`` of the top layer, ``[B, H]`` (SEQ-005)."""
        return torch.cat(self.h[-1], 1)


@dataclass
class LayerInput:
    """What a layer above the first takes in, and what its gradient needs (SEQ-004, SEQ-012).

    Attributes:
        operand: int32 ``[B, H]``.
        passes: where nothing saturated (GRAD-002).
        gain: int32 ``[B, H]`` with 12 fraction bits, or ``None``.
    """

    operand: Tensor
    passes: Tensor
    gain: Tensor | None


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
        input: what the layer takes in; ``None`` in layer 0.
    """

    layer: int
    group: int
    gates: Gates
    h: Tensor
    c: Tensor | None
    t: Tensor | None
    other: Tensor
    input: LayerInput | None


class Stack:
    """A stack of layers, its weights prepared for exact products."""

    def __init__(self, config: Config, params: Mapping[str, Tensor]) -> None:
        """Take parameters in fixed point: int16 weights, int32 biases (CELL-003)."""
        self.config = config
        self.layers = [LayerWeights(config, params, layer) for layer in range(config.num_layers)]
        packed_table(params["bias_l0"].device)  # made before a compiler looks for it

    def input_parts(self, x: Tensor) -> Tensor:
        """Return layer 0's input parts for a chunk ``[C, B, I]``, int64 ``[C, B, 2, N·G]``."""
        steps, rows, _ = x.shape
        return self.layers[0].input_part(x.reshape(steps * rows, -1)).view(steps, rows, 2, -1)

    def input_part(
        self, context: Context, layer: int, x_part: Tensor, running: Running
    ) -> tuple[Tensor, LayerInput | None]:
        """Return a layer's input part in the present step, and its input (SEQ-004)."""
        if layer == 0:
            return x_part, None
        shift = self.config.formats.state_bits - self.config.view_bits
        rounded = round_shift(torch.cat(running.h[layer - 1], 1), shift)
        operand = rounded.clamp(-OPERAND_MAX, OPERAND_MAX)
        passes, gain = operand == rounded, None
        if context.gains is not None:
            # SEQ-012: 32512 · 2^16 fits int32.
            gain = context.gains[layer - 1]
            rounded = round_shift(operand * gain, GAIN_BITS)
            operand = rounded.clamp(-OPERAND_MAX, OPERAND_MAX)
            passes = passes & (operand == rounded)
        return self.layers[layer].input_part(operand), LayerInput(operand, passes, gain)

    def sliced(self, layer: int, group: int) -> int:
        """Return how many units of a group are sliced (SEQ-007)."""
        return self.config.layer_slice(layer) if group == 0 else 0

    def step(self, context: Context, x_part: Tensor, running: Running) -> None:
        """Carry ``running`` one step forward (SEQ-001, CELL-004)."""
        for layer, weights in enumerate(self.layers):
            part, _ = self.input_part(context, layer, x_part, running)
            for group in (0, 1):
                h = running.h[layer]
                gates = gates_of(self.config, weights, group, part[:, group], h[1 - group])
                c = running.c[layer][group] if running.c else None
                sliced = self.sliced(layer, group)
                h[group], c = update(context, layer, gates, sliced, h[group], c)
                if c is not None:
                    running.c[layer][group] = c

    def step_back(
        self, context: Context, x_part: Tensor, running: Running, restore: Tensor | None
    ) -> list[GroupStep]:
        """Carry ``running`` one step back (CELL-040); return the updates, last first."""
        steps = []
        for layer in reversed(range(len(self.layers))):
            part, taken = self.input_part(context, layer, x_part, running)
            for group in (1, 0):
                step = self._gates_at(layer, group, part, taken, running, running)
                h, c = running.h[layer], running.c[layer][group] if running.c else None
                sliced = self.sliced(layer, group)
                h[group], c = undo(context, step.gates, sliced, restore, h[group], c, step.t)
                if c is not None:
                    running.c[layer][group] = c
                step.h, step.c = h[group], c
                steps.append(step)
        return steps

    def steps_between(
        self, context: Context, x_part: Tensor, before: Running, after: Running
    ) -> list[GroupStep]:
        """Return the updates of a step whose states are stored, last first (GRAD-020)."""
        steps = []
        for layer in reversed(range(len(self.layers))):
            part, taken = self.input_part(context, layer, x_part, after)
            for group in (1, 0):
                others = before if group == 0 else after
                step = self._gates_at(layer, group, part, taken, others, after)
                step.h = before.h[layer][group]
                step.c = before.c[layer][group] if before.c else None
                steps.append(step)
        return steps

    def _gates_at(
        self,
        layer: int,
        group: int,
        part: Tensor,
        taken: LayerInput | None,
        others: Running,
        after: Running,
    ) -> GroupStep:
        other = others.h[layer][1 - group]
        gates = gates_of(self.config, self.layers[layer], group, part[:, group], other)
        t = None
        if after.c:
            t = tanh(after.c[layer][group], self.config.formats.state_bits)
        return GroupStep(layer, group, gates, other, None, t, other, taken)


@dataclass(frozen=True)
class Schedule:
    """What happens at which step, besides the input.

    Attributes:
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002); ``None`` for all.
        resets: for each step the rows that start anew before it, int64 ``[n]`` or ``None``
            (SEQ-013).
        gains: gives a step's gains between layers, int32 ``[L−1, B, H]`` (SEQ-012).
    """

    mask: Tensor | None = None
    resets: list[Tensor | None] | None = None
    gains: Callable[[int], Tensor] | None = None

    def rows(self, t: int) -> Tensor | None:
        """Return which rows have step ``t``, bool ``[B, 1]``; ``None`` for all."""
        return None if self.mask is None else self.mask[t, :, None]

    def reset(self, t: int) -> Tensor | None:
        """Return which rows start anew before step ``t``; ``None`` for none."""
        return None if self.resets is None else self.resets[t]

    def gain(self, t: int) -> Tensor | None:
        """Return the gains of step ``t``."""
        return None if self.gains is None else self.gains(t)


@dataclass
class Trace:
    """What stands after each step, if asked for (EVAL-009)."""

    states: list[Running] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    tops: list[Tensor] = field(default_factory=list)


class Walk:
    """A way over a sequence and back.

    Attributes:
        running: the present states.
        buffer: the buffer, or ``None`` without forgetting.
        slices: what is kept of the sliced units: int32 ``[C+1, B, D]`` a chunk (SEQ-007).
        context: what the steps work with; it holds wraps and, if asked for, counts.
    """

    def __init__(
        self,
        stack: Stack,
        state: State,
        schedule: Schedule,
        buffer: Buffer | None,
        chunk_size: int,
        *,
        keep: bool = True,
        keep_states: bool = False,
        trace: bool = False,
        count: bool = False,
    ) -> None:
        """Stand at the beginning.

        Args:
            stack: the stack.
            state: where to start; it is not changed.
            schedule: what happens at which step.
            buffer: starting at the state's heads, or ``None`` without forgetting.
            chunk_size: steps that one call takes at most.
            keep: whether there will be a way back.
            keep_states: whether to keep the states, and go back by them.
            trace: whether to note what stands after each step.
            count: whether to count gates and words.
        """
        config, device = stack.config, state.h.device
        self.stack, self.schedule, self.buffer = stack, schedule, buffer
        self.chunk_size, self.keep = chunk_size, keep
        self.running = Running.of(state)
        self.states: list[Running] | None = [self.running.copy()] if keep_states else None
        self.trace = Trace() if trace else None
        self.slices: list[Tensor] = []
        self._set_aside: dict[int, State] = {}
        self._pushed_before = torch.zeros(1, dtype=torch.int64, device=device)
        self.context = Context(config, None, buffer)
        if config.can_wrap:
            self.context.wraps = torch.zeros((), dtype=torch.int64, device=device)
        if count:
            layers = config.num_layers
            self.context.gate_counts = torch.zeros(layers, 1025, dtype=torch.int64, device=device)
            self.context.pushed = torch.zeros(layers, dtype=torch.int64, device=device)

    @property
    def wraps(self) -> Tensor | None:
        """How often a state wrapped."""
        return self.context.wraps

    def forward(self, x: Tensor, start: int, outputs: Tensor | None = None) -> None:
        """Take the steps from ``start`` on.

        Args:
            x: their input operands, int16 ``[C, B, I]``.
            start: number of the first.
            outputs: where to write ``h`` of the top layer after each, int32 ``[C, B, H]``.
        """
        depth, slices = self.stack.config.slice_size, None
        if depth:
            slices = x.new_empty((len(x) + 1, x.shape[1], depth), dtype=torch.int32)
            slices[0] = self.running.h[-1][0][:, :depth]
        parts = self.stack.input_parts(x)
        if self.buffer is not None:
            self.buffer.open_block(self.chunk_size)
        counting = self.context.gate_counts is not None
        step = Stack.step if counting else compiled(Stack.step)
        for at, part in enumerate(parts):
            self._enter(start + at)
            step(self.stack, self.context, part, self.running)
            if outputs is not None:
                torch.cat(self.running.h[-1], 1, out=outputs[at])
            if slices is not None:
                slices[at + 1] = self.running.h[-1][0][:, :depth]
            self._note()
        if slices is not None and self.keep:
            self.slices.append(slices)
        if self.buffer is not None:
            self.buffer.close_block()
            self._pushed_before = self._pushed_before + self.buffer.top

    def _enter(self, t: int) -> None:
        """Make ready for step ``t``: what it depends on besides input and state."""
        self.context.rows, self.context.gains = self.schedule.rows(t), self.schedule.gain(t)
        rows = self.schedule.reset(t)
        if rows is None:
            return
        # SEQ-013: the rows' states are set aside; they cannot be recomputed.
        if self.keep and self.states is None:
            state = self.running.state(None)
            c = None if state.c is None else state.c[:, rows]
            self._set_aside[t] = State(state.h[:, rows], c, None)
        for groups in (self.running.h, self.running.c):
            for layer in groups:
                layer[:] = [group.index_fill(0, rows, 0) for group in layer]
        if self.states is not None:
            self.states[-1] = _Restarted(self.running.copy(), self.states[-1])

    def _note(self) -> None:
        if self.states is not None:
            self.states.append(self.running.copy())
        if self.trace is not None:
            self.trace.states.append(self.running.copy())
            if self.buffer is not None:
                self.trace.heads.append(self.buffer.heads)
                self.trace.tops.append(self._pushed_before + self.buffer.top)

    def back(
        self,
        x: Tensor,
        start: int,
        outputs: Tensor | None = None,
        after_step: Callable[[], None] | None = None,
        finish: bool = True,
    ) -> list[list[GroupStep]]:
        """Go back over the last chunk.

        Args:
            x: its input operands, int16 ``[C, B, I]``.
            start: number of its first step.
            outputs: where to write ``h`` of the top layer after each step, int32 ``[C, B, H]``.
            after_step: called after each step that was undone.
            finish: whether all that is left in the buffer's block is a fault.

        Returns:
            For each step, first step first, its updates, last first.
        """
        parts = self.stack.input_parts(x)
        slices = self.slices.pop() if self.slices else None
        if self.buffer is not None and self.states is None:
            self.buffer.reopen_block()
        found: list[list[GroupStep]] = []
        for t in reversed(range(start, start + len(x))):
            if outputs is not None:
                torch.cat(self.running.h[-1], 1, out=outputs[t - start])
            found.append(self._back_one(t, parts[t - start], slices, start))
            if after_step is not None:
                after_step()
        if self.buffer is not None and self.states is None and finish:
            self.buffer.finish_block()
        return found[::-1]

    def _back_one(self, t: int, part: Tensor, slices: Tensor | None, start: int) -> list[GroupStep]:
        context, reset = self.context, self.schedule.reset(t)
        context.rows, context.gains = self.schedule.rows(t), self.schedule.gain(t)
        if self.states is not None:
            after, before = self.states.pop(), self.states[-1]
            found = self.stack.steps_between(context, part, before, after)
            if isinstance(before, _Restarted):
                self.states[-1] = before.earlier
            self.running = self.states[-1]
            return found
        restore = None if slices is None else slices[t - start]
        if reset is not None and restore is not None:
            restore = restore.index_fill(0, reset, 0)
        found = compiled(Stack.step_back)(self.stack, context, part, self.running, restore)
        if reset is not None:
            self._take_back(self._set_aside.pop(t), reset)
        return found

    def _take_back(self, aside: State, rows: Tensor) -> None:
        for groups, values in ((self.running.h, aside.h), (self.running.c, aside.c)):
            for layer, both in zip(groups, [] if values is None else values, strict=True):
                parts = both.chunk(2, 1)
                layer[:] = [g.index_copy(0, rows, v) for g, v in zip(layer, parts, strict=True)]

    def state(self) -> State:
        """Return the present state."""
        return replace(self.running.state(self.buffer), config=self.stack.config)

    def bytes_kept(self) -> int:
        """Return the bytes kept to go back: words, slices, states set aside."""
        kept = 0 if self.buffer is None else self.buffer.block_bytes()
        kept += sum(4 * part.numel() for part in self.slices)
        for state in self._set_aside.values():
            kept += 4 * (state.h.numel() + (0 if state.c is None else state.c.numel()))
        return kept


class _Restarted(Running):
    """States after some rows started anew, which remember those before (SEQ-013)."""

    def __init__(self, after: Running, earlier: Running) -> None:
        super().__init__(after.h, after.c)
        self.earlier = earlier
