"""Back-propagation through time that recomputes states: forward, and back by reversal.

:class:`Bptt` goes by chunks of steps, and holds nothing of the length of the sequence but what it
is given: inputs are made, outputs and gradients used, by its caller's functions, chunk by chunk. It
keeps the buffer, the states that resets replaced, slices, and for very long sequences a few states
(:attr:`Settings.piece`). Callers' functions are traced with their own setting of 64-bit types;
the exact parts between them set it for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config

from .buffer import Buffer, Store, empty_store, heads_of, make_buffer, store_of
from .chunks import join, over_chunks
from .gradients import LayerSlopes, chunk_backward, slopes_of
from .groups import Groups
from .quantise import dequantise
from .resets import Replaced, nothing_replaced
from .sequence import (
    Past,
    Stack,
    Steps,
    sequence_forward,
    sequence_reverse,
    status_of,
    to_operand,
)
from .state import State
from .status import REVERSAL, first, flag
from .x64 import with_x64

# Steps whose input products and gradients are computed together.
CHUNK_SIZE = 16

Tree = Any
Params = dict[str, jax.Array]


class Settings(NamedTuple):
    """How a sequence is gone through: static. No state depends on more than ``config``.

    Attributes:
        config: the stack.
        method: how to multiply.
        chunk: steps handled together.
        piece: whole chunks after each of which the exact state is kept, and the buffer only of one
            such piece; ``None`` for one piece.
        states: ``"reversed"``, or ``"stored"`` to keep all states (GRAD-020).
        capacity: words (for ``wordlist`` planes) to set aside for a piece; ``None`` for as many as
            can ever be needed (BUF-035).
        reset_capacity: replaced rows to set aside for a piece.
    """

    config: Config
    method: str
    chunk: int = CHUNK_SIZE
    piece: int | None = None
    states: str = "reversed"
    capacity: int | None = None
    reset_capacity: int = 0


class Data(NamedTuple):
    """What has a leading axis of steps.

    Attributes:
        own: any pytree of the caller's.
        mask: bool ``[T, B]``.
        gains: int32 ``[T, L-1, B, H]`` or ``None``.
        resets: bool ``[T, B]`` or ``None``.
    """

    own: Tree
    mask: jax.Array
    gains: jax.Array | None
    resets: jax.Array | None


class Stores(NamedTuple):
    """What is pushed to on the way forward and popped from on the way back."""

    words: Store | None
    replaced: Replaced | None

    def are_empty(self) -> jax.Array:
        """Say whether nothing is left."""
        lengths = [] if self.words is None else [self.words.length, self.words.flags_length]
        lengths.append(None if self.replaced is None else self.replaced.length)
        return jnp.stack([jnp.bool_(True), *(n == 0 for n in lengths if n is not None)]).all()


class Going(NamedTuple):
    """What goes along forwards."""

    state: State
    stores: Stores | None
    wraps: jax.Array
    status: jax.Array


class Returning(NamedTuple):
    """What goes along on the way back.

    Attributes:
        state: the exact state.
        stores: what is left to pop.
        grad_state: gradients with respect to ``h`` and ``c`` ``[L, B, H]``.
        grads: those of the parameters so far.
        extra: the caller's.
        status: faults.
    """

    state: State
    stores: Stores | None
    grad_state: tuple[jax.Array, jax.Array | None]
    grads: Params
    extra: Tree
    status: jax.Array


class Remembered(NamedTuple):
    """What is kept from forward to backward beside what the caller gave.

    Attributes:
        end: what stood at the end, stores included.
        slices: of each chunk, int32 ``[C+1, B, D]``; in several pieces ``None``.
        before: the states before each step, if stored.
        starts: the state at the start of each piece, or ``None`` for one piece.
    """

    end: Going
    slices: Tree
    before: Tree
    starts: Tree


# Of a chunk's outputs [C, B, H] (float32 if the inputs are) and slices int32 [C+1, B, D].
Deliver = Callable[[jax.Array, jax.Array], Tree]
# What a chunk's caller is given: its inputs to its outputs, float32 [C, B, H]; then the gradients
# with respect to these to that of the inputs [C, B, I].
Undo = Callable[[jax.Array], jax.Array]
CarryBack = Callable[[jax.Array | None], jax.Array]
# From the caller's carry and its own data: the carry, and what is to be delivered.
ChunkBack = Callable[[Tree, Tree, Undo, CarryBack], tuple[Tree, Tree]]


class Bptt:
    """One sequence, forward and back."""

    def __init__(self, settings: Settings, exact: Params, steps: int, rows: int) -> None:
        """Take the settings, parameters in fixed point, T and B."""
        self.settings, self.exact, self.steps, self.rows = settings, exact, steps, rows
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
        start = Going(state, None, jnp.int32(0), status)
        if self.piece >= self.steps:
            if keep:
                start = start._replace(stores=self.stores(data, self.steps))
            end, ys = self._forward(start, data, self.steps, inputs, deliver)
            slices, before, delivered = _unzip(ys)
            return Remembered(end, slices, before, None), join(delivered)

        def over(going: Going, part: Data) -> tuple[Going, Any]:
            end, ys = self._forward(going, part, len(part.mask), inputs, deliver)
            return end, (going.state if keep else None, join(_unzip(ys)[2]))

        end, ys = over_chunks(over, start, self.steps, self.piece, data)
        whole, short = (pair or (None, None) for pair in ys)
        return Remembered(end, None, None, (whole[0], short[0])), join((whole[1], short[1]))

    def backward(
        self,
        remembered: Remembered,
        start: State,
        data: Data,
        inputs: Callable[[Tree], jax.Array],
        chunk: ChunkBack,
        extra: Tree,
        grad_state: tuple[jax.Array | None, jax.Array | None] = (None, None),
        status: jax.Array | None = None,
    ) -> tuple[Returning, Tree]:
        """Go back over the whole sequence, and see that it ends where it began (SEQ-009).

        Args:
            remembered: what :meth:`forward` gave.
            start: the exact state from which it started.
            data: what has an axis of steps; the own data need not be those of the way forward, as
                long as ``inputs`` makes the same of them.
            inputs: as for :meth:`forward`; pieces are run again.
            chunk: uses what :data:`Undo` recovers and :data:`CarryBack` finds.
            extra: what ``chunk`` carries along.
            grad_state: gradients with respect to the final ``h`` and ``c``.
            status: faults so far, beside those of the way forward.
        """
        end = remembered.end
        status = end.status if status is None else first(end.status, status)
        back = Returning(end.state, end.stores, self._zeros(grad_state), {}, extra, status)
        back = back._replace(grads=self._no_gradients())
        if remembered.starts is None:
            parts = remembered.slices, remembered.before
            return self._backward(back, data, self.steps, parts, start, chunk)

        def back_over(back: Returning, part: tuple[Data, State]) -> tuple[Returning, Tree]:
            data, begin = part
            steps = len(data.mask)
            going = Going(begin, self.stores(data, steps), jnp.int32(0), back.status)
            again, ys = self._forward(going, data, steps, inputs, None)
            status = first(again.status, flag(~_same(again.state, back.state), REVERSAL))
            back = back._replace(stores=again.stores, status=status)
            slices, before, _ = _unzip(ys)
            back, ys = self._backward(back, data, steps, (slices, before), begin, chunk)
            return back._replace(stores=None), ys

        back = back._replace(stores=None)
        back, ys = over_chunks(
            back_over, back, self.steps, self.piece, data, remembered.starts, back=True
        )
        return back, join(ys)

    def stores(self, data: Data, steps: int) -> Stores:
        """Return empty stores for so many steps."""
        config, settings = self.settings.config, self.settings
        if settings.states == "stored":
            return Stores(None, None)
        words = replaced = None
        if config.forgetting:
            words = _empty_store(config, steps, self.rows, settings.capacity)
        if data.resets is not None:
            replaced = nothing_replaced(config, settings.reset_capacity)
        return Stores(words, replaced)

    def _zeros(
        self, grad_state: tuple[jax.Array | None, jax.Array | None]
    ) -> tuple[jax.Array, jax.Array | None]:
        config = self.settings.config
        zero = jnp.zeros((config.num_layers, self.rows, config.hidden_size), jnp.float32)
        h, c = (zero if grad is None else grad for grad in grad_state)
        return h, c if config.has_cell_state else None

    def _no_gradients(self) -> Params:
        shapes = self.settings.config.parameter_shapes()
        return {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}

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
            going, slices, before, outputs = _chunk_forward(self.settings, self.exact, steps, going)
            return going, (slices, before, None if deliver is None else deliver(outputs, slices))

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
            extra, ys = chunk(back.extra, data.own, at.undo, at.carry_back)
            return at.back._replace(extra=extra), ys

        zipped = tuple((parts[0][k], None if parts[1] is None else parts[1][k]) for k in (0, 1))
        back, ys = over_chunks(
            body, back, steps, self.settings.chunk, data, (zipped[0], zipped[1]), back=True
        )
        same = jnp.bool_(True)
        if self.settings.states == "reversed":
            assert back.stores is not None
            same = _same(back.state, start) & back.stores.are_empty()
        return back._replace(status=first(back.status, flag(~same, REVERSAL))), join(ys)


class _Chunk:
    """One chunk on the way back."""

    def __init__(
        self, bptt: Bptt, back: Returning, data: Data, slices: jax.Array, before: Past | None
    ) -> None:
        self.bptt, self.back, self.data = bptt, back, data
        self.slices, self.before = slices, before

    def undo(self, x: jax.Array) -> jax.Array:
        """Recover the chunk's outputs, float32 ``[C, B, H]``."""
        outputs: jax.Array
        self.steps = _steps(x, self.data)
        state, stores, self.slopes, outputs, status = _chunk_undo(
            self.bptt.settings, self.bptt.exact, self.steps, self.slices, self.before,
            self.back.state, self.back.stores,
        )  # fmt: skip
        status = first(self.back.status, status)
        self.back = self.back._replace(state=state, stores=stores, status=status)
        return outputs

    def carry_back(self, grad_outputs: jax.Array | None) -> jax.Array:
        """Return the gradient of the inputs."""
        dx: jax.Array
        dx, grads, grad_state = _chunk_gradient(
            self.bptt.settings.config, self.bptt.exact, self.slopes, self.steps,
            self.back.grad_state, grad_outputs,
        )  # fmt: skip
        sums = {name: total + grads[name] for name, total in self.back.grads.items()}
        self.back = self.back._replace(grads=sums, grad_state=grad_state)
        return dx


def _steps(x: jax.Array, data: Data) -> Steps:
    return Steps(x, data.mask, data.gains, data.resets)


def _unzip(ys: tuple[Any, Any]) -> tuple[Any, Any, Any]:
    """Return three results of :func:`over_chunks` from one of threes."""
    whole, short = (y or (None, None, None) for y in ys)
    first_part, second, third = zip(whole, short, strict=True)
    return first_part, second, third


def _same(a: State, b: State) -> jax.Array:
    """Say whether two exact states are equal."""
    same: jax.Array = jnp.bool_(True)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        same &= (one == other).all()
    return same


_empty_store = with_x64(empty_store)


def _buffer(state: State, stores: Stores | None) -> Buffer | None:
    if state.heads is None:
        return None
    return make_buffer(state.heads, None if stores is None else stores.words)


def _state(groups: Groups, buffer: Buffer | None) -> State:
    return State(*groups.arrays(), None if buffer is None else heads_of(buffer))


def _stores(old: Stores | None, buffer: Buffer | None, replaced: Replaced | None) -> Stores | None:
    if old is None:
        return None
    words = None if buffer is None or old.words is None else store_of(buffer)
    return Stores(words, replaced)


@with_x64
@partial(jax.jit, static_argnums=0)
def _chunk_forward(
    settings: Settings, exact: Params, steps: Steps, going: Going
) -> tuple[Going, jax.Array, Past | None, jax.Array]:
    """Take a chunk of steps; return also its slices ``[C+1, B, D]``, states and outputs."""
    state, stores, wraps, status = going
    kept = stores is not None and settings.states == "stored"
    run = sequence_forward(
        Stack(settings.config, exact, settings.method),
        steps,
        Groups.cut(state.h, state.c),
        _buffer(state, stores),
        replaced=None if stores is None else stores.replaced,
        status=status,
        before=kept,
    )
    end = _state(run.groups, run.buffer)
    going = Going(end, _stores(stores, run.buffer, run.replaced), wraps + run.wraps, run.status)
    return going, run.slices, run.before, run.outputs


@with_x64
@partial(jax.jit, static_argnums=0)
def _chunk_undo(
    settings: Settings,
    exact: Params,
    steps: Steps,
    slices: jax.Array,
    before: Past | None,
    state: State,
    stores: Stores | None,
) -> tuple[State, Stores | None, tuple[LayerSlopes, ...], jax.Array, jax.Array]:
    """Undo a chunk; return also its slopes, its outputs, float32, and faults."""
    config = settings.config
    run = sequence_reverse(
        Stack(config, exact, settings.method),
        steps,
        Groups.cut(state.h, state.c),
        _buffer(state, stores) if before is None else None,
        slices,
        replaced=None if stores is None else stores.replaced,
        before=before,
        meet=partial(slopes_of, config),
    )
    outputs = dequantise(run.outputs, config.formats.state_bits)
    begin = State(*run.groups.arrays(), state.heads)
    if before is None:
        begin, stores = _state(run.groups, run.buffer), _stores(stores, run.buffer, run.replaced)
    return begin, stores, run.met, outputs, status_of(run.buffer, run.replaced)


@with_x64
@partial(jax.jit, static_argnums=0)
def _chunk_gradient(
    config: Config,
    exact: Params,
    slopes: tuple[LayerSlopes, ...],
    steps: Steps,
    grad_state: tuple[jax.Array, jax.Array | None],
    grad_outputs: jax.Array | None,
) -> tuple[jax.Array, Params, tuple[jax.Array, jax.Array | None]]:
    """Carry gradients back over a chunk whose slopes are known."""
    groups = Groups.cut(*grad_state)
    found = chunk_backward(
        config, exact, slopes, steps, to_operand(config, steps.x), groups.h, groups.c, grad_outputs
    )
    return found.x, found.params, Groups(found.h, found.c).arrays()
