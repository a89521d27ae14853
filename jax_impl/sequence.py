"""Stacks of layers over sequences, forward and back (SEQ): ``lax.scan`` over the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config
from revrnn.formats import GAIN_BITS, GAIN_MAX, OPERAND_MAX

from .buffer import Buffer, heads_of
from .cells import Context, Gates, gates_of, layer_weights, undo, update
from .chunks import scan
from .groups import Groups, Pair
from .product import multiply
from .quantise import dequantise, quantise, round_shift, view, view_passes
from .resets import Replaced, replace_rows, restore_rows
from .status import GAINS, NONFINITE, first, flag


class Visit(NamedTuple):
    """What was met at one group's update, on the way back.

    Attributes:
        layer: which layer.
        group: which group, 0 or 1.
        gates: its gates.
        before: the states just before its update.
        after: the states just after it.
    """

    layer: int
    group: int
    gates: Gates
    before: Groups
    after: Groups


class LayerInput(NamedTuple):
    """What a layer above the first takes in, and what its gradient needs (SEQ-004, SEQ-012).

    Attributes:
        operand: int32 ``[B, H]``.
        passes: where nothing saturated (GRAD-002, GRAD-016), bool ``[B, H]``.
    """

    operand: jax.Array
    passes: jax.Array


# Last first: two visits a layer, and the input of each layer, ``None`` for layer 0.
Visits = tuple[list[Visit], list[LayerInput | None]]


class Stack:
    """A stack of reversible layers with its weights prepared."""

    def __init__(self, config: Config, params: Mapping[str, jax.Array], method: str) -> None:
        """Take the parameters of CELL-003 in fixed point, and a way of multiplying."""
        self.config = config
        self.weights = [
            layer_weights(config, params, layer, method) for layer in range(config.num_layers)
        ]

    def first_parts(self, x: jax.Array) -> jax.Array:
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

    def input_parts(
        self, x_part: jax.Array, groups: Groups, layer: int, gains: jax.Array | None
    ) -> tuple[Pair, LayerInput | None]:
        """Return the products of a layer's input with both groups' rows, ``[B, N·G]``.

        ``x_part`` is layer 0's, from :meth:`first_parts`; with those of others comes the input.
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
            parts, _ = self.input_parts(x_part, groups, layer, gains)
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
    ) -> tuple[Context, Groups, Visits]:
        """Return context and states one step earlier (CELL-040), and what was met."""
        visits, inputs = [], []
        for layer in reversed(range(self.config.num_layers)):
            parts, taken = self.input_parts(x_part, groups, layer, gains)
            inputs.append(taken)
            for group in (1, 0):
                gates = self.gates(parts[group], groups, layer, group)
                cut = restore[:, : self.sliced(layer, group)]
                h, c = groups.group(layer, group)
                context, h, c = undo(self.config, context, gates, cut, h, c)
                after, groups = groups, groups.replace(layer, group, h, c)
                visits.append(Visit(layer, group, gates, groups, after))
        return context, groups, (visits, inputs)

    def visits_between(
        self, x_part: jax.Array, before: Groups, after: Groups, gains: jax.Array | None
    ) -> Visits:
        """Return what :meth:`step_back` meets, from known states before and after the step."""
        visits, inputs, groups = [], [], after
        for layer in reversed(range(self.config.num_layers)):
            parts, taken = self.input_parts(x_part, groups, layer, gains)
            inputs.append(taken)
            for group in (1, 0):
                later, groups = groups, groups.replace(layer, group, *before.group(layer, group))
                gates = self.gates(parts[group], groups, layer, group)
                visits.append(Visit(layer, group, gates, groups, later))
        return visits, inputs


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


class Trace(NamedTuple):
    """The state beside each step (EVAL-009), with a leading axis of steps.

    ``words`` is the number of words (for ``wordlist`` planes) in the store.
    """

    h: jax.Array
    c: jax.Array | None
    heads: jax.Array | None
    words: jax.Array | None


Past = tuple[jax.Array, jax.Array | None]


class Forward(NamedTuple):
    """What a forward pass delivers (EVAL-008, EVAL-009).

    Attributes:
        outputs: ``[T, B, H]``, h of the top layer after each step (SEQ-005): int32, or float32
            where floats were given.
        groups: the final states.
        buffer: the buffer, or ``None`` without forgetting.
        replaced: the states that resets replaced, or ``None``.
        slices: int32 ``[T+1, B, D]`` (SEQ-007).
        wraps: number of wraps, int32.
        gate_counts: int64 ``[1025]`` (ACC-001), if asked for.
        status: faults.
        trace: the states after each step, if asked for.
        before: ``h`` and ``c`` before each step and its resets, ``[T, L, B, H]``, if asked for.
    """

    outputs: jax.Array
    groups: Groups
    buffer: Buffer | None
    replaced: Replaced | None
    slices: jax.Array
    wraps: jax.Array
    gate_counts: jax.Array | None
    status: jax.Array
    trace: Trace | None
    before: Past | None


def sequence_forward(
    stack: Stack,
    steps: Steps,
    groups: Groups,
    buffer: Buffer | None,
    *,
    replaced: Replaced | None = None,
    status: jax.Array | None = None,
    trace: bool = False,
    before: bool = False,
    count_gates: bool = False,
) -> Forward:
    """Run a stack over a sequence, pushing to ``buffer``.

    Args:
        stack: the stack.
        steps: what is given for each step; from float32 inputs the outputs are float32 too, NaN
            from the first fault on.
        groups: where to start.
        buffer: where to push, or ``None`` without forgetting.
        replaced: where to put the states that resets replace; without it they are let go.
        status: faults found before.
        trace: whether to deliver the state after each step.
        before: whether to deliver the states before each step.
        count_gates: whether to count the gates.
    """
    config = stack.config
    floats = steps.x.dtype == jnp.float32
    depth, none = config.slice_size, jnp.int32(0)
    Carry = tuple[Context, Groups, Replaced | None, jax.Array]

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        context, groups, replaced, status = carry
        x_part, bad, rows, gain, reset = inputs
        context = context._replace(rows=rows)
        past = groups.arrays() if before else None
        if reset is not None:
            replaced, groups = replace_rows(replaced, reset, groups)
        if bad is not None:
            status = first(status, flag(bad, NONFINITE))
        context, groups = stack.step(context, x_part, groups, gain)
        top = jnp.concatenate(groups.h[-1], 1)
        out = top
        if floats:
            found = status | status_of(context.buffer, replaced)
            out = mark(dequantise(top, config.formats.state_bits), found)
        after = trace_of(groups, context.buffer) if trace else None
        return (context, groups, replaced, status), (out, top[:, :depth], after, past)

    counts = jnp.zeros(1025, jnp.int64) if count_gates and config.forgetting else None
    rows = jnp.zeros(steps.mask.shape[1], jnp.bool_)
    context = Context(rows, buffer, none, counts)
    first_slice = jnp.concatenate(groups.h[-1], 1)[None, :, :depth]
    bad = ~jnp.isfinite(steps.x).all((1, 2)) if floats else None
    x_parts = stack.first_parts(to_operand(config, steps.x))
    xs = (x_parts, bad, steps.mask, steps.gains, steps.resets)
    carry = (context, groups, replaced, none if status is None else status)
    (context, groups, replaced, status), ys = scan(body, carry, xs)
    outputs, slices, after, past = ys
    return Forward(
        outputs,
        groups,
        context.buffer,
        replaced,
        jnp.concatenate([first_slice, slices]),
        context.wraps,
        context.gate_counts,
        status | status_of(context.buffer, replaced),
        after,
        past,
    )


class Reverse(NamedTuple):
    """What the way back delivers.

    Attributes:
        groups: the states at the start.
        buffer: the buffer, or ``None`` without forgetting.
        replaced: what is left of the states that resets replaced, or ``None``.
        outputs: int32 ``[T, B, H]``, h of the top layer after each step (SEQ-005).
        met: what ``meet`` made of each step, with a leading axis of steps.
        trace: what stands after each step is undone, if asked for.
    """

    groups: Groups
    buffer: Buffer | None
    replaced: Replaced | None
    outputs: jax.Array
    met: Any
    trace: Trace | None


def sequence_reverse(
    stack: Stack,
    steps: Steps,
    groups: Groups,
    buffer: Buffer | None,
    slices: jax.Array,
    *,
    replaced: Replaced | None = None,
    before: Past | None = None,
    meet: Callable[[Visits, jax.Array], Any] | None = None,
    trace: bool = False,
) -> Reverse:
    """Undo a sequence step by step, popping from ``buffer``.

    Args:
        stack: the stack.
        steps: what the forward pass was given.
        groups: the final states.
        buffer: heads and store after the forward pass, or ``None`` without forgetting.
        slices: int32 ``[T+1, B, D]``.
        replaced: the states that resets replaced.
        before: ``h`` and ``c`` before each step and its resets where they are stored: then nothing
            is undone, the states are looked up.
        meet: makes, of what was met in a step and its mask, what is to be delivered.
        trace: whether to deliver what stands after each step is undone.
    """
    Carry = tuple[Context, Groups, Replaced | None]

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        context, groups, replaced = carry
        x_part, rows, restore, past, gain, reset = inputs
        context = context._replace(rows=rows)
        top = jnp.concatenate(groups.h[-1], 1)
        if past is None:
            if reset is not None:
                restore = jnp.where(reset[:, None], 0, restore)
            context, groups, visits = stack.step_back(context, x_part, groups, restore, gain)
            if reset is not None:
                assert replaced is not None
                replaced, groups = restore_rows(replaced, reset, groups)
        else:
            earlier = Groups.cut(*past)
            start = earlier if reset is None else replace_rows(None, reset, earlier)[1]
            visits, groups = stack.visits_between(x_part, start, groups, gain), earlier
        met = None if meet is None else meet(visits, rows)
        after = trace_of(groups, context.buffer) if trace else None
        return (context, groups, replaced), (top, met, after)

    rows = jnp.zeros(steps.mask.shape[1], jnp.bool_)
    context = Context(rows, buffer, jnp.int32(0), None)
    x_parts = stack.first_parts(to_operand(stack.config, steps.x))
    xs = (x_parts, steps.mask, slices[:-1], before, steps.gains, steps.resets)
    (context, groups, replaced), ys = scan(body, (context, groups, replaced), xs, reverse=True)
    return Reverse(groups, context.buffer, replaced, *ys)


def to_operand(config: Config, x: jax.Array) -> jax.Array:
    """Return inputs as operands (QNT-005)."""
    return quantise("operand", x, config.formats) if x.dtype == jnp.float32 else x


def mark(v: jax.Array, status: jax.Array) -> jax.Array:
    """Return floats as they are, or NaN after a fault: nothing is delivered then (ERR-003)."""
    # NumPy's NaN, since making one of JAX's is what jax_debug_nans reports.
    return jnp.where(status == 0, v, np.float32(np.nan))


def gains_fault(gains: jax.Array | None) -> jax.Array:
    """Return the fault of gains out of range (SEQ-012)."""
    if gains is None:
        return flag(jnp.bool_(False), GAINS)
    wrong = ((gains < 0) | (gains > GAIN_MAX)).any()
    return flag(wrong, GAINS)


def status_of(buffer: Buffer | None, replaced: Replaced | None = None) -> jax.Array:
    """Return the faults that a buffer, and the store of replaced states, met."""
    found = jnp.int32(0) if buffer is None else buffer.faults()
    return found if replaced is None else first(found, replaced.faults())


def trace_of(groups: Groups, buffer: Buffer | None) -> Trace:
    """Return the present state as one entry of a trace."""
    if buffer is None:
        return Trace(*groups.arrays(), None, None)
    return Trace(*groups.arrays(), heads_of(buffer), buffer.length)
