"""Stacks of layers, a step forward and back (SEQ)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.formats import GAIN_BITS, OPERAND_MAX

from .activations import tanh
from .cells import Context, Gates, gates_of, layer_weights, undo, update
from .groups import Groups, Pair
from .product import multiply
from .quantise import round_shift, view, view_passes


class LayerInput(NamedTuple):
    """What a layer above the first takes in, and what its gradient needs (SEQ-004, SEQ-012).

    Attributes:
        operand: int32 ``[B, H]``.
        passes: where nothing saturated (GRAD-002, GRAD-016), bool ``[B, H]``.
    """

    operand: jax.Array
    passes: jax.Array


class GroupStep(NamedTuple):
    """One group's update within a step, as its reversal finds it, int32 ``[B, G]``.

    Attributes:
        gates: the gates.
        h: the own ``h`` before.
        c: the own ``c`` before, or ``None``.
        t: ``tanh`` of the own ``c`` after, or ``None``.
        other: the other group's ``h``.
    """

    gates: Gates
    h: jax.Array
    c: jax.Array | None
    t: jax.Array | None
    other: jax.Array


class LayerStep(NamedTuple):
    """The updates of a layer's two groups within a step, and its input; ``None`` in layer 0."""

    groups: tuple[GroupStep, GroupStep]
    input: LayerInput | None


class Stack:
    """A stack of reversible layers with its weights prepared."""

    def __init__(self, config: Config, params: Mapping[str, jax.Array], method: str) -> None:
        """Take the parameters of CELL-003 in fixed point, and a way of multiplying."""
        self.config = config
        self.weights = [
            layer_weights(config, params, layer, method) for layer in range(config.num_layers)
        ]

    def first_layer_parts(self, x: jax.Array) -> jax.Array:
        """Return the products of layer 0's inputs ``[C, B, I]`` in many steps, ``[C, B, N·H]``."""
        steps, rows, width = x.shape
        parts = multiply(x.reshape(steps * rows, width), self.weights[0].w_ih)
        return parts.reshape(steps, rows, parts.shape[1])

    def layer_input(self, groups: Groups, layer: int, gains: jax.Array | None) -> LayerInput:
        """Return what a layer above the first takes in, in the present step (SEQ-004)."""
        bits, view_bits = self.config.formats.state_bits, self.config.view_bits
        below = jnp.concatenate(groups.h[layer - 1], 1)
        a, passes = view(below, bits, view_bits), view_passes(below, bits, view_bits)
        if gains is None:
            return LayerInput(a, passes)
        product = round_shift(a * gains[layer - 1], GAIN_BITS)  # SEQ-012: 32512 · 2^16 fits int32
        a = jnp.clip(product, -OPERAND_MAX, OPERAND_MAX)
        return LayerInput(a, passes & (a == product))

    def layer_parts(
        self, x_part: jax.Array, groups: Groups, layer: int, gains: jax.Array | None
    ) -> tuple[Pair, LayerInput | None]:
        """Return the products of a layer's input with both groups' rows, ``[B, N·G]``.

        ``x_part`` is layer 0's (:meth:`first_layer_parts`); with those of others comes the input.
        """
        taken = None
        if layer:
            taken = self.layer_input(groups, layer, gains)
            x_part = multiply(taken.operand, self.weights[layer].w_ih)
        size = x_part.shape[1] // 2
        return (x_part[:, :size], x_part[:, size:]), taken

    def gates(self, x_part: jax.Array, groups: Groups, layer: int, group: int) -> Gates:
        """Return a group's gates, from its layer's input and the other group's state."""
        other, _ = groups.group(layer, 1 - group)
        weights = self.weights[layer].groups[group]
        return gates_of(self.config, weights, layer, x_part, other)

    def sliced(self, layer: int, group: int) -> int:
        """Return how many units of a group are sliced (SEQ-007)."""
        return self.config.layer_slice(layer) if group == 0 else 0

    def step(
        self, context: Context, x_part: jax.Array, groups: Groups, gains: jax.Array | None
    ) -> tuple[Context, Groups]:
        """Return context and states one step later (SEQ-001)."""
        for layer in range(self.config.num_layers):
            parts, _ = self.layer_parts(x_part, groups, layer, gains)
            for group in (0, 1):
                gates = self.gates(parts[group], groups, layer, group)
                h, c = groups.group(layer, group)
                sliced = self.sliced(layer, group)
                context, h, c = update(self.config, context, gates, sliced, h, c)
                groups = groups.replace(layer, group, h, c)
        return context, groups

    def step_back(
        self,
        context: Context,
        x_part: jax.Array,
        groups: Groups,
        restore: jax.Array,
        gains: jax.Array | None,
        before: Groups | None = None,
    ) -> tuple[Context, Groups, tuple[LayerStep, ...]]:
        """Return context and states one step earlier (CELL-040), and the updates, by layer.

        Where the states ``before`` the step are stored, nothing is undone.
        """
        steps: list[LayerStep] = []
        bits = self.config.formats.state_bits
        for layer in reversed(range(self.config.num_layers)):
            parts, taken = self.layer_parts(x_part, groups, layer, gains)
            updates: list[GroupStep] = []
            for group in (1, 0):
                gates = self.gates(parts[group], groups, layer, group)
                h, c = groups.group(layer, group)
                t = None if c is None else tanh(c, bits)
                if before is None:
                    cut = restore[:, : self.sliced(layer, group)]
                    context, h, c = undo(self.config, context, gates, cut, h, c)
                else:
                    h, c = before.group(layer, group)
                other, _ = groups.group(layer, 1 - group)
                groups = groups.replace(layer, group, h, c)
                updates.append(GroupStep(gates, h, c, t, other))
            steps.append(LayerStep((updates[1], updates[0]), taken))
        return context, groups, tuple(reversed(steps))


class Steps(NamedTuple):
    """What is given for each step, with a leading axis of steps.

    Attributes:
        x: ``[T, B, I]``: input operand int16, or float32.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002).
        gains: int32 ``[T, L-1, B, H]`` or ``None`` (SEQ-012).
        resets: bool ``[T, B]``, where a row starts anew before the step, or ``None`` (SEQ-013).
    """

    x: jax.Array
    mask: jax.Array
    gains: jax.Array | None = None
    resets: jax.Array | None = None
