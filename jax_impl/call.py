"""One call of a reversible stack over a whole sequence, and its derivative."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import export
from jax.sharding import PartitionSpec as P

from revrnn.config import Config

from .bptt import Bptt
from .checks import check_reset_capacity
from .lowered import refuse_derivative
from .meshes import Rows, state_specs
from .parameters import quantise_parameters
from .passing import Data, Pullback, Recover, Remembered
from .quantise import nonfinite, quantise
from .settings import Settings
from .state import State, carried, floats_of, fresh_state, initial_state
from .status import NONFINITE, check, first, flag, is_concrete, mark
from .walk import gains_fault
from .x64 import with_x64


class Output(NamedTuple):
    """What :func:`apply` gives.

    Attributes:
        outputs: float32 ``[T, B, H]``, ``h`` of the top layer after each step (SEQ-005);
            differentiable; ``[0, B, H]`` if not wanted.
        h_n: float32 ``[L, B, H]``, the final ``h``; differentiable.
        c_n: the final ``c``, or ``None`` for RevGRU.
        state: the exact final state, to be carried to the next call.
        slices: int32 ``[T+1, B, D]`` (SEQ-007), or ``None`` for ``slice_size`` 0.
        context: float32 ``[T, B, D]``, the first D units after each step, or ``None``;
            differentiable.
        wraps: int32, how often a state left int32 (MUL-006).
        status: int32, 0, or the faults for :func:`revrnn.jax_impl.status.check`.
    """

    outputs: jax.Array
    h_n: jax.Array
    c_n: jax.Array | None
    state: State
    slices: jax.Array | None
    context: jax.Array | None
    wraps: jax.Array
    status: jax.Array


export.register_namedtuple_serialization(Output, serialized_name="revrnn.Output")


class Inputs(NamedTuple):
    """The arrays of a call. One of ``hx`` and ``state`` is given, the other ``None``."""

    params: dict[str, jax.Array]
    x: jax.Array
    hx: tuple[jax.Array, ...] | None
    state: State | None
    mask: jax.Array
    gains: jax.Array | None
    resets: jax.Array | None


class Call(NamedTuple):
    """A call over a sequence: what is static of it."""

    settings: Settings
    with_outputs: bool

    def __call__(self, inputs: Inputs) -> Output:
        """Run over a sequence."""
        out: Output = _run(self.settings, self.with_outputs, inputs)
        return out

    def specs(self, rows: Rows) -> Output:
        """Return how results are sharded where the batch is sharded over ``rows``."""
        config = self.settings.config
        by_step: Any = P(None, rows)
        sliced = by_step if config.slice_size else None
        state, whole = state_specs(config, rows), cast("Any", P())
        return Output(by_step, state.h, state.c, state, sliced, sliced, whole, whole)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(settings: Settings, with_outputs: bool, inputs: Inputs) -> Output:
    out: Output = _forward(settings, with_outputs, inputs, keep=False)[0]
    return out


def _run_forward(
    settings: Settings, with_outputs: bool, inputs: Inputs
) -> tuple[Output, tuple[Inputs, Remembered]]:
    check_reset_capacity(settings, inputs.resets)
    out, kept = _forward(settings, with_outputs, inputs, keep=True)
    if is_concrete(out.status):
        hx = inputs.hx if inputs.hx is None or len(inputs.hx) > 1 else inputs.hx[0]
        check(out.status, params=inputs.params, hx=hx, x=inputs.x)
    return out, (inputs, kept)


def _run_backward(
    settings: Settings, with_outputs: bool, residuals: tuple[Inputs, Remembered], gradient: Output
) -> tuple[Inputs]:
    of_outputs = gradient.outputs if with_outputs else None
    grads = (of_outputs, gradient.context, gradient.h_n, gradient.c_n)
    params, x, hx, status = _backward_once(settings, *residuals, grads)
    if is_concrete(status):
        check(status)
    # Integers have no gradient, which JAX wants said by None.
    return (Inputs(params, x, hx, None, None, None, None),)  # type: ignore[arg-type]


_run.defvjp(_run_forward, _run_backward)


def _take(own: tuple[jax.Array, Any, Any]) -> jax.Array:
    return own[0]


@with_x64
@partial(jax.jit, static_argnames=("settings", "with_outputs", "keep"))
def _forward(
    settings: Settings, with_outputs: bool, inputs: Inputs, keep: bool
) -> tuple[Output, Remembered | None]:
    """Run forward; with ``keep`` also deliver what the backward pass needs."""
    config, (steps, rows, _) = settings.config, inputs.x.shape
    start = start_of(config, rows, inputs.hx, inputs.state)
    status = fault_of(inputs.params, inputs.hx, inputs.gains)

    def deliver(_: Any, outputs: jax.Array, slices: jax.Array) -> tuple[Any, Any]:
        return outputs if with_outputs else None, slices[1:] if config.slice_size else None

    bptt = Bptt(settings, quantise_parameters(inputs.params, config), steps, rows)
    kept, made = bptt.forward(
        start, status, _data(inputs, (inputs.x, None, None)), _take, deliver, keep
    )
    h, c, heads = kept.end.state
    status = kept.end.status
    outputs, slices, context = _delivered(config, start, made, steps, with_outputs)
    out = Output(
        outputs,
        floats_of(config, h, status),
        floats_of(config, c, status),
        State(h, c, None if heads is None else _mark_heads(heads, status)),
        slices,
        floats_of(config, context, status),
        kept.end.wraps,
        status,
    )
    return out, kept if keep else None


def _delivered(
    config: Config, start: State, made: Any, steps: int, with_outputs: bool
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Return outputs, slices and those after the first."""
    depth, shape = config.slice_size, start.h.shape[1:]
    nothing = jnp.zeros((0, *shape), jnp.float32)
    outputs = made[0] if with_outputs and steps else nothing
    if not depth:
        return outputs, None, None
    later = made[1] if steps else jnp.zeros((0, shape[0], depth), jnp.int32)
    return outputs, jnp.concatenate([start.h[-1:, :, :depth], later]), later


def of_no_rows(config: Config, outputs: int, steps: int, start: State | None) -> Output:
    """Return what a batch of no rows gives: arrays without numbers, whose gradients are 0."""
    end, depth = fresh_state(config, 0), config.slice_size
    return Output(
        jnp.zeros((outputs, 0, config.hidden_size), jnp.float32),
        end.h.astype(jnp.float32),
        None if end.c is None else end.c.astype(jnp.float32),
        carried(end, start, config),
        jnp.zeros((steps + 1, 0, depth), jnp.int32) if depth else None,
        jnp.zeros((steps, 0, depth), jnp.float32) if depth else None,
        wraps=jnp.int32(0),
        status=jnp.int32(0),
    )


def _data(inputs: Inputs, own: Any) -> Data:
    return Data(own, inputs.mask, inputs.gains, inputs.resets)


def _mark_heads(heads: jax.Array, status: jax.Array) -> jax.Array:
    """Return heads, after a fault all −1: out of range, so that the next call reports it too."""
    return jnp.where(status == 0, heads, ~jnp.zeros_like(heads))


def start_of(
    config: Config, rows: int, hx: tuple[jax.Array, ...] | None, state: State | None
) -> State:
    """Return the exact initial state (QNT-005)."""
    if state is not None:
        return state._replace(config=None)
    fresh = initial_state(config, rows)._replace(config=None)
    if hx is None:
        return fresh
    exact = [quantise("state", v, config.formats) for v in hx]
    return State(exact[0], exact[1] if config.has_cell_state else None, fresh.heads)


def fault_of(
    params: dict[str, jax.Array], hx: tuple[jax.Array, ...] | None, gains: jax.Array | None
) -> jax.Array:
    """Return the faults of what is not of a step alone (QNT-004, SEQ-012)."""
    wrong = jnp.stack([nonfinite(v) for v in (*params.values(), *(hx or ()))]).any()
    return first(flag(wrong, NONFINITE), gains_fault(gains))


Grads = tuple[Any, ...]


@with_x64
@partial(jax.jit, static_argnames="settings")
def _backward(settings: Settings, inputs: Inputs, kept: Remembered, gradient: Grads) -> Grads:
    """Return the gradients of ``params``, ``x`` and ``hx``, and a status."""
    config, (steps, rows, _) = settings.config, inputs.x.shape
    grad_outputs, grad_context, grad_h, grad_c = gradient

    def chunk(extra: Any, own: Any, recover: Recover, pullback: Pullback) -> tuple[Any, jax.Array]:
        x, of_outputs, of_context = own
        recover(x)
        if of_context is not None:
            more = config.hidden_size - config.slice_size
            wide = jnp.pad(of_context, ((0, 0), (0, 0), (0, more)))
            of_outputs = wide if of_outputs is None else of_outputs + wide
        return extra, pullback(of_outputs)

    data = _data(inputs, (inputs.x, grad_outputs, grad_context))
    # GRAD-003: clipping passes gradients
    bptt = Bptt(settings, quantise_parameters(inputs.params, config), steps, rows)
    start = start_of(config, rows, inputs.hx, inputs.state)
    back, dx = bptt.backward(kept, start, data, _take, chunk, None, (grad_h, grad_c))
    hx = None
    if inputs.hx is not None:  # GRAD-004
        hx = tuple(v for v in back.grad_state if v is not None)
    grads = back.grads, jnp.zeros_like(inputs.x) if dx is None else dx, hx
    return (*jax.tree.map(lambda v: mark(v, back.status), grads), back.status)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _backward_once(settings: Settings, inputs: Inputs, kept: Remembered, gradient: Grads) -> Grads:
    grads: Grads = _backward(settings, inputs, kept, gradient)
    return grads


_backward_once.defvjp(refuse_derivative, refuse_derivative)
