"""What goes forward and back over a sequence, and what is remembered between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.plan import CHUNK_SIZE

from .buffer import Buffer, Store, empty_store, heads_of, make_buffer
from .groups import Groups
from .resets import Replaced, nothing_replaced
from .state import State
from .status import OVERFLOW, RESETS, first, flag, sized
from .x64 import with_x64

Tree = Any
Params = dict[str, jax.Array]

# Of a cut of the caller's own data, the chunk's outputs [C, B, H] (float32 if the inputs are) and
# slices int32 [C+1, B, D].
Deliver = Callable[[Tree, jax.Array, jax.Array], Tree]
# What a chunk's caller is given: its inputs to its outputs, float32 [C, B, H]; then the gradients
# with respect to these to that of the inputs [C, B, I].
Undo = Callable[[jax.Array], jax.Array]
CarryBack = Callable[[jax.Array | None], jax.Array]
# From the caller's carry and its own data: the carry, and what is to be delivered.
ChunkBack = Callable[[Tree, Tree, Undo, CarryBack], tuple[Tree, Tree]]


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


class Needs(NamedTuple):
    """What one piece puts into its stores, int32: words (for ``wordlist`` planes), and resets."""

    words: jax.Array
    resets: jax.Array

    def after(self, pushed: jax.Array | None, has_store: bool, resets: jax.Array | None) -> Needs:
        """Return the needs after one more chunk.

        Args:
            pushed: the buffer's length; a buffer without a store began to count anew.
            has_store: whether it had one.
            resets: bool ``[C, B]``, those of the chunk.
        """
        words, replaced = self
        if pushed is not None:
            words = pushed if has_store else words + pushed
        if resets is not None:
            replaced = replaced + jnp.sum(resets, dtype=jnp.int32)
        return Needs(words, replaced)

    def faults(self, room: Needs) -> jax.Array:
        """Return the faults of stores of ``room``."""
        found = flag(self.words > room.words, OVERFLOW)
        return first(found, flag(self.resets > room.resets, RESETS))

    def told_in(self, status: jax.Array) -> jax.Array:
        """Return a status that says, where a store was too small, what would be enough."""
        return sized(sized(status, OVERFLOW, self.words), RESETS, self.resets)


class Going(NamedTuple):
    """What goes along forwards.

    Attributes:
        state: the exact state.
        stores: where to push, or ``None``.
        needs: what this piece would have put into stores so far, whether there are any or not.
        wraps: how often a state left int32 (MUL-006).
        status: faults.
    """

    state: State
    stores: Stores | None
    needs: Needs
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


def no_needs() -> Needs:
    """Return those of no steps."""
    return Needs(jnp.int32(0), jnp.int32(0))


def most_needs(parts: tuple[Needs | None, Needs | None]) -> Needs:
    """Return the largest needs of many pieces, as :func:`over_chunks` gives them."""
    there = [needs for needs in parts if needs is not None]
    words, resets = (jnp.stack([v.max() for v in each]).max() for each in zip(*there, strict=True))
    return Needs(words, resets)


def empty_stores(settings: Settings, steps: int, rows: int, with_resets: bool) -> Stores:
    """Return empty stores for so many steps of so many rows."""
    config = settings.config
    if settings.states == "stored":
        return Stores(None, None)
    words = replaced = None
    if config.forgetting:
        words = _empty_store(config, steps, rows, settings.capacity)
    if with_resets:
        replaced = nothing_replaced(config, settings.reset_capacity)
    return Stores(words, replaced)


def room_of(settings: Settings, steps: int, rows: int) -> Needs:
    """Return what :func:`empty_stores` has room for, without making them."""
    made = partial(empty_stores, settings, steps, rows, True)
    words, replaced = jax.eval_shape(made)
    most = jnp.int32(2**31 - 1)
    room = most if words is None else jnp.int32(words.words.shape[0])
    return Needs(room, most if replaced is None else jnp.int32(replaced.h.shape[0]))


def no_gradients(config: Config) -> Params:
    """Return gradients of the parameters, all zero."""
    shapes = config.parameter_shapes()
    return {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}


def state_gradients(
    config: Config, rows: int, given: tuple[jax.Array | None, jax.Array | None]
) -> tuple[jax.Array, jax.Array | None]:
    """Return gradients with respect to ``h`` and ``c`` ``[L, B, H]``, zero where none are given."""
    zero = jnp.zeros((config.num_layers, rows, config.hidden_size), jnp.float32)
    h, c = (zero if grad is None else grad for grad in given)
    return h, c if config.has_cell_state else None


def same_state(a: State, b: State) -> jax.Array:
    """Say whether two exact states are equal."""
    same: jax.Array = jnp.bool_(True)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        same &= (one == other).all()
    return same


_empty_store = with_x64(empty_store)


def unzip(ys: tuple[Any, Any]) -> tuple[Any, Any, Any]:
    """Return three results of :func:`revrnn.jax_impl.chunks.over_chunks` from one of threes."""
    whole, short = (y or (None, None, None) for y in ys)
    first_part, second, third = zip(whole, short, strict=True)
    return first_part, second, third


def buffer_of(state: State, stores: Stores | None) -> Buffer | None:
    """Return the buffer of a state's heads and of a store, if there are any."""
    if state.heads is None:
        return None
    return make_buffer(state.heads, None if stores is None else stores.words)


def state_of(groups: Groups, buffer: Buffer | None) -> State:
    """Return the exact state that a pass ends with."""
    return State(*groups.arrays(), None if buffer is None else heads_of(buffer))
