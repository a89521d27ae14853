"""A chunk of steps, taken forward and taken back: each a compiled program of its own.

The third is the gradient of a chunk. Which engine does them is said by ``settings.method``.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import jax

from .buffer import Buffer, heads_of, make_buffer, store_of
from .engines import NATIVE, forward_of, reverse_of
from .gradients import Gradients, StateGradients, chunk_gradient
from .groups import Groups
from .passing import Going, Params
from .quantise import dequantise
from .resets import Replaced
from .sequence import Steps
from .settings import Settings
from .slopes import slopes_of
from .state import State
from .stores import Stores
from .walk import Past, status_of
from .x64 import with_x64


@with_x64
@partial(jax.jit, static_argnums=0)
def advance(
    settings: Settings, exact: Any, steps: Steps, going: Going
) -> tuple[Going, jax.Array, Past | None, jax.Array]:
    """Take a chunk of steps; return also its slices ``[C+1, B, D]``, states and outputs."""
    state, stores, needs, wraps, status = going
    run = forward_of(settings.config, exact, settings.method)(
        steps,
        Groups.cut(state.h, state.c),
        _buffer_of(state, stores),
        replaced=None if stores is None else stores.replaced,
        status=status,
        before=stores is not None and settings.states == "stored",
    )
    end, stores = _end(run.groups, run.buffer, run.replaced, stores)
    pushed = None if run.buffer is None else run.buffer.length
    has_store = stores is not None and stores.words is not None
    needs = needs.after(pushed, has_store, steps.resets)
    going = Going(end, stores, needs, wraps + run.wraps, run.status)
    return going, run.slices, run.before, run.outputs


class Recovered(NamedTuple):
    """A chunk taken back.

    Attributes:
        state: the state before it.
        stores: what is left to pop.
        slopes: those of its updates, by layer, with a leading axis of steps; or the native
            engine's tape.
        outputs: float32 ``[C, B, H]``.
        status: faults.
    """

    state: State
    stores: Stores | None
    slopes: Any
    outputs: jax.Array
    status: jax.Array


@with_x64
@partial(jax.jit, static_argnums=0)
def recover(
    settings: Settings,
    exact: Any,
    steps: Steps,
    slices: jax.Array,
    before: Past | None,
    state: State,
    stores: Stores | None,
) -> Recovered:
    """Take a chunk back, or look its states up where those ``before`` each step are stored."""
    config = settings.config
    run = reverse_of(config, exact, settings.method)(
        steps,
        Groups.cut(state.h, state.c),
        _buffer_of(state, stores) if before is None else None,
        slices,
        replaced=None if stores is None else stores.replaced,
        before=before,
        deliver=partial(slopes_of, config),
    )
    outputs = dequantise(run.outputs, config.formats.state_bits)
    begin = State(*run.groups.arrays(), state.heads)
    if before is None:
        begin, stores = _end(run.groups, run.buffer, run.replaced, stores)
    faults = status_of(run.buffer, run.replaced)
    return Recovered(begin, stores, run.delivered, outputs, faults)


def pullback(
    settings: Settings,
    exact: Any,
    slopes: Any,
    steps: Steps,
    grad_state: StateGradients,
    grad_outputs: jax.Array | None,
    so_far: Params,
) -> Gradients:
    """Carry gradients back over a chunk; those of parameters are added to those so far."""
    given = (settings.config, exact, slopes, steps, grad_state, grad_outputs)
    if settings.method == NATIVE:
        native: Any = import_module(".native.gradient", __package__)
        made: Gradients = native.pull(*given, so_far)
        return made
    made = chunk_gradient(*given)
    return made._replace(params={name: g + made.params[name] for name, g in so_far.items()})


def _buffer_of(state: State, stores: Stores | None) -> Buffer | None:
    """Return the buffer of a state's heads and of a store, if there are any."""
    if state.heads is None:
        return None
    return make_buffer(state.heads, None if stores is None else stores.words)


def _end(
    groups: Groups, buffer: Buffer | None, replaced: Replaced | None, stores: Stores | None
) -> tuple[State, Stores | None]:
    """Return the exact state that a chunk ends with, and the stores as it left them."""
    state = State(*groups.arrays(), None if buffer is None else heads_of(buffer))
    if stores is None:
        return state, None
    words = None if buffer is None or stores.words is None else store_of(buffer)
    return state, Stores(words, replaced)
