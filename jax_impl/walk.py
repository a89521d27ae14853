"""The way over a sequence and back: ``lax.scan`` over the steps (SEQ)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.formats import GAIN_MAX

from .buffer import Buffer, heads_of
from .cells import Context
from .groups import Groups
from .quantise import quantise
from .resets import Replaced, replace_rows, restore_rows
from .scans import scan
from .sequence import LayerStep, Stack, Steps
from .state import floats_of
from .status import GAINS, NONFINITE, first, flag


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
        status: faults before.
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
            faults = status | status_of(context.buffer, replaced)
            out = floats_of(config, top, faults)
        after = trace_of(groups, context.buffer) if trace else None
        return (context, groups, replaced, status), (out, top[:, :depth], after, past)

    counts = jnp.zeros(1025, jnp.int64) if count_gates and config.forgetting else None
    rows = jnp.zeros(steps.mask.shape[1], jnp.bool_)
    context = Context(rows, buffer, none, counts)
    first_slice = jnp.concatenate(groups.h[-1], 1)[None, :, :depth]
    bad = ~jnp.isfinite(steps.x).all((1, 2)) if floats else None
    x_parts = stack.first_layer_parts(to_operand(config, steps.x))
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
        delivered: what ``deliver`` made of each step, with a leading axis of steps.
        trace: what stands after each step is undone, if asked for.
    """

    groups: Groups
    buffer: Buffer | None
    replaced: Replaced | None
    outputs: jax.Array
    delivered: Any
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
    deliver: Callable[[tuple[LayerStep, ...], jax.Array], Any] | None = None,
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
        deliver: makes, of a step's updates and its mask, what is to be delivered.
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
            context, groups, updates = stack.step_back(context, x_part, groups, restore, gain)
            if reset is not None:
                assert replaced is not None
                replaced, groups = restore_rows(replaced, reset, groups)
        else:
            earlier = Groups.cut(*past)
            start = earlier if reset is None else replace_rows(None, reset, earlier)[1]
            _, _, updates = stack.step_back(context, x_part, groups, restore, gain, start)
            groups = earlier
        made = None if deliver is None else deliver(updates, rows)
        after = trace_of(groups, context.buffer) if trace else None
        return (context, groups, replaced), (top, made, after)

    rows = jnp.zeros(steps.mask.shape[1], jnp.bool_)
    context = Context(rows, buffer, jnp.int32(0), None)
    x_parts = stack.first_layer_parts(to_operand(stack.config, steps.x))
    xs = (x_parts, steps.mask, slices[:-1], before, steps.gains, steps.resets)
    (context, groups, replaced), ys = scan(body, (context, groups, replaced), xs, reverse=True)
    return Reverse(groups, context.buffer, replaced, *ys)


class ScanStack(Stack):
    """A stack that goes over steps by the scan."""

    forward, reverse = sequence_forward, sequence_reverse


def to_operand(config: Config, x: jax.Array) -> jax.Array:
    """Return inputs as operands (QNT-005)."""
    return quantise("operand", x, config.formats) if x.dtype == jnp.float32 else x


def gains_fault(gains: jax.Array | None) -> jax.Array:
    """Return the fault of gains out of range (SEQ-012)."""
    if gains is None:
        return flag(jnp.bool_(False), GAINS)
    wrong = ((gains < 0) | (gains > GAIN_MAX)).any()
    return flag(wrong, GAINS)


def status_of(buffer: Buffer | None, replaced: Replaced | None = None) -> jax.Array:
    """Return the faults of a buffer, and of the store of replaced states."""
    faults = jnp.int32(0) if buffer is None else buffer.faults()
    return faults if replaced is None else first(faults, replaced.faults())


def trace_of(groups: Groups, buffer: Buffer | None) -> Trace:
    """Return the present state as one entry of a trace."""
    if buffer is None:
        return Trace(*groups.arrays(), None, None)
    return Trace(*groups.arrays(), heads_of(buffer), buffer.length)
