"""The differentiable stack of layers: :func:`rev_rnn` and what it takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of

from .buffer import LAYOUTS, Store, empty_store, fresh_heads, heads_of, make_buffer, store_of
from .gradients import sequence_backward
from .product import product_method
from .quantise import dequantise, nonfinite, quantise
from .sequence import Groups, State, mark, sequence_forward
from .status import NONFINITE, check, flag, is_concrete
from .x64 import with_x64

Params = Mapping[str, jax.Array]


class Output(NamedTuple):
    """What :func:`rev_rnn` gives.

    Attributes:
        outputs: float32 ``[T, B, H]``, ``h`` of the top layer after each step (SEQ-005).
        h_n: float32 ``[L, B, H]``, the final ``h``.
        c_n: the final ``c``, or ``None`` for RevGRU.
        state: the exact final state, to be carried to the next call.
        slices: int32 ``[T+1, B, D]`` (SEQ-007), or ``None`` for ``slice_size`` 0.
        wraps: int32, how often a state left int32 (MUL-006).
        status: int32, 0, or the faults for :func:`revrnn.jax_impl.status.check`.
    """

    outputs: jax.Array
    h_n: jax.Array
    c_n: jax.Array | None
    state: State
    slices: jax.Array | None
    wraps: jax.Array
    status: jax.Array


class Settings(NamedTuple):
    """The static arguments of a call: with the shapes they decide what is compiled."""

    config: Config
    states: str
    capacity: int | None
    method: str


class Inputs(NamedTuple):
    """The arrays of a call. One of ``hx`` and ``state`` is given, the other ``None``."""

    params: dict[str, jax.Array]
    x: jax.Array
    hx: tuple[jax.Array, ...] | None
    state: State | None
    mask: jax.Array
    gains: jax.Array | None


class Kept(NamedTuple):
    """What is kept from forward to backward beside the caller's own arrays.

    Attributes:
        end: the exact final state, ``[L, B, H]``, and heads.
        store: what was pushed.
        slices: int32 ``[T+1, B, D]``.
        before: the states before each step, for ``states="stored"``.
        status: faults.
    """

    end: State
    store: Store | None
    slices: jax.Array
    before: tuple[jax.Array, jax.Array | None] | None
    status: jax.Array


def init_params(key: jax.Array, config: Config) -> dict[str, jax.Array]:
    """Return float32 parameters, uniform in ±1/sqrt(``hidden_size``)."""
    bound = config.hidden_size**-0.5
    shapes = config.parameter_shapes()
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.uniform(k, shape, jnp.float32, -bound, bound)
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def initial_state(config: Config, batch_size: int) -> State:
    """Return a fresh exact state: zeros, and fresh heads (SEQ-006)."""
    check_config(config)
    h = jnp.zeros((config.num_layers, batch_size, config.hidden_size), jnp.int32)
    heads = fresh_heads(config.buffer, batch_size, config.group_size) if config.forgetting else None
    return State(h, jnp.zeros_like(h) if config.has_cell_state else None, heads)


def quantise_parameters(params: Params, config: Config) -> dict[str, jax.Array]:
    """Return float32 parameters in fixed point (QNT-005): weights int16, biases int32.

    NaN becomes 0; :func:`rev_rnn` reports it in its status.
    """
    return {
        name: quantise("bias" if name.startswith("bias") else "weight", value, config.formats)
        for name, value in params.items()
    }


def rev_rnn(
    params: Params,
    x: jax.Array,
    config: Config,
    *,
    hx: jax.Array | tuple[jax.Array, jax.Array] | None = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    states: str = "reversed",
    capacity: int | None = None,
) -> Output:
    """Run a stack of reversible layers over a sequence; differentiable once, in reverse mode.

    Args:
        params: float32 arrays by the names of ``config.parameter_shapes()``.
        x: float32 ``[T, B, I]``.
        config: the stack; static.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, float32 ``[L, B, H]``;
            differentiable (GRAD-004), with fresh heads.
        state: exact initial state from another call; not differentiable. Without ``hx`` and
            ``state`` the fresh one.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002); all without it.
        gains: int32 ``[T, L-1, B, H]``, what layers above the first multiply their inputs by
            (SEQ-012); see :func:`revrnn.jax_impl.dropout_gains`.
        states: how the backward pass comes by the states: ``"reversed"`` recovers them from the
            buffer, ``"stored"`` keeps them. The gradients are the same bits (GRAD-020).
        capacity: words (for ``wordlist`` planes) to set aside for the backward pass; without it
            as many as can ever be needed (BUF-035).

    Without differentiation no store is set aside (SEQ-010). After a fault ``status`` is not 0,
    floats are NaN from the fault on, and gradients are NaN; outside jit the error is raised.

    Raises:
        RevRNNError: while tracing ``E_ARGUMENT``, ``E_UNSUPPORTED``, ``E_DTYPE``, ``E_SHAPE``;
            outside jit also ``E_NONFINITE``, ``E_RANGE``, ``E_OVERFLOW``, ``E_REVERSAL``.
    """
    check_config(config)
    _check_settings(states, capacity, hx, state)
    floats = hx if hx is None or isinstance(hx, tuple) else (hx,)
    check_arrays(params, x, config, floats, state, mask, gains)
    if mask is None:
        mask = jnp.ones(x.shape[:2], jnp.bool_)
    if floats is None and state is None:
        state = initial_state(config, x.shape[1])
    settings = Settings(config, states, capacity, product_method())
    out: Output = _run(settings, Inputs(dict(params), x, floats, state, mask, gains))
    if is_concrete(out.status):
        check(out.status)
    return out


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(settings: Settings, inputs: Inputs) -> Output:
    out: Output = _forward(settings, inputs, keep=False)[0]
    return out


def _run_forward(settings: Settings, inputs: Inputs) -> tuple[Output, tuple[Inputs, Kept]]:
    out, kept = _forward(settings, inputs, keep=True)
    assert kept is not None
    if is_concrete(out.status):
        check(out.status)
    return out, (inputs, kept)


def _run_backward(
    settings: Settings, residuals: tuple[Inputs, Kept], gradient: Output
) -> tuple[Inputs]:
    grads = (gradient.outputs, gradient.h_n, gradient.c_n)
    params, x, hx, status = _backward_once(settings, *residuals, grads)
    if is_concrete(status):
        check(status)
    # Integers have no gradient, which JAX wants said by None.
    return (Inputs(params, x, hx, None, None, None),)  # type: ignore[arg-type]


_run.defvjp(_run_forward, _run_backward)


@with_x64
@partial(jax.jit, static_argnames=("settings", "keep"))
def _forward(settings: Settings, inputs: Inputs, keep: bool) -> tuple[Output, Kept | None]:
    """Run forward; with ``keep`` also deliver what the backward pass needs."""
    config, _, capacity, method = settings
    steps, rows, _ = inputs.x.shape
    stored = keep and settings.states == "stored"
    faults = [nonfinite(v) for v in (*inputs.params.values(), *(inputs.hx or ()))]
    status = flag(jnp.stack(faults).any(), NONFINITE)  # QNT-004
    start = _start(config, inputs)
    buffer = None
    if start.heads is not None:
        store = None
        if keep and not stored:
            store = empty_store(config, steps, rows, capacity)
        buffer = make_buffer(start.heads, store)
    params = quantise_parameters(inputs.params, config)
    run = sequence_forward(
        config, params, inputs.x, inputs.mask, Groups.cut(start.h, start.c), buffer, method,
        gains=inputs.gains, status=status, before=stored,
    )  # fmt: skip
    h, c = run.groups.arrays()
    heads = None if run.buffer is None else heads_of(run.buffer)
    bits = config.formats.state_bits
    out = Output(
        run.outputs,
        mark(dequantise(h, bits), run.status),
        None if c is None else mark(dequantise(c, bits), run.status),
        State(h, c, None if heads is None else _mark_heads(heads, run.status)),
        run.slices if config.slice_size else None,
        run.wraps,
        run.status,
    )
    if not keep:
        return out, None
    store = None if run.buffer is None else store_of(run.buffer)
    return out, Kept(State(h, c, heads), store, run.slices, run.before, run.status)


def _mark_heads(heads: jax.Array, status: jax.Array) -> jax.Array:
    """Return heads, after a fault all −1: out of range, so that the next call reports it too."""
    return jnp.where(status == 0, heads, ~jnp.zeros_like(heads))


def _start(config: Config, inputs: Inputs) -> State:
    """Return the exact initial state (QNT-005)."""
    if inputs.state is not None:
        return inputs.state
    assert inputs.hx is not None
    exact = [quantise("state", v, config.formats) for v in inputs.hx]
    fresh = initial_state(config, inputs.x.shape[1])
    return State(exact[0], exact[1] if config.has_cell_state else None, fresh.heads)


Grads = tuple[Any, ...]


@with_x64
@partial(jax.jit, static_argnames="settings")
def _backward(settings: Settings, inputs: Inputs, kept: Kept, gradient: Grads) -> Grads:
    """Return the gradients of ``params``, ``x`` and ``hx``, and a status."""
    config, start = settings.config, _start(settings.config, inputs)
    buffer = None
    if kept.end.heads is not None and kept.before is None:
        buffer = make_buffer(kept.end.heads, kept.store)
    grads, status = sequence_backward(
        config,
        quantise_parameters(inputs.params, config),  # GRAD-003: clipping passes gradients
        inputs.x,
        inputs.mask,
        Groups.cut(start.h, start.c),
        start.heads,
        Groups.cut(kept.end.h, kept.end.c),
        buffer,
        kept.slices,
        kept.before,
        gradient,
        settings.method,
        kept.status,
        inputs.gains,
    )
    hx = None
    if inputs.hx is not None:
        h, c = Groups(grads.h, grads.c).arrays()  # GRAD-004
        hx = (h,) if c is None else (h, c)
    return grads.params, grads.x, hx, status


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _backward_once(settings: Settings, inputs: Inputs, kept: Kept, gradient: Grads) -> Grads:
    found: Grads = _backward(settings, inputs, kept, gradient)
    return found


def _refuse(*_: object) -> Any:
    """Raise ``E_UNSUPPORTED`` where a gradient is differentiated again (GRAD-022)."""
    raise RevRNNError(
        "E_UNSUPPORTED", "rev_rnn", "the derivative of a gradient", "first derivatives"
    )


_backward_once.defvjp(_refuse, _refuse)


def check_config(config: Config) -> None:
    """Raise ``E_ARGUMENT`` or ``E_UNSUPPORTED`` for what is no configuration of JAX's (BUF-037)."""
    if not isinstance(config, Config):
        raise RevRNNError("E_ARGUMENT", "config", repr(config), "a Config")
    if config.forgetting and config.buffer not in LAYOUTS:  # BUF-037
        raise RevRNNError("E_UNSUPPORTED", "buffer", repr(config.buffer), one_of(LAYOUTS))


def _check_settings(states: str, capacity: object, hx: object, state: object) -> None:
    if states not in ("reversed", "stored"):
        raise RevRNNError("E_ARGUMENT", "states", repr(states), "'reversed', 'stored'")
    whole = isinstance(capacity, int) and not isinstance(capacity, bool)
    if capacity is not None and not (whole and 1 <= capacity < 2**30):  # type: ignore[operator]
        raise RevRNNError("E_ARGUMENT", "capacity", repr(capacity), "None or 1 … 2^30 − 1")
    if hx is not None and state is not None:
        raise RevRNNError("E_ARGUMENT", "hx", "hx and state", "one of the two")


def check_arrays(
    params: Params,
    x: jax.Array | jax.ShapeDtypeStruct,
    config: Config,
    hx: tuple[jax.Array, ...] | None,
    state: State | None,
    mask: jax.Array | None,
    gains: jax.Array | None = None,
) -> None:
    """Check names, then types, then shapes (ERR-002)."""
    shapes = config.parameter_shapes()
    for name in (*params, *shapes):
        if name not in shapes or name not in params:
            given = "nothing" if name in shapes else "an unknown name"
            raise RevRNNError("E_ARGUMENT", f"params[{name!r}]", given, one_of(shapes))
    length = x.shape[:2] if len(jnp.shape(x)) == 3 else (0, 1)
    layers = (config.num_layers, length[1], config.hidden_size)
    wanted: list[tuple[str, Any, str, tuple[int, ...]]] = [
        (f"params[{name!r}]", params[name], "float32", shape) for name, shape in shapes.items()
    ]
    wanted.append(("x", x, "float32", (*length, config.input_size)))
    if mask is not None:
        wanted.append(("mask", mask, "bool", length))
    if gains is not None:
        if config.num_layers == 1:
            raise RevRNNError("E_ARGUMENT", "gains", "gains", "None for one layer")
        above = (length[0], config.num_layers - 1, length[1], config.hidden_size)
        wanted.append(("gains", gains, "int32", above))
    if hx is not None:
        if len(hx) != config.state_arrays:
            allowed = "(h, c)" if config.has_cell_state else "h"
            raise RevRNNError("E_ARGUMENT", "hx", f"{len(hx)} arrays", allowed)
        wanted += [(f"hx[{k}]", v, "float32", layers) for k, v in enumerate(hx)]
    if state is not None:
        fresh = jax.eval_shape(lambda: initial_state(config, length[1]))
        for name in State._fields:
            value, like = getattr(state, name, None), getattr(fresh, name)
            if (value is None) != (like is None):
                given = "nothing" if value is None else "an array"
                raise RevRNNError("E_ARGUMENT", f"state.{name}", given, "a state of this config")
            if like is not None:
                wanted.append((f"state.{name}", value, str(like.dtype), like.shape))
    for name, value, dtype, _ in wanted:
        given = getattr(value, "dtype", type(value).__name__)
        if str(given) != dtype:
            raise RevRNNError("E_DTYPE", name, f"elements of {given}", dtype)
    for name, value, _, shape in wanted:
        if value.shape != shape or (name == "x" and length[1] == 0):
            raise RevRNNError("E_SHAPE", name, f"shape {list(value.shape)}", f"{list(shape)}")
