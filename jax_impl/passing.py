"""What goes forward and back over a sequence, and what is remembered between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config

from .gradients import StateGradients
from .state import State
from .stores import Needs, Stores

Tree = Any
Params = dict[str, jax.Array]

# Of a cut of the caller's own data, the chunk's outputs [C, B, H] (float32 if the inputs are) and
# slices int32 [C+1, B, D].
Deliver = Callable[[Tree, jax.Array, jax.Array], Tree]
# What a chunk's caller is given: its inputs to its outputs, float32 [C, B, H]; then the gradients
# with respect to these to that of the inputs [C, B, I].
Recover = Callable[[jax.Array], jax.Array]
Pullback = Callable[[jax.Array | None], jax.Array]
# From the caller's carry and its own data: the carry, and what is to be delivered.
ChunkBack = Callable[[Tree, Tree, Recover, Pullback], tuple[Tree, Tree]]


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
    grad_state: StateGradients
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


def no_gradients(config: Config) -> Params:
    """Return gradients of the parameters, all zero."""
    shapes = config.parameter_shapes()
    return {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}


def state_gradients(
    config: Config, rows: int, given: tuple[jax.Array | None, jax.Array | None]
) -> StateGradients:
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
