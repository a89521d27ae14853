"""Chunks of steps by compiled calls, with the arguments and results of the scan (SEQ, GRAD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from revrnn.config import Config

from ...native.gru import GRU_PIECES
from ...native.lstm_rows import LSTM_PIECES
from ...native.plan import forget_scale, numbers
from ..buffer import Buffer
from ..groups import Groups
from ..resets import Replaced
from ..sequence import Steps
from ..steps import delivered, traced, traced_back
from ..walk import Forward, Reverse, status_of, to_operand
from .calls import call
from .rows import Rows, described
from .weights import Packed


class Tape(NamedTuple):
    """What a chunk's gradients are made of; see :class:`revrnn.native.records.Factors`.

    Attributes:
        pieces: float32, flat.
        operands: the same.
        slopes: the same.
        anew: int32 ``[C, B]``: where rows start anew, else −1, or of no steps.
    """

    pieces: jax.Array
    operands: jax.Array
    slopes: jax.Array
    anew: jax.Array


class KernelStack:
    """A stack of reversible layers with its weights packed, for whole chunks."""

    def __init__(self, config: Config, packed: Packed) -> None:
        """Take packed weights."""
        self.config, self.packed = config, packed

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
        if trace:
            return traced(self.forward, self.config, steps, groups, buffer, count_gates)
        config, none = self.config, jnp.int32(0)
        length, rows, _ = steps.x.shape
        status = none if status is None else status
        own = Rows(config, groups, buffer, length)
        anew, aside = self._aside(steps, replaced)
        arrays, pairs = config.state_arrays, (config.num_layers, 2, rows, config.group_size)
        shapes = [
            *own.shapes,
            described(own.words),
            ((1,), jnp.int64),
            *map(described, aside),
            ((length, rows, config.hidden_size), jnp.int32),
            ((length + 1 if config.slice_size else 0, rows, config.slice_size), jnp.int32),
            ((length + 1 if before else 0, arrays, *pairs), jnp.int32),
            ((config.num_layers, 1025 if count_gates and config.forgetting else 0), jnp.int64),
            ((length,), jnp.int64),
            ((1,), jnp.int64),
            described(own.parts),
        ]
        arguments = [*self._common(steps, anew), *own.arguments, *aside, own.parts]
        aliases = {12: 0, 13: 1, 14: 2, 15: 3, 16: 4, 17: 5, 18: 6, 19: 13}
        *made, parts = call("advance", config, arguments, shapes, aliases)
        groups, now = own.after(made[:3], made[3], made[4], parts)
        if replaced is not None:
            assert steps.resets is not None
            total = jnp.sum(steps.resets, dtype=jnp.int32)
            replaced = _replaced(replaced, made[5], made[6], replaced.length + total)
        outputs, slices, states, counts, tops, wraps = made[7:]
        outputs, status = delivered(config, steps, outputs, status, buffer, tops, replaced)
        end = status | status_of(now, replaced)
        if not config.slice_size:
            slices = jnp.zeros((length + 1, rows, 0), jnp.int32)
        gates = counts.sum(0) if count_gates and config.forgetting else None
        past: Any = states if before else None
        ends = (slices, wraps[0].astype(jnp.int32), gates, end, None, past)
        return Forward(outputs, groups, now, replaced, *ends)

    def reverse(
        self,
        steps: Steps,
        groups: Groups,
        buffer: Buffer | None,
        slices: jax.Array,
        *,
        replaced: Replaced | None = None,
        before: Any = None,
        deliver: Callable[..., Any] | None = None,
        trace: bool = False,
    ) -> Reverse:
        """Do as :func:`revrnn.jax_impl.walk.sequence_reverse`; what it delivers is a tape."""
        if trace:
            return traced_back(self.reverse, steps, groups, buffer, slices)
        config = self.config
        length, rows, _ = steps.x.shape
        own = Rows(config, groups, buffer, length)
        anew, aside = self._aside(steps, replaced, back=True)
        pieces = GRU_PIECES if config.cell == "revgru" else LSTM_PIECES
        size, above = length * rows * config.hidden_size, config.num_layers - 1
        shapes = [
            *own.shapes,
            ((1,), jnp.int64),
            ((length, rows, config.hidden_size), jnp.int32),
            ((pieces * config.num_layers * size,), jnp.float32),
            ((above * size,), jnp.float32),
            ((above * size,), jnp.float32),
            described(own.parts),
        ]
        if before is None:
            pairs = (config.num_layers, 2, rows, config.group_size)
            before = jnp.zeros((0, config.state_arrays, *pairs), jnp.int32)
        scale = np.full(1, forget_scale(config), np.float32)
        arguments = [*self._common(steps, anew), *own.arguments, *aside, own.parts]
        aliases = {12: 0, 13: 1, 14: 2, 16: 3, 19: 8}
        made = call("recover", config, [*arguments, slices, before, scale], shapes, aliases)
        groups, now = own.after(made[:3], own.words, made[3], made[8])
        if replaced is not None:
            assert steps.resets is not None
            left = replaced.length - jnp.sum(steps.resets, dtype=jnp.int32)
            replaced = replaced._replace(length=left)
        tape = Tape(made[5], made[6], made[7], anew)
        return Reverse(groups, now, replaced, made[4], None if deliver is None else tape, None)

    def _common(self, steps: Steps, anew: jax.Array) -> list[Any]:
        """Return the first arguments of both calls."""
        config, rows = self.config, steps.x.shape[1]
        plan, table = numbers(config)
        x = to_operand(config, steps.x)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2)))
        gains = steps.gains
        if gains is None:
            gains = jnp.zeros((0, config.num_layers - 1, rows, config.hidden_size), jnp.int32)
        *weights, norms, bias = self.packed.exact
        first = [plan, table, *weights, norms.astype(jnp.int64), bias]
        return [*first, x, steps.mask.astype(jnp.uint8), anew, gains]

    def _aside(
        self, steps: Steps, replaced: Replaced | None, back: bool = False
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Return where each row that starts anew is set aside, and the stores of those."""
        config, resets = self.config, steps.resets
        shape = (config.num_layers, 2, config.group_size)
        stores = [jnp.zeros((0, *shape), jnp.int32)] * 2
        if resets is None:
            return jnp.zeros((0, steps.mask.shape[1]), jnp.int32), stores
        running = lax.cumsum(resets.reshape(-1).astype(jnp.int32)).reshape(resets.shape)
        if replaced is None:
            return jnp.where(resets, jnp.int32(0), jnp.int32(-1)), stores
        start = replaced.length - (running[-1, -1] if back and running.size else 0)
        stores = [v.reshape(-1, *shape) for v in (replaced.h, replaced.c) if v is not None]
        stores += [jnp.zeros((0, *shape), jnp.int32)] * (2 - len(stores))
        # Before the beginning after a fault: then nothing there is right any more.
        at = jnp.where(resets, jnp.maximum(start + running - 1, 0), -1)
        return at.astype(jnp.int32), stores


def _replaced(old: Replaced, h: jax.Array, c: jax.Array, length: jax.Array) -> Replaced:
    return Replaced(
        h.reshape(old.h.shape), None if old.c is None else c.reshape(old.c.shape), length
    )
