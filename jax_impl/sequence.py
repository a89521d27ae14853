"""Stacks of layers over sequences, forward and back (SEQ): ``lax.scan`` over the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.formats import OPERAND_MAX

from .buffer import Buffer, WordlistBuffer, heads_of
from .cells import Context, Gates, gates_of, layer_weights, undo, update
from .product import multiply
from .quantise import dequantise, nonfinite, quantise, round_shift, view
from .status import NONFINITE, first, flag

Pair = tuple[jax.Array, jax.Array]

# Fraction bits of the gains between layers (SEQ-012).
GAIN_BITS = 12


class State(NamedTuple):
    """The exact state that is carried from call to call (SEQ-006).

    Attributes:
        h: int32 ``[L, B, H]``, ``R_H`` fraction bits.
        c: the same for RevLSTM's ``c``, or ``None``.
        heads: the buffer's heads: int32 ``[B, G]`` for ``stream``; uint32 ``[B, G, 2]``, low and
            high half, for ``wordlist``; ``None`` without forgetting.
    """

    h: jax.Array
    c: jax.Array | None
    heads: jax.Array | None


class Groups(NamedTuple):
    """The states of all layers cut up by layer and group, each int32 ``[B, G]``."""

    h: tuple[Pair, ...]
    c: tuple[Pair, ...] | None

    @classmethod
    def cut(cls, h: jax.Array, c: jax.Array | None) -> Groups:
        """Cut arrays ``[L, B, H]`` up."""

        def pairs(v: jax.Array) -> tuple[Pair, ...]:
            units = v.shape[2] // 2
            return tuple((v[k, :, :units], v[k, :, units:]) for k in range(v.shape[0]))

        return cls(pairs(h), None if c is None else pairs(c))

    def arrays(self) -> tuple[jax.Array, jax.Array | None]:
        """Return ``h`` and ``c`` as ``[L, B, H]``."""

        def whole(pairs: tuple[Pair, ...]) -> jax.Array:
            return jnp.stack([jnp.concatenate(pair, 1) for pair in pairs])

        return whole(self.h), None if self.c is None else whole(self.c)

    def group(self, layer: int, group: int) -> tuple[jax.Array, jax.Array | None]:
        """Return ``h`` and ``c`` of group 0 or 1 of a layer."""
        return self.h[layer][group], None if self.c is None else self.c[layer][group]

    def replace(self, layer: int, group: int, h: jax.Array, c: jax.Array | None) -> Groups:
        """Return the states with ``h`` and ``c`` of one group replaced."""
        new_c = self.c
        if new_c is not None and c is not None:
            new_c = _replaced(new_c, layer, group, c)
        return Groups(_replaced(self.h, layer, group, h), new_c)


def _replaced(
    pairs: tuple[Pair, ...], layer: int, group: int, value: jax.Array
) -> tuple[Pair, ...]:
    old = pairs[layer]
    pair = (value, old[1]) if group == 0 else (old[0], value)
    return (*pairs[:layer], pair, *pairs[layer + 1 :])


class Visit(NamedTuple):
    """What was met at one group's update, on the way back.

    Attributes:
        layer: which layer.
        group: which group, 0 or 1.
        gates: its gates.
        x: its layer's input operand ``[B, I_k]``.
        before: the states just before its update.
        after: the states just after it.
        gain: what its layer's input was multiplied by, int32 ``[B, H]``, or ``None`` (SEQ-012).
    """

    layer: int
    group: int
    gates: Gates
    x: jax.Array
    before: Groups
    after: Groups
    gain: jax.Array | None


def gained(a: jax.Array, gain: jax.Array) -> jax.Array:
    """Return an operand multiplied by a gain, in int32 (SEQ-012)."""
    product = round_shift(a.astype(jnp.int32) * gain, GAIN_BITS)  # 32512 · 2^16 fits
    return jnp.clip(product, -OPERAND_MAX, OPERAND_MAX).astype(a.dtype)


def gain_passes(a: jax.Array, gain: jax.Array) -> jax.Array:
    """Say where :func:`gained` did not saturate, so that gradients pass (GRAD-016)."""
    return jnp.abs(round_shift(a.astype(jnp.int32) * gain, GAIN_BITS)) <= OPERAND_MAX


def gain_of(gains: jax.Array | None, layer: int) -> jax.Array | None:
    """Return what a layer's input is multiplied by, or ``None``."""
    return None if gains is None or layer == 0 else gains[layer - 1]


class Stack:
    """A stack of reversible layers with its weights prepared."""

    def __init__(self, config: Config, params: Mapping[str, jax.Array], method: str) -> None:
        """Take the parameters of CELL-003 in fixed point, and a way of multiplying."""
        self.config = config
        self.weights = [
            layer_weights(config, params, layer, method) for layer in range(config.num_layers)
        ]

    def layer_input(
        self, x: jax.Array, groups: Groups, layer: int, gains: jax.Array | None
    ) -> jax.Array:
        """Return a layer's input operand ``[B, I_k]`` in the present step (SEQ-004)."""
        if layer == 0:
            return x
        below = jnp.concatenate(groups.h[layer - 1], 1)
        a = view(below, self.config.formats.state_bits, self.config.view_bits)
        return a if gains is None else gained(a, gains[layer - 1])

    def input_parts(self, x: jax.Array, layer: int) -> Pair:
        """Return the products of a layer's input with both groups' rows, int64 ``[B, N·G]``."""
        both = multiply(x, self.weights[layer].w_ih)
        size = both.shape[1] // 2
        return both[:, :size], both[:, size:]

    def gates(self, x_part: jax.Array, groups: Groups, layer: int, group: int) -> Gates:
        """Return a group's gates, from its layer's input and the other group's state."""
        other, _ = groups.group(layer, 1 - group)
        weights = self.weights[layer].groups[group]
        return gates_of(self.config, weights, layer, x_part, other)

    def sliced(self, layer: int, group: int) -> int:
        """Return how many units of a group are sliced (SEQ-007)."""
        return self.config.layer_slice(layer) if group == 0 else 0

    def step(
        self, context: Context, x: jax.Array, groups: Groups, gains: jax.Array | None
    ) -> tuple[Context, Groups]:
        """Return context and states one step later (SEQ-001)."""
        for layer in range(self.config.num_layers):
            parts = self.input_parts(self.layer_input(x, groups, layer, gains), layer)
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
        x: jax.Array,
        groups: Groups,
        restore: jax.Array,
        gains: jax.Array | None,
    ) -> tuple[Context, Groups, list[Visit]]:
        """Return context and states one step earlier (CELL-040), and what was met."""
        visits = []
        for layer in reversed(range(self.config.num_layers)):
            layer_x = self.layer_input(x, groups, layer, gains)
            parts = self.input_parts(layer_x, layer)
            for group in (1, 0):
                gates = self.gates(parts[group], groups, layer, group)
                cut = restore[:, : self.sliced(layer, group)]
                h, c = groups.group(layer, group)
                context, h, c = undo(self.config, context, gates, cut, h, c)
                after, groups = groups, groups.replace(layer, group, h, c)
                gain = gain_of(gains, layer)
                visits.append(Visit(layer, group, gates, layer_x, groups, after, gain))
        return context, groups, visits

    def visits_between(
        self, x: jax.Array, before: Groups, after: Groups, gains: jax.Array | None
    ) -> list[Visit]:
        """Return what :meth:`step_back` meets, from known states before and after the step."""
        visits, groups = [], after
        for layer in reversed(range(self.config.num_layers)):
            layer_x = self.layer_input(x, groups, layer, gains)
            parts = self.input_parts(layer_x, layer)
            for group in (1, 0):
                later, groups = groups, groups.replace(layer, group, *before.group(layer, group))
                gates = self.gates(parts[group], groups, layer, group)
                gain = gain_of(gains, layer)
                visits.append(Visit(layer, group, gates, layer_x, groups, later, gain))
        return visits


class Trace(NamedTuple):
    """The state beside each step (EVAL-009), with a leading axis of steps.

    ``words`` is the number of words (for ``wordlist`` planes) in the store.
    """

    h: jax.Array
    c: jax.Array | None
    heads: jax.Array | None
    words: jax.Array | None


class Forward(NamedTuple):
    """What a forward pass delivers (EVAL-008, EVAL-009).

    Attributes:
        outputs: ``[T, B, H]``, h of the top layer after each step (SEQ-005): int32, or float32
            where floats were asked for.
        groups: the final states.
        buffer: the buffer, or ``None`` without forgetting.
        slices: int32 ``[T+1, B, D]`` (SEQ-007).
        wraps: number of wraps, int32.
        gate_counts: int64 ``[1025]`` (ACC-001), if asked for.
        status: faults.
        trace: the states after each step, if asked for.
        before: ``h`` and ``c`` before each step, ``[T, L, B, H]``, if asked for.
    """

    outputs: jax.Array
    groups: Groups
    buffer: Buffer | None
    slices: jax.Array
    wraps: jax.Array
    gate_counts: jax.Array | None
    status: jax.Array
    trace: Trace | None
    before: tuple[jax.Array, jax.Array | None] | None


def sequence_forward(
    config: Config,
    params: Mapping[str, jax.Array],
    x: jax.Array,
    mask: jax.Array,
    groups: Groups,
    buffer: Buffer | None,
    method: str,
    *,
    gains: jax.Array | None = None,
    status: jax.Array | None = None,
    trace: bool = False,
    before: bool = False,
    count_gates: bool = False,
) -> Forward:
    """Run a stack over a sequence, pushing to ``buffer``.

    Args:
        config: the stack.
        params: its parameters in fixed point.
        x: ``[T, B, I]``: input operand int16, or float32; then the outputs are float32 too, NaN
            from the first fault on.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002).
        groups: where to start.
        buffer: where to push, or ``None`` without forgetting.
        method: how to multiply.
        gains: int32 ``[T, L-1, B, H]`` or ``None`` (SEQ-012).
        status: faults found before.
        trace: whether to deliver the state after each step.
        before: whether to deliver the states before each step.
        count_gates: whether to count the gates.
    """
    stack = Stack(config, params, method)
    floats = x.dtype == jnp.float32
    depth, none = config.slice_size, jnp.int32(0)
    Carry = tuple[Context, Groups, jax.Array]

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        context, groups, status = carry
        x_t, rows, gain = inputs
        context = context._replace(rows=rows)
        past = groups.arrays() if before else None
        operand, status = to_operand(config, x_t, status)
        context, groups = stack.step(context, operand, groups, gain)
        top = jnp.concatenate(groups.h[-1], 1)
        out = top
        if floats:
            found = status | status_of(context.buffer)
            out = mark(dequantise(top, config.formats.state_bits), found)
        after = trace_of(groups, context.buffer) if trace else None
        return (context, groups, status), (out, top[:, :depth], after, past)

    counts = jnp.zeros(1025, jnp.int64) if count_gates and config.forgetting else None
    context = Context(jnp.zeros(x.shape[1], jnp.bool_), buffer, none, counts)
    first_slice = jnp.concatenate(groups.h[-1], 1)[None, :, :depth]
    carry, ys = scan(body, (context, groups, none if status is None else status), (x, mask, gains))
    context, groups, status = carry
    outputs, slices, steps, past = ys
    return Forward(
        outputs,
        groups,
        context.buffer,
        jnp.concatenate([first_slice, slices]),
        context.wraps,
        context.gate_counts,
        status | status_of(context.buffer),
        steps,
        past,
    )


def sequence_reverse(
    config: Config,
    params: Mapping[str, jax.Array],
    x: jax.Array,
    mask: jax.Array,
    groups: Groups,
    buffer: Buffer | None,
    slices: jax.Array,
    method: str,
    *,
    gains: jax.Array | None = None,
    trace: bool = False,
) -> tuple[Groups, Buffer | None, Trace | None]:
    """Undo a sequence step by step, popping from ``buffer``.

    Args:
        config: the stack.
        params: its parameters in fixed point.
        x: input operand, int16 ``[T, B, I]``.
        mask: bool ``[T, B]``.
        groups: the final states.
        buffer: heads and store after the forward pass, or ``None`` without forgetting.
        slices: int32 ``[T+1, B, D]``.
        method: how to multiply.
        gains: as in the forward pass.
        trace: whether to deliver what stands after each step is undone.
    """
    stack = Stack(config, params, method)
    Carry = tuple[Context, Groups]

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Trace | None]:
        context, groups = carry
        x_t, rows, restore, gain = inputs
        context = context._replace(rows=rows)
        context, groups, _ = stack.step_back(context, x_t, groups, restore, gain)
        return (context, groups), trace_of(groups, context.buffer) if trace else None

    context = Context(jnp.zeros(x.shape[1], jnp.bool_), buffer, jnp.int32(0), None)
    xs = (x, mask, slices[:-1], gains)
    (context, groups), steps = scan(body, (context, groups), xs, reverse=True)
    return groups, context.buffer, steps


def to_operand(config: Config, x: jax.Array, status: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a step's input as an operand, and the status with what is wrong with it (QNT-005)."""
    if x.dtype != jnp.float32:
        return x, status
    status = first(status, flag(nonfinite(x), NONFINITE))
    return quantise("operand", x, config.formats), status


def mark(v: jax.Array, status: jax.Array) -> jax.Array:
    """Return floats as they are, or NaN after a fault: nothing is delivered then (ERR-003)."""
    return jnp.where(status == 0, v, jnp.float32(jnp.nan))


def status_of(buffer: Buffer | None) -> jax.Array:
    """Return the faults that a buffer met."""
    return jnp.int32(0) if buffer is None else buffer.faults()


def trace_of(groups: Groups, buffer: Buffer | None) -> Trace:
    """Return the present state as one entry of a trace."""
    if buffer is None:
        return Trace(*groups.arrays(), None, None)
    return Trace(*groups.arrays(), heads_of(buffer), buffer.length)


def buffer_is_back(buffer: Buffer, heads: jax.Array) -> jax.Array:
    """Say whether a buffer has ``heads`` again and its store is empty (SEQ-009)."""
    same = (heads_of(buffer) == heads).all() & (buffer.length == 0)
    return same & (buffer.flags_length == 0) if isinstance(buffer, WordlistBuffer) else same


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """Do what ``lax.scan`` does; with no steps under ``disable_jit`` too, where it refuses."""
    if jax.tree.leaves(xs)[0].shape[0]:
        return lax.scan(body, carry, xs, reverse=reverse)
    shapes = jax.eval_shape(
        lambda c, v: body(c, jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), v)), carry, xs
    )
    return carry, jax.tree.map(lambda s: jnp.zeros((0, *s.shape), s.dtype), shapes[1])
