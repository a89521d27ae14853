"""What engines share that take whole chunks: a trace step by step, outputs as a scan gives them."""

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
from .state import floats_of
from .status import NONFINITE, OVERFLOW, RESETS, first, flag
from .walk import Forward, Reverse, trace_of


def delivered(
    config: Config,
    steps: Steps,
    outputs: jax.Array,
    status: jax.Array,
    buffer: Buffer | None,
    pushed: jax.Array,
    replaced: Replaced | None,
) -> tuple[jax.Array, jax.Array]:
    """Return a chunk's outputs as a scan gives them, and the faults so far, of inputs too.

    Args:
        config: the stack.
        steps: what was given; of floats the outputs are floats, NaN from the first fault on.
        outputs: int32 ``[C, B, H]``.
        status: faults before the chunk.
        buffer: as it was before.
        pushed: words that were pushed up to each step, ``[C]``.
        replaced: the states that resets replaced, after the chunk.
    """
    if steps.x.dtype != jnp.float32:
        return outputs, status
    bad = ~jnp.isfinite(steps.x).all((1, 2))
    after = first(status, flag(bad.any(), NONFINITE))
    # The faults up to each step, int32 [C].
    faults = first(status, flag(lax.cumsum(bad.astype(jnp.int32)) > 0, NONFINITE))
    if buffer is not None:
        assert isinstance(buffer, StreamBuffer)
        faults |= buffer.status
        if buffer.words is not None:
            over = buffer.length.astype(jnp.int64) + pushed > buffer.words.shape[0]
            faults |= flag(over, OVERFLOW)
    if replaced is not None and steps.resets is not None:
        count = lax.cumsum(steps.resets.sum(1, dtype=jnp.int32))
        total = replaced.length - count[-1] + count if len(count) else count
        faults |= flag(total > replaced.h.shape[0], RESETS)
    return floats_of(config, outputs, faults[:, None, None]), after


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
