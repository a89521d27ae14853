"""What engines share that take whole chunks: a trace step by step, and faults by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config

from .buffer import Buffer, StreamBuffer
from .groups import Groups
from .resets import Replaced
from .scans import scan
from .sequence import Steps
from .status import OVERFLOW, RESETS, first
from .walk import Forward, Reverse, trace_of


def faults_by_step(
    status: jax.Array,
    bad: jax.Array,
    buffer: Buffer | None,
    pushed: jax.Array,
    replaced: Replaced | None,
    resets: jax.Array | None,
) -> jax.Array:
    """Return the faults up to each step, as a scan would have met them, int32 ``[C]``.

    Args:
        status: faults before the chunk.
        bad: bool ``[C]``, where inputs are not finite.
        buffer: as it was before.
        pushed: words that were pushed up to each step, ``[C]``.
        replaced: the states that resets replaced, after the chunk.
        resets: bool ``[C, B]``.
    """
    status = jnp.where(lax.cumsum(bad.astype(jnp.int32)) > 0, first(status, jnp.int32(1)), status)
    if buffer is not None:
        assert isinstance(buffer, StreamBuffer)
        status |= buffer.status
        if buffer.words is not None:
            over = buffer.length.astype(jnp.int64) + pushed > buffer.words.shape[0]
            status |= jnp.where(over, jnp.int32(OVERFLOW), 0)
    if replaced is not None and resets is not None:
        count = lax.cumsum(resets.sum(1, dtype=jnp.int32))
        total = replaced.length - count[-1] + count if len(count) else count
        status |= jnp.where(total > replaced.h.shape[0], jnp.int32(RESETS), 0)
    return status


def traced(
    forward: Callable[..., Forward],
    config: Config,
    steps: Steps,
    groups: Groups,
    buffer: Buffer | None,
    count_gates: bool,
) -> Forward:
    """Go forward step by step, and keep the state after each."""

    def body(carry: Any, part: Steps) -> tuple[Any, Any]:
        groups, buffer, status, wraps, counts = carry
        one = jax.tree.map(lambda v: v[None], part)
        run = forward(one, groups, buffer, status=status, count_gates=count_gates)
        counts = None if counts is None else counts + run.gate_counts
        after = trace_of(run.groups, run.buffer)
        carry = (run.groups, run.buffer, run.status, wraps + run.wraps, counts)
        return carry, (run.outputs[0], run.slices[1], after)

    counting = count_gates and config.forgetting
    counts = jnp.zeros(1025, jnp.int64) if counting else None
    start = jnp.concatenate(groups.h[-1], 1)[None, :, : config.slice_size]
    carry = (groups, buffer, jnp.int32(0), jnp.int32(0), counts)
    carry, (outputs, slices, after) = scan(body, carry, steps)
    groups, buffer, status, wraps, counts = carry
    slices = jnp.concatenate([start, slices])
    return Forward(outputs, groups, buffer, None, slices, wraps, counts, status, after, None)


def traced_back(
    reverse: Callable[..., Reverse],
    steps: Steps,
    groups: Groups,
    buffer: Buffer | None,
    slices: jax.Array,
) -> Reverse:
    """Go back step by step, and keep what stands after each is undone."""

    def body(carry: Any, part: Any) -> tuple[Any, Any]:
        groups, buffer = carry
        one, before, after = part
        both = jnp.stack([before, after])
        run = reverse(jax.tree.map(lambda v: v[None], one), groups, buffer, both)
        carry = (run.groups, run.buffer)
        return carry, (run.outputs[0], trace_of(run.groups, run.buffer))

    parts = (steps, slices[:-1], slices[1:])
    (groups, buffer), (outputs, trace) = scan(body, (groups, buffer), parts, reverse=True)
    return Reverse(groups, buffer, None, outputs, None, trace)
