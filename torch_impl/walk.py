"""The eager engine's pass over a sequence: step by step, in tensor operations.

A :class:`Walk` processes a sequence by chunks of steps, first forward, then backward. Backward it
returns every group's update of a whole chunk, so that gradients can be computed for many steps at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .buffer import Buffer
from .cells import Context
from .compiled import compiled
from .engine import Store, take_back_by_parts
from .gradients import Backward, Gradients
from .sequence import GroupStep, Running, Schedule, Stack
from .state import State


@dataclass
class Tape:
    """A reversed chunk: its input, first step's number, and for each step its updates."""

    x: Tensor
    start: int
    steps: list[list[GroupStep]]


class Walk:
    """A pass over a sequence, forward and backward.

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
        backward: Callable[[], Backward] | None = None,
        keep: bool = True,
        keep_states: bool = False,
        count: bool = False,
    ) -> None:
        """Stand at the beginning.

        Args:
            stack: the stack.
            state: where to start; it is not changed.
            schedule: what happens at which step.
            buffer: starting at the state's heads, or ``None`` without forgetting.
            chunk_size: steps that one call takes at most.
            backward: gives what carries gradients back.
            keep: whether there will be a backward pass.
            keep_states: whether to keep the states, for the backward pass.
            count: whether to count gates and words.
        """
        config, device = stack.config, state.h.device
        self.stack, self.schedule, self.buffer = stack, schedule, buffer
        self.chunk_size, self.keep, self._backward = chunk_size, keep, backward
        self.running = Running.of(state)
        self.states: list[Running] | None = [self.running.copy()] if keep_states else None
        self.slices: list[Tensor] = []
        self._set_aside: dict[int, State] = {}
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

    @property
    def gate_counts(self) -> Tensor | None:
        """Histograms of the gates by layer, if counted."""
        return self.context.gate_counts

    @property
    def pushed(self) -> Tensor | None:
        """Words that each layer pushed, if counted."""
        return self.context.pushed

    def advance(self, x: Tensor, start: int, outputs: Tensor | None = None) -> None:
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
        parts = self.stack.first_layer_parts(x)
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
            if self.states is not None:
                self.states.append(self.running.copy())
        if slices is not None and self.keep:
            self.slices.append(slices)
        if self.buffer is not None:
            self.buffer.close_block()

    def _enter(self, t: int) -> None:
        """Set the context of step ``t``: mask, gains and resets."""
        self.context.rows, self.context.gains = self.schedule.rows(t), self.schedule.gain(t)
        rows = self.schedule.reset(t)
        if rows is None:
            return
        # SEQ-013: the rows' states are kept, since they cannot be recomputed.
        if self.keep and self.states is None:
            state = self.running.state(None)
            c = None if state.c is None else state.c[:, rows]
            self._set_aside[t] = State(state.h[:, rows], c, None)
        for groups in (self.running.h, self.running.c):
            for layer in groups:
                layer[:] = [group.index_fill(0, rows, 0) for group in layer]
        if self.states is not None:
            self.states[-1] = _Restarted(self.running.copy(), self.states[-1])

    def recover(
        self, x: Tensor, start: int, outputs: Tensor | None = None, finish: bool = True
    ) -> Tape:
        """Reverse the last chunk.

        Args:
            x: its input operands, int16 ``[C, B, I]``.
            start: number of its first step.
            outputs: where to write ``h`` of the top layer after each step, int32 ``[C, B, H]``.
            finish: whether words left in the buffer's block are a fault; else they stay a block.
        """
        parts = self.stack.first_layer_parts(x)
        slices = self.slices.pop() if self.slices else None
        aside = None if slices is None else slices[len(slices) - 1 - len(x) :]
        if self.buffer is not None and self.states is None:
            self.buffer.reopen_block()
        updates: list[list[GroupStep]] = []
        for t in reversed(range(start, start + len(x))):
            if outputs is not None:
                torch.cat(self.running.h[-1], 1, out=outputs[t - start])
            updates.append(self._back_one(t, parts[t - start], aside, start))
        if slices is not None and not finish:
            self.slices.append(slices[: len(slices) - len(x)])
        if self.buffer is not None and self.states is None:
            if finish:
                self.buffer.finish_block()
            else:
                self.buffer.check_underflow()
                self.buffer.close_block()
        return Tape(x, start, updates[::-1])

    def pullback(
        self, tape: Tape, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> None:
        """Carry the gradient over a chunk that was just recovered."""
        assert self._backward is not None
        made = self._backward().chunk(tape.x, tape.start, tape.steps, grad_outputs, into)
        if dx is not None:
            dx.copy_(made)

    take_back = take_back_by_parts

    def _back_one(self, t: int, part: Tensor, slices: Tensor | None, start: int) -> list[GroupStep]:
        context, reset = self.context, self.schedule.reset(t)
        context.rows, context.gains = self.schedule.rows(t), self.schedule.gain(t)
        if self.states is not None:
            after, before = self.states.pop(), self.states[-1]
            updates = self.stack.steps_between(context, part, before, after)
            if isinstance(before, _Restarted):
                self.states[-1] = before.earlier
            self.running = self.states[-1]
            return updates
        restore = None if slices is None else slices[t - start]
        if reset is not None and restore is not None:
            restore = restore.index_fill(0, reset, 0)
        updates = compiled(Stack.step_back)(self.stack, context, part, self.running, restore)
        if reset is not None:
            self._take_back(self._set_aside.pop(t), reset)
        return updates

    def _take_back(self, aside: State, rows: Tensor) -> None:
        for groups, values in ((self.running.h, aside.h), (self.running.c, aside.c)):
            for layer, both in zip(groups, [] if values is None else values, strict=True):
                parts = both.chunk(2, 1)
                layer[:] = [g.index_copy(0, rows, v) for g, v in zip(layer, parts, strict=True)]

    def state(self) -> State:
        """Return the present state."""
        return replace(self.running.state(self.buffer), config=self.stack.config)

    def store(self) -> Store:
        """Return what is in the buffer, and the slices."""
        slices = None
        if self.slices:
            slices = torch.cat([self.slices[0][:1], *(part[1:] for part in self.slices)])
        if self.buffer is None:
            none = torch.zeros(0, dtype=torch.int16, device="cpu")
            return Store(none, none.to(torch.uint8), slices)
        return Store(self.buffer.words(), self.buffer.flags(), slices)

    def left_over(self) -> Tensor | None:
        """Return how much the reversal left in the buffer."""
        return None if self.buffer is None else self.buffer.left_over

    def check_underflow(self) -> None:
        """Raise an error if more was popped than there was."""
        if self.buffer is not None:
            self.buffer.check_underflow()

    def bytes_kept(self) -> int:
        """Return the bytes kept for the backward pass: words, slices, states of reset rows."""
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
