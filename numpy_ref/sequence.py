"""Stacks of layers over sequences, forward and back (SEQ)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from revrnn.config import Config
from revrnn.formats import GAIN_BITS, OPERAND_MAX

from .buffer import Buffer
from .cells import Context, GroupWeights, GruGates, LstmGates, gates_of, group_weights, undo, update
from .quantise import round_shift, view

Ints = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Params = Mapping[str, npt.NDArray[Any]]
Gates = GruGates | LstmGates


@dataclass
class State:
    """States of all layers: ``h`` and, for RevLSTM, ``c``, int64 ``[L, B, H]`` (SEQ-006)."""

    h: Ints
    c: Ints | None

    def copy(self) -> State:
        """Return a copy that shares nothing."""
        return State(self.h.copy(), None if self.c is None else self.c.copy())

    def group(self, layer: int, group: int) -> tuple[Ints, Ints | None]:
        """Return ``h`` and ``c`` of group 0 or 1 of a layer, each ``[B, G]``."""
        columns = self._columns(group)
        return self.h[layer][:, columns], None if self.c is None else self.c[layer][:, columns]

    def set_group(self, layer: int, group: int, h: Ints, c: Ints | None) -> None:
        """Replace ``h`` and ``c`` of group 0 or 1 of a layer."""
        self.h[layer][:, self._columns(group)] = h
        if self.c is not None and c is not None:
            self.c[layer][:, self._columns(group)] = c

    def _columns(self, group: int) -> slice:
        units = self.h.shape[2] // 2
        return slice(group * units, (group + 1) * units)


class Stack:
    """A stack of reversible layers with its weights cut up by layer and group."""

    def __init__(self, config: Config, params: Params) -> None:
        """Take the parameters of CELL-003, already in fixed point."""
        self.config = config
        self.weights: list[list[GroupWeights]] = [
            [group_weights(config, params, layer, group) for group in (0, 1)]
            for layer in range(config.num_layers)
        ]

    def layer_input(self, x: Ints, state: State, layer: int, gains: Ints | None) -> Ints:
        """Return a layer's input operand ``[B, I_k]`` in the present step (SEQ-004)."""
        if layer == 0:
            return x
        a = view(state.h[layer - 1], self.config.formats.state_bits, self.config.view_bits)
        return a if gains is None else gained(a, gains[layer - 1])

    def gates(
        self, x: Ints, state: State, layer: int, group: int, gains: Ints | None = None
    ) -> Gates:
        """Return a group's gates, from its layer's input and the other group's state."""
        other, _ = state.group(layer, 1 - group)
        layer_x = self.layer_input(x, state, layer, gains)
        return gates_of(self.config, self.weights[layer][group], layer_x, other)

    def sliced(self, layer: int, group: int) -> int:
        """Return how many units of a group are sliced (SEQ-007)."""
        return self.config.layer_slice(layer) if group == 0 else 0

    def step(self, context: Context, x: Ints, state: State) -> None:
        """Carry ``state`` one step forward, in place (SEQ-001)."""
        for layer in range(self.config.num_layers):
            for group in (0, 1):
                gates = self.gates(x, state, layer, group, context.gains)
                h, c = state.group(layer, group)
                h, c = update(context, gates, self.sliced(layer, group), h, c)
                state.set_group(layer, group, h, c)

    def step_back(
        self, context: Context, x: Ints, state: State, restore: Ints
    ) -> Iterator[tuple[int, int, Gates, State]]:
        """Carry ``state`` one step back, in place (CELL-040).

        Yields:
            Layer, group, the group's gates and the state just before that group's update.
        """
        for layer in reversed(range(self.config.num_layers)):
            for group in (1, 0):
                gates = self.gates(x, state, layer, group, context.gains)
                sliced = self.sliced(layer, group)
                h, c = state.group(layer, group)
                h, c = undo(context, gates, sliced, restore[:, :sliced], h, c)
                state.set_group(layer, group, h, c)
                yield layer, group, gates, state


@dataclass
class Forward:
    """What a forward pass delivers (EVAL-008, EVAL-009).

    Attributes:
        outputs: ``[T, B, H]``, h of the top layer after each step (SEQ-005).
        state: the final state.
        buffer: the buffer, or ``None`` without forgetting.
        slices: ``[T+1, B, D]`` (SEQ-007).
        wraps: number of wraps.
        gate_counts: ``[1025]`` (ACC-001).
        states: the state after each step.
        heads_steps: the heads after each step, ``[T, B, G]``.
        words_steps: the number of words after each step.
    """

    outputs: Ints
    state: State
    buffer: Buffer | None
    slices: Ints
    wraps: int
    gate_counts: Ints
    states: list[State] = field(default_factory=list)
    heads_steps: list[Ints] = field(default_factory=list)
    words_steps: list[int] = field(default_factory=list)


def gained(a: Ints, gain: Ints) -> Ints:
    """Return an operand multiplied by a gain (SEQ-012)."""
    product: Ints = np.clip(round_shift(a * gain, GAIN_BITS), -OPERAND_MAX, OPERAND_MAX)
    return product


def gain_passes(a: Ints, gain: Ints) -> Bools:
    """Say where :func:`gained` did not saturate, so that gradients pass (GRAD-016)."""
    return np.abs(round_shift(a * gain, GAIN_BITS)) <= OPERAND_MAX


def sequence_forward(
    config: Config,
    params: Params,
    x: Ints,
    mask: Bools,
    state: State,
    buffer: Buffer | None,
    gains: Ints | None = None,
) -> Forward:
    """Run a stack over a sequence, pushing to ``buffer``; ``state`` is left alone.

    Args:
        config: the stack.
        params: its parameters in fixed point.
        x: input operand ``[T, B, I]``.
        mask: ``[T, B]``, true where a row has the step (SEQ-002).
        state: where to start.
        buffer: where to push, or ``None`` without forgetting.
        gains: ``[T, L-1, B, H]`` or ``None`` (SEQ-012).
    """
    stack = Stack(config, params)
    state = state.copy()
    top, depth = config.num_layers - 1, config.slice_size
    outputs = np.zeros((len(x), x.shape[1], config.hidden_size), np.int64)
    slices = np.zeros((len(x) + 1, x.shape[1], depth), np.int64)
    slices[0] = state.h[top][:, :depth]
    result = Forward(outputs, state, buffer, slices, 0, np.zeros(1025, np.int64))
    for t in range(len(x)):
        context = Context(config, mask[t], buffer, None if gains is None else gains[t])
        stack.step(context, x[t], state)
        outputs[t], slices[t + 1] = state.h[top], state.h[top][:, :depth]
        result.wraps += context.wraps
        result.gate_counts += context.gate_counts
        result.states.append(state.copy())
        if buffer is not None:
            result.heads_steps.append(buffer.heads.copy())
            result.words_steps.append(buffer.words_count())
    return result


def sequence_reverse(
    config: Config,
    params: Params,
    x: Ints,
    mask: Bools,
    state: State,
    buffer: Buffer | None,
    slices: Ints,
    gains: Ints | None = None,
) -> Iterator[State]:
    """Undo a sequence step by step, popping from ``buffer``.

    Yields:
        The state before step T−1, then before T−2, … (the same object, changed in place).
    """
    stack = Stack(config, params)
    state = state.copy()
    for t in reversed(range(len(x))):
        context = Context(config, mask[t], buffer, None if gains is None else gains[t])
        for _ in stack.step_back(context, x[t], state, slices[t]):
            pass
        yield state
