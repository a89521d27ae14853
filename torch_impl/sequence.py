"""Stacks of layers, a step forward and back (SEQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.formats import GAIN_BITS, OPERAND_MAX

from .activations import packed_table, tanh
from .buffer import Buffer
from .cells import Context, Gates, LayerWeights, gates_of, undo, update
from .quantise import round_shift
from .state import State

Groups = list[list[Tensor]]  # by layer and group, int32 [B, G]


def split_groups(h: Tensor) -> Groups:
    """Return ``[L, B, H]`` as a tensor of its own for every layer and group."""
    return [[group.contiguous() for group in layer.chunk(2, 1)] for layer in h]


def join_groups(groups: Groups) -> Tensor:
    """Return ``[L, B, H]`` from its layers and groups."""
    return torch.stack([torch.cat(layer, 1) for layer in groups])


@dataclass
class Running:
    """The current states of a pass, by layer and group; ``c`` is empty for RevGRU."""

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


@dataclass
class LayerInput:
    """The input of a layer above the first, and what its gradient needs (SEQ-004, SEQ-012).

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
        input: the layer's input; ``None`` in layer 0.
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
        packed_table(params["bias_l0"].device)  # made before steps are compiled

    def first_layer_parts(self, x: Tensor) -> Tensor:
        """Return layer 0's input parts for a chunk ``[C, B, I]``, int64 ``[C, B, 2, N·G]``."""
        steps, rows, _ = x.shape
        return self.layers[0].input_part(x.reshape(steps * rows, -1)).view(steps, rows, 2, -1)

    def layer_parts(
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
            part, _ = self.layer_parts(context, layer, x_part, running)
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
            part, taken = self.layer_parts(context, layer, x_part, running)
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
            part, taken = self.layer_parts(context, layer, x_part, after)
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
    """Mask, resets and gains of each step.

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
