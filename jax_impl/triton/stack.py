"""Chunks of steps by kernels, with the arguments and results of the scan (SEQ)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.errors import RevRNNError

from ...gpu.constants import Mode
from ...gpu.order import NONE
from ...gpu.sizes import Sizes, Tiles
from ..buffer import Buffer, StreamBuffer
from ..groups import Groups
from ..resets import Replaced, replace_rows, restore_rows
from ..sequence import Steps
from ..steps import delivered, traced, traced_back
from ..walk import Forward, Reverse, status_of, to_operand
from .arrays import before_steps, of_chunk, of_tape, put_groups, take_groups
from .launch import BACK, FORWARD, Launcher
from .numbers import Number
from .weights import Packed

# h and c before each step and after the last, [C+1, 2·L, B, G].
Past = tuple[jax.Array, jax.Array | None]


class Tape(NamedTuple):
    """What a chunk's gradients are made of (``revrnn.gpu.tiles.put``).

    Attributes:
        factors: float32 ``[2·L, planes, C, B, Gp]``.
        lower: inputs of the layers above the first, float32 ``[2·L, 2, C, B, Gp]``.
    """

    factors: jax.Array
    lower: jax.Array


class KernelStack:
    """A stack of reversible layers with its weights packed, for whole chunks."""

    def __init__(self, config: Config, packed: Packed) -> None:
        """Take packed weights."""
        self.config, self.packed = config, packed

    def _launcher(
        self, steps: Steps, groups: Groups, buffer: StreamBuffer | None, stored: bool
    ) -> Launcher:
        """Return what launches kernels over a chunk's arrays, with its inputs' products."""
        length, rows, _ = steps.x.shape
        sizes = Sizes(self.config, rows, length, Tiles.for_batch(rows))
        gains = steps.gains is not None and self.config.num_layers > 1
        mode = Mode(mask=True, gains=gains, keep=True, stored=stored)
        heads = None if buffer is None else buffer.heads
        arrays = of_chunk(sizes, mode, steps, groups, heads)
        go = Launcher(sizes, mode, self.packed, arrays)
        go.input_parts(to_operand(self.config, steps.x))
        return go

    def forward(
        self,
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
        """Do as :func:`revrnn.jax_impl.walk.sequence_forward`."""
        config = self.config
        if count_gates and config.forgetting:
            raise RevRNNError("E_UNSUPPORTED", "engine", "'triton' for counts of gates", "'scan'")
        if trace:
            return traced(self.forward, config, steps, groups, buffer, count_gates=False)
        assert not isinstance(buffer, tuple) or isinstance(buffer, StreamBuffer)
        status = jnp.int32(0) if status is None else status
        depth = config.slice_size
        start = jnp.concatenate(groups.h[-1], 1)[None, :, :depth]
        length, rows, _ = steps.x.shape
        counts = jnp.zeros(length, jnp.int32)
        outputs, wraps = jnp.zeros((length, rows, config.hidden_size), jnp.int32), jnp.int32(0)
        past: Past | None = before_steps(groups) if before else None
        now = buffer
        if length:
            go = self._launcher(steps, groups, buffer, before)
            go.prepare(0)

            def step(t: Number, replaced: Replaced | None) -> Replaced | None:
                if steps.resets is not None:
                    here = take_groups(config, go.arrays, rows)
                    replaced, here = replace_rows(replaced, steps.resets[go.now()], here)
                    go.arrays |= put_groups(go.sizes, here)
                    go.prepare(t)
                go.step(t)
                return replaced

            replaced = go.over(FORWARD, length, step, replaced)
            groups, outputs = take_groups(config, go.arrays, rows), go.arrays["outputs"]
            if config.can_wrap:
                wraps = go.arrays["wraps"][0]
            if before:
                past = (go.arrays["past_h"], go.arrays.get("past_c"))
            if buffer is not None:
                counts, now = self._pushed(go, buffer)
        slices = jnp.concatenate([start, outputs[:, :, :depth]])
        pushed = lax.cumsum(counts)
        outputs, status = delivered(config, steps, outputs, status, buffer, pushed, replaced)
        end = status | status_of(now, replaced)
        ends: tuple[Any, ...] = (slices, wraps, None, end, None, past)
        return Forward(outputs, groups, now, replaced, *ends)

    def _pushed(self, go: Launcher, buffer: StreamBuffer) -> tuple[jax.Array, StreamBuffer]:
        """Return the words that each step pushed, and the buffer with them."""
        rows, units = go.sizes.batch, go.sizes.units
        operations = go.sizes.steps * go.sizes.operations
        counts, words = go.arrays["counts"][:operations], buffer.words
        by_step = counts.reshape(go.sizes.steps, -1).sum(1, dtype=jnp.int32)
        if words is not None:
            kept = lax.bitcast_convert_type(words, jnp.int16)
            places = lax.cumsum(counts.reshape(-1)) + jnp.maximum(buffer.length, 0)
            words = lax.bitcast_convert_type(go.compact(places, kept), jnp.uint16)
        heads, total = go.arrays["heads"][:rows, :units], by_step.sum(dtype=jnp.int32)
        length = buffer.length + total
        return by_step, buffer._replace(heads=heads, words=words, length=length)

    def reverse(
        self,
        steps: Steps,
        groups: Groups,
        buffer: Buffer | None,
        slices: jax.Array,
        *,
        replaced: Replaced | None = None,
        before: Past | None = None,
        deliver: Callable[..., Any] | None = None,
        trace: bool = False,
    ) -> Reverse:
        """Do as :func:`revrnn.jax_impl.walk.sequence_reverse`; what it delivers is a tape."""
        if trace:
            return traced_back(self.reverse, steps, groups, buffer, slices)
        assert not isinstance(buffer, tuple) or isinstance(buffer, StreamBuffer)
        config, (length, rows, _) = self.config, steps.x.shape
        outputs = jnp.zeros((length, rows, config.hidden_size), jnp.int32)
        if not length:
            return Reverse(groups, buffer, replaced, outputs, None, None)
        go = self._launcher(steps, groups, buffer, before is not None)
        held, base = None if buffer is None else buffer.words, jnp.int32(0)
        if buffer is not None and held is not None:
            # After an overflow there are fewer than were pushed; then nothing is right any more.
            base = jnp.minimum(buffer.length, len(held))
        go.arrays |= of_tape(go.sizes, go.mode, steps, slices, before, held, base)
        go.prepare(length - 1)
        operations, depth = go.sizes.operations, go.sliced(0, 0) if go.gru else 0

        def step(counter: Number, replaced: Replaced | None) -> Replaced | None:
            t = counter * -1 + (length - 1)
            # Of the last step, one that is none: its rows do not have it.
            last = ((t + 1) * operations, t + 1, depth) if go.popping else NONE
            go.step_back(t, last)
            if steps.resets is not None:
                at = length - 1 - go.now()
                here, chosen = take_groups(config, go.arrays, rows), steps.resets[at]
                if before is None:
                    assert replaced is not None
                    replaced, here = restore_rows(replaced, chosen, here)
                else:
                    go.arrays |= {
                        name: _chosen(go, name, chosen, past[at])
                        for name, past in zip(("h", "c"), before, strict=True)
                        if past is not None
                    }
                    here = take_groups(config, go.arrays, rows)
                go.arrays |= put_groups(go.sizes, here)
                go.prepare(t - 1)
            return replaced

        replaced = go.over(BACK, length, step, replaced)
        if go.popping:
            go.refill((0, 0, depth))
        if buffer is not None and before is None:
            left = buffer.length - base + go.arrays["tops"][0]
            heads = go.arrays["heads"][:rows, : config.group_size]
            buffer = buffer._replace(heads=heads, length=left)
        groups, outputs = take_groups(config, go.arrays, rows), go.arrays["outputs"]
        tape = None if deliver is None else Tape(go.arrays["tape"], go.arrays["lower"])
        return Reverse(groups, buffer, replaced, outputs, tape, None)


def _chosen(go: Launcher, name: str, rows: jax.Array, past: jax.Array) -> jax.Array:
    """Return a state with some rows ``[B]`` of what was before, ``[2·L, B, G]``."""
    padded, inside = go.arrays[name], (slice(None), slice(past.shape[1]), slice(past.shape[2]))
    return padded.at[inside].set(jnp.where(rows[:, None], past, padded[inside]))
