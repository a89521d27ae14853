"""The differentiable stack of layers: :func:`init`, :func:`apply` and what they take and give."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.sharding import PartitionSpec as P

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.plan import CHUNK_SIZE

from .bptt import Bptt
from .checks import (
    Params,
    check_arrays,
    check_initial,
    check_key,
    check_reset_capacity,
    check_trees,
    settings_of,
)
from .chunks import vary_together
from .meshes import Rows, on_automatic_axes
from .passing import CarryBack, Data, Remembered, Settings, Undo
from .quantise import dequantise, nonfinite, quantise
from .sequence import gains_fault, mark
from .state import State, carried, check_config, initial_state
from .status import NONFINITE, check, first, flag, is_concrete
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


def init(key: jax.Array, config: Config) -> dict[str, jax.Array]:
    """Return float32 parameters, uniform in ±1/sqrt(``hidden_size``).

    Biases of RevLSTM's input and output gates lie around 1 (``config.initial_bias()``).

    Raises:
        RevRNNError: ``E_ARGUMENT`` or ``E_UNSUPPORTED``.
    """
    check_config(config)
    check_key("key", key)
    bound = config.hidden_size**-0.5
    shapes = config.parameter_shapes()
    keys = jax.random.split(key, len(shapes))
    params = {}
    for k, (name, shape) in zip(keys, shapes.items(), strict=True):
        params[name] = jax.random.uniform(k, shape, jnp.float32, -bound, bound)
        if name.startswith("bias"):
            params[name] += jnp.asarray(config.initial_bias(), jnp.float32)
    return params


def quantise_parameters(params: Params, config: Config) -> dict[str, jax.Array]:
    """Return float32 parameters in fixed point (QNT-005): weights int16, biases int32.

    NaN becomes 0; :func:`apply` reports it in its status.

    Raises:
        RevRNNError: ``E_ARGUMENT``, ``E_UNSUPPORTED`` or ``E_DTYPE``.
    """
    check_config(config)
    check_trees(config, params, None, {})
    return {
        name: quantise("bias" if name.startswith("bias") else "weight", value, config.formats)
        for name, value in params.items()
    }


def apply(
    params: Params,
    x: jax.Array,
    config: Config,
    *,
    hx: jax.Array | tuple[jax.Array, ...] | None = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    resets: jax.Array | None = None,
    with_outputs: bool = True,
    states: str = "reversed",
    chunk_size: int = CHUNK_SIZE,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
    reset_capacity: int | None = None,
) -> Output:
    """Run a stack of reversible layers over a sequence; differentiable once, in reverse mode.

    Args:
        params: float32 arrays by the names of ``config.parameter_shapes()``.
        x: float32 ``[T, B, I]``.
        config: the stack; static, as are all arguments that are no arrays.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, float32 ``[L, B, H]``;
            differentiable (GRAD-004), with fresh heads.
        state: exact initial state from another call; not differentiable. Without ``hx`` and
            ``state`` the fresh one.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002); all without it.
        gains: int32 ``[T, L-1, B, H]``, what layers above the first multiply their inputs by
            (SEQ-012); see :func:`revrnn.jax_impl.dropout_gains`.
        resets: bool ``[T, B]``, true where a row starts anew before the step (SEQ-013).
        with_outputs: whether all outputs are wanted; an encoder may do with ``context``, ``h_n``.
        states: how the backward pass comes by the states: ``"reversed"`` recovers them from the
            buffer, ``"stored"`` keeps them. The gradients are the same bits (GRAD-020).
        chunk_size: steps handled together; no state depends on it.
        checkpoint_every: keep the exact state every so many steps (rounded up to whole chunks) and
            the buffer of one such piece at a time.
        capacity: words (for ``wordlist`` planes) to set aside for the backward pass, for a piece
            if there are several; without it as many as can ever be needed (BUF-035).
        reset_capacity: resets, of all rows together, to set aside for in the same way; under jit
            it must be given to differentiate with resets.

    Without differentiation no store is set aside (SEQ-010). After a fault ``status`` is not 0,
    floats are NaN from the fault on, and gradients are NaN; outside jit the error is raised.

    Raises:
        RevRNNError: while tracing ``E_ARGUMENT``, ``E_UNSUPPORTED``, ``E_DTYPE``, ``E_SHAPE``;
            outside jit also ``E_NONFINITE``, ``E_RANGE``, ``E_OVERFLOW``, ``E_REVERSAL``.
    """
    settings = settings_of(
        config, chunk_size, checkpoint_every, capacity, reset_capacity, resets, states
    )
    flag_given: object = with_outputs
    if not isinstance(flag_given, (bool, np.bool_)):
        given = f"a {type(with_outputs).__name__}"
        raise RevRNNError("E_ARGUMENT", "with_outputs", given, "True, False")
    floats = check_initial(hx, state)
    if x is None:
        raise RevRNNError("E_ARGUMENT", "x", "nothing", "an array [T, B, I]")
    arrays = {"x": x, "mask": mask, "gains": gains, "resets": resets}
    check_trees(config, params, state, arrays, hx=hx)
    check_arrays(params, x, config, floats, state, mask, gains, resets)
    if mask is None:
        mask = jnp.ones(x.shape[:2], jnp.bool_)
    if floats is None and state is None:
        state = initial_state(config, x.shape[1])
    inputs = vary_together(Inputs(dict(params), x, floats, state, mask, gains, resets))
    call: Any = _Call(settings, bool(with_outputs))
    batches = batches_of(floats, state, mask, gains, resets)
    out: Output = on_automatic_axes(call, inputs, [(x, 1), *batches], call.specs)
    if is_concrete(out.status):
        check(out.status)
    return out._replace(state=carried(out.state, state, config))


class _Call(NamedTuple):
    """A call of :func:`_run`, with what is static of it."""

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


def batches_of(
    hx: tuple[jax.Array, ...] | None,
    state: State | None,
    mask: jax.Array | None,
    gains: jax.Array | None,
    resets: jax.Array | None,
) -> list[tuple[Any, int]]:
    """Return arrays of a call that have a batch, and which axis it is."""
    first_h = hx[0] if hx else None if state is None else state.h
    return [(mask, 1), (first_h, 1), (gains, 2), (resets, 1)]


def state_specs(config: Config, rows: Rows) -> Any:
    """Return how a state is sharded whose batch is sharded over ``rows``, as a :class:`State`."""
    by_layer: Any = P(None, rows)
    heads: Any = P(rows)
    c = by_layer if config.has_cell_state else None
    return State(by_layer, c, heads if config.forgetting else None)


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
        check(out.status)
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
    config, bits = settings.config, settings.config.formats.state_bits
    steps, rows, _ = inputs.x.shape
    faults = [nonfinite(v) for v in (*inputs.params.values(), *(inputs.hx or ()))]
    status = flag(jnp.stack(faults).any(), NONFINITE)  # QNT-004
    status = first(status, gains_fault(inputs.gains))  # SEQ-012
    start = start_of(config, rows, inputs.hx, inputs.state)

    def deliver(_: Any, outputs: jax.Array, slices: jax.Array) -> tuple[Any, Any]:
        return outputs if with_outputs else None, slices[1:] if config.slice_size else None

    bptt = Bptt(settings, quantise_parameters(inputs.params, config), steps, rows)
    kept, found = bptt.forward(
        start, status, _data(inputs, (inputs.x, None, None)), _take, deliver, keep
    )
    h, c, heads = kept.end.state
    status = kept.end.status
    outputs, slices, context = _delivered(config, start, found, steps, with_outputs)
    out = Output(
        outputs,
        mark(dequantise(h, bits), status),
        None if c is None else mark(dequantise(c, bits), status),
        State(h, c, None if heads is None else _mark_heads(heads, status)),
        slices,
        None if context is None else mark(dequantise(context, bits), status),
        kept.end.wraps,
        status,
    )
    return out, kept if keep else None


def _delivered(
    config: Config, start: State, found: Any, steps: int, with_outputs: bool
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Return outputs, slices and those after the first."""
    depth, shape = config.slice_size, start.h.shape[1:]
    nothing = jnp.zeros((0, *shape), jnp.float32)
    outputs = found[0] if with_outputs and steps else nothing
    if not depth:
        return outputs, None, None
    later = found[1] if steps else jnp.zeros((0, shape[0], depth), jnp.int32)
    return outputs, jnp.concatenate([start.h[-1:, :, :depth], later]), later


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


Grads = tuple[Any, ...]


@with_x64
@partial(jax.jit, static_argnames="settings")
def _backward(settings: Settings, inputs: Inputs, kept: Remembered, gradient: Grads) -> Grads:
    """Return the gradients of ``params``, ``x`` and ``hx``, and a status."""
    config, (steps, rows, _) = settings.config, inputs.x.shape
    grad_outputs, grad_context, grad_h, grad_c = gradient

    def chunk(extra: Any, own: Any, undo: Undo, carry_back: CarryBack) -> tuple[Any, jax.Array]:
        x, of_outputs, of_context = own
        undo(x)
        if of_context is not None:
            more = config.hidden_size - config.slice_size
            wide = jnp.pad(of_context, ((0, 0), (0, 0), (0, more)))
            of_outputs = wide if of_outputs is None else of_outputs + wide
        return extra, carry_back(of_outputs)

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
    found: Grads = _backward(settings, inputs, kept, gradient)
    return found


def _refuse(*_: object) -> Any:
    """Raise ``E_UNSUPPORTED`` where a gradient is differentiated again (GRAD-022)."""
    raise RevRNNError("E_UNSUPPORTED", "apply", "the derivative of a gradient", "first derivatives")


_backward_once.defvjp(_refuse, _refuse)
