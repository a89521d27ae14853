"""Back-propagation through time that recomputes states: forward, and back by reversal.

:class:`Bptt` goes by chunks of steps, and holds nothing of the length of the sequence but what it
is given: inputs are made, outputs and gradients used, by its caller's functions, chunk by chunk. It
keeps the buffer, the states that resets replaced, slices, and for very long sequences a few states
(:attr:`Settings.piece`). Callers' functions are traced with their own setting of 64-bit types;
the exact parts between them set it for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .engine import advance, pullback, recover
from .engines import prepared
from .passing import (
    ChunkBack,
    Data,
    Deliver,
    Going,
    Params,
    Remembered,
    Returning,
    Tree,
    no_gradients,
    same_state,
    state_gradients,
)
from .scans import join, over_chunks, unzip
from .sequence import Steps
from .settings import Settings
from .state import State
from .status import REVERSAL, first, flag
from .stores import Needs, Stores, empty_stores, room_of
from .walk import Past
from .x64 import with_x64


class Bptt:
    """One sequence, forward and back."""

    def __init__(self, settings: Settings, exact: Params, steps: int, rows: int) -> None:
        """Take the settings, parameters in fixed point, T and B."""
        self.settings, self.steps, self.rows = settings, steps, rows
        self.exact = with_x64(prepared)(settings.config, exact, settings.method)
        piece = settings.piece
        self.piece = max(steps, 1) if piece is None or settings.states == "stored" else piece

    def forward(
        self,
        state: State,
        status: jax.Array,
        data: Data,
        inputs: Callable[[Tree], jax.Array],
        deliver: Deliver | None = None,
        keep: bool = True,
    ) -> tuple[Remembered, Tree]:
        """Go forward over the whole sequence.

        Args:
            state: the exact state to start from.
            status: faults so far.
            data: what has an axis of steps.
            inputs: makes inputs ``[C, B, I]``, float32 or operands, of a cut of the own data.
            deliver: makes what is to be delivered.
            keep: whether there will be a way back; without it nothing is kept (SEQ-010).

        Returns:
            What the way back needs, and what was delivered, joined to arrays ``[T, …]``.
        """
        start = Going(state, None, Needs.none(), jnp.int32(0), status)
        if self.piece >= self.steps:
            if keep:
                start = start._replace(stores=self.stores(data, self.steps))
            end, ys = self._forward(start, data, self.steps, inputs, deliver)
            end = end._replace(status=end.needs.told_in(end.status))
            slices, before, delivered = unzip(ys)
            return Remembered(end, slices, before, None), join(delivered)

        def over(going: Going, part: Data) -> tuple[Going, Any]:
            end, ys = self._forward(going, part, len(part.mask), inputs, deliver)
            needs, status = end.needs, end.status
            if keep:  # On the way back this piece will be run again, with stores.
                room = room_of(self.settings, len(part.mask), self.rows)
                status = first(status, needs.faults(room))
            end = end._replace(needs=Needs.none(), status=status)
            return end, (going.state if keep else None, join(unzip(ys)[2]), needs)

        end, ys = over_chunks(over, start, self.steps, self.piece, data)
        starts, delivered, needs = unzip(ys)
        end = end._replace(status=Needs.most(needs).told_in(end.status))
        return Remembered(end, None, None, starts), join(delivered)

    def backward(
        self,
        remembered: Remembered,
        start: State,
        data: Data,
        inputs: Callable[[Tree], jax.Array],
        chunk: ChunkBack,
        extra: Tree,
        grad_state: tuple[jax.Array | None, jax.Array | None] = (None, None),
    ) -> tuple[Returning, Tree]:
        """Go back over the whole sequence, and see that it ends where it began (SEQ-009).

        Args:
            remembered: what :meth:`forward` gave.
            start: the exact state from which it started.
            data: what has an axis of steps; the own data need not be those of the way forward, as
                long as ``inputs`` makes the same of them.
            inputs: as for :meth:`forward`; pieces are run again.
            chunk: uses what :data:`Recover` and :data:`Pullback` give.
            extra: what ``chunk`` carries along.
            grad_state: gradients with respect to the final ``h`` and ``c``.
        """
        end, config = remembered.end, self.settings.config
        grad_state = state_gradients(config, self.rows, grad_state)
        zero = no_gradients(config)
        back = Returning(end.state, end.stores, grad_state, zero, extra, end.status)
        if remembered.starts is None:
            parts = remembered.slices, remembered.before
            return self._backward(back, data, self.steps, parts, start, chunk)

        def back_over(back: Returning, part: tuple[Data, State]) -> tuple[Returning, Tree]:
            data, begin = part
            steps = len(data.mask)
            stores = self.stores(data, steps)
            going = Going(begin, stores, Needs.none(), jnp.int32(0), back.status)
            again, ys = self._forward(going, data, steps, inputs, None)
            status = first(again.status, flag(~same_state(again.state, back.state), REVERSAL))
            back = back._replace(stores=again.stores, status=status)
            slices, before, _ = unzip(ys)
            back, ys = self._backward(back, data, steps, (slices, before), begin, chunk)
            return back._replace(stores=None), ys

        back = back._replace(stores=None)
        back, ys = over_chunks(
            back_over, back, self.steps, self.piece, data, remembered.starts, back=True
        )
        return back, join(ys)

    def stores(self, data: Data, steps: int) -> Stores:
        """Return empty stores for so many steps."""
        return empty_stores(self.settings, steps, self.rows, data.resets is not None)

    def _forward(
        self,
        going: Going,
        data: Data,
        steps: int,
        inputs: Callable[[Tree], jax.Array],
        deliver: Deliver | None,
    ) -> tuple[Going, Any]:
        def body(going: Going, part: Data) -> tuple[Going, Any]:
            steps = _steps(inputs(part.own), part)
            going, slices, before, outputs = advance(self.settings, self.exact, steps, going)
            made = None if deliver is None else deliver(part.own, outputs, slices)
            return going, (slices, before, made)

        return over_chunks(body, going, steps, self.settings.chunk, data)

    def _backward(
        self,
        back: Returning,
        data: Data,
        steps: int,
        parts: tuple[Any, Any],
        start: State,
        chunk: ChunkBack,
    ) -> tuple[Returning, Tree]:
        def body(back: Returning, part: tuple[Data, Any]) -> tuple[Returning, Tree]:
            data, (slices, before) = part
            at = _Chunk(self, back, data, slices, before)
            extra, ys = chunk(back.extra, data.own, at.recover, at.pullback)
            return at.back._replace(extra=extra), ys

        whole, rest = ((parts[0][k], None if parts[1] is None else parts[1][k]) for k in (0, 1))
        back, ys = over_chunks(
            body, back, steps, self.settings.chunk, data, (whole, rest), back=True
        )
        if self.settings.states == "reversed":
            assert back.stores is not None
            same = same_state(back.state, start) & back.stores.are_empty()
        else:
            # Without its passes XLA rounds products and sums otherwise in programs that reduce
            # nothing, and the gradients of both would not be the same bits (GRAD-020).
            same = same_state(back.state._replace(heads=None), start._replace(heads=None))
        return back._replace(status=first(back.status, flag(~same, REVERSAL))), join(ys)


class _Chunk:
    """One chunk on the way back."""

    def __init__(
        self, bptt: Bptt, back: Returning, data: Data, slices: jax.Array, before: Past | None
    ) -> None:
        self.bptt, self.back, self.data = bptt, back, data
        self.slices, self.before = slices, before

    def recover(self, x: jax.Array) -> jax.Array:
        """Recover the chunk's outputs, float32 ``[C, B, H]``."""
        bptt, back, self.steps = self.bptt, self.back, _steps(x, self.data)
        kept = self.slices, self.before, back.state, back.stores
        made = recover(bptt.settings, bptt.exact, self.steps, *kept)
        self.tape, status = made.tape, first(back.status, made.status)
        self.back = back._replace(state=made.state, stores=made.stores, status=status)
        outputs: jax.Array = made.outputs
        return outputs

    def pullback(self, grad_outputs: jax.Array | None) -> jax.Array:
        """Return the gradient of the inputs."""
        bptt, back = self.bptt, self.back
        given = self.tape, self.steps, back.grad_state, grad_outputs, back.grads
        made = pullback(bptt.settings, bptt.exact, *given)
        self.back = back._replace(grads=made.params, grad_state=made.state)
        return made.x


def _steps(x: jax.Array, data: Data) -> Steps:
    return Steps(x, data.mask, data.gains, data.resets)
