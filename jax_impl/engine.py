"""A chunk of steps, taken forward and taken back: each a compiled program of its own.

The third is the gradient of a chunk. Which engine does them is said by ``settings.method``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from .buffer import Buffer, heads_of, make_buffer, store_of
from .engines import NATIVE, SCAN, Exact, Method, stack_of
from .gradients import Gradients, StateGradients, chunk_gradient
from .groups import Groups
from .lowered import either, zeros
from .passing import Going, Params
from .quantise import dequantise, quantise_passes
from .resets import Replaced
from .sequence import Steps
from .settings import Settings
from .slopes import slopes_like, slopes_of
from .state import State
from .stores import Stores
from .walk import Forward, Past, Reverse, status_of
from .x64 import with_x64

R = TypeVar("R")
Advanced = tuple[Going, jax.Array, Past | None, jax.Array]


def _by_engine(function: Callable[..., R]) -> Callable[..., R]:
    """Have a function of settings and arrays give what is due in programs for elsewhere too.

    There it is what the scan makes of the same arguments.
    """

    @wraps(function)
    def chosen(settings: Settings, *arguments: Any) -> R:
        engine, product = settings.method
        if engine != NATIVE:
            return function(settings, *arguments)

        def elsewhere(like: Any, *arguments: Any) -> Any:
            made: Any = function(settings._replace(method=Method(SCAN, product)), *arguments)
            if isinstance(made, Recovered):
                made = made._replace(tape=made.tape._replace(kernels=zeros(like.tape.kernels)))
            return made

        other = None if product is None else elsewhere
        result: R = either(partial(function, settings), other, *arguments)
        return result

    return chosen


@with_x64
@partial(jax.jit, static_argnums=0)
@_by_engine
def advance(settings: Settings, exact: Exact, steps: Steps, going: Going) -> Advanced:
    """Take a chunk of steps; return also its slices ``[C+1, B, D]``, states and outputs."""
    state, stores, needs, wraps, status = going
    run: Forward = stack_of(settings.config, exact, settings.method).forward(
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


class Tape(NamedTuple):
    """What a chunk's gradients are made of, by the engine that makes them.

    Attributes:
        kernels: those of an engine with kernels, or ``None``.
        slopes: the scan's, those of the updates by layer with a leading axis of steps, or ``None``.
    """

    kernels: Any
    slopes: Any


class Recovered(NamedTuple):
    """A chunk taken back.

    Attributes:
        state: the state before it.
        stores: what is left to pop.
        tape: for its gradient. Of a program that may be for elsewhere both parts, one of zeros.
        outputs: float32 ``[C, B, H]``.
        status: faults.
    """

    state: State
    stores: Stores | None
    tape: Tape
    outputs: jax.Array
    status: jax.Array


@with_x64
@partial(jax.jit, static_argnums=0)
@_by_engine
def recover(
    settings: Settings,
    exact: Exact,
    steps: Steps,
    slices: jax.Array,
    before: Past | None,
    state: State,
    stores: Stores | None,
) -> Recovered:
    """Take a chunk back, or look its states up where those ``before`` each step are stored."""
    config, (engine, product) = settings.config, settings.method
    run: Reverse = stack_of(config, exact, settings.method).reverse(
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
    tape = Tape(None, run.delivered)
    if engine != SCAN:
        tape = Tape(run.delivered, product and zeros(slopes_like(config, steps.mask.shape)))
    return Recovered(begin, stores, tape, outputs, faults)


@with_x64
@_by_engine
def pullback(
    settings: Settings,
    exact: Exact,
    tape: Tape,
    steps: Steps,
    grad_state: StateGradients,
    grad_outputs: jax.Array | None,
    so_far: Params,
) -> Gradients:
    """Carry gradients back over a chunk; those of parameters are added to those so far."""
    config = settings.config
    grads = grad_state, grad_outputs
    if settings.method.folder is not None:
        gradient: Any = import_module(f".{settings.method.folder}.gradient", __package__)
        made: Gradients = gradient.pull(config, exact.packed, tape.kernels, steps, *grads, so_far)
    else:
        made = chunk_gradient(config, exact.params, tape.slopes, steps, *grads)
        made = made._replace(params={name: g + made.params[name] for name, g in so_far.items()})
    if steps.x.dtype == jnp.float32:  # GRAD-002
        passes = quantise_passes("operand", steps.x, config.formats)
        made = made._replace(x=jnp.where(passes, made.x, 0))
    return made


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
