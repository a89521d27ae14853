"""Training by chunks: nothing of size steps × batch × hidden ever exists.

Inputs are made from the user's data chunk by chunk, forwards and again on the way back; the readout
and its loss run on the way back alone, on recovered outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of

from .autodiff import (
    Params,
    check_arrays,
    check_reset_capacity,
    quantise_parameters,
    settings_of,
    start_of,
)
from .bptt import Bptt
from .chunks import vary_together
from .passing import CHUNK_SIZE, CarryBack, Data, Remembered, Settings, Undo
from .quantise import dequantise, nonfinite
from .sequence import mark
from .state import State, carried, check_config
from .status import NONFINITE, check, flag, is_concrete
from .x64 import with_x64

Tree = Any
Floats = jax.Array | tuple[jax.Array, ...] | None
# From the outer parameters and a cut of the inputs to float32 [C, B, I].
Embed = Callable[[Tree, Tree], jax.Array]
# From the outer parameters, outputs [C, B, H] and a cut of the targets to a scalar.
Readout = Callable[[Tree, jax.Array, Tree], jax.Array]


class Streamed(NamedTuple):
    """What :func:`value_and_grad` gives.

    Attributes:
        loss: float32; NaN after a fault.
        grads: of ``params`` and of ``outer``.
        state: the exact final state, to be carried to the next call.
        wraps: int32, how often a state left int32 (MUL-006).
        status: int32, 0, or the faults for :func:`revrnn.jax_impl.check`.
        grad_hx: the gradient with respect to ``hx``, as :func:`value_and_grad` was given it.
    """

    loss: jax.Array
    grads: tuple[Params, Tree]
    state: State
    wraps: jax.Array
    status: jax.Array
    grad_hx: Floats = None


class Encoded(NamedTuple):
    """What :func:`encode` gives.

    Attributes:
        context: float32 ``[T, B, D]``, the first D units after each step; differentiable.
        h_n: float32 ``[L, B, H]``; differentiable.
        c_n: the same for RevLSTM's ``c``, or ``None``.
        state: the exact final state.
        wraps: int32, how often a state left int32 (MUL-006).
        status: int32, 0, or the faults for :func:`revrnn.jax_impl.check`.
    """

    context: jax.Array
    h_n: jax.Array
    c_n: jax.Array | None
    state: State
    wraps: jax.Array
    status: jax.Array


for _kind in (Streamed, Encoded):
    export.register_namedtuple_serialization(_kind, serialized_name=f"revrnn.{_kind.__name__}")


def value_and_grad(
    params: Params,
    outer: Tree,
    inputs: Tree,
    targets: Tree,
    config: Config,
    *,
    readout: Readout,
    embed: Embed | None = None,
    hx: Floats = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    resets: jax.Array | None = None,
    reduction: str = "mean",
    chunk_size: int = CHUNK_SIZE,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
    reset_capacity: int | None = None,
) -> Streamed:
    """Return a loss over a sequence and its gradients.

    It is meant to be called inside ``jax.jit``. States do not depend on ``chunk_size`` or
    ``checkpoint_every``. Randomness of ``embed`` and ``readout`` must come from what they are
    given, for instance from keys and step numbers among the inputs.

    Args:
        params: float32 arrays by the names of ``config.parameter_shapes()``.
        outer: any pytree of parameters that ``embed`` and ``readout`` use.
        inputs: any pytree of arrays ``[T, …]``: tokens, features.
        targets: any pytree of arrays ``[T, …]``.
        config: the stack.
        readout: ``readout(outer, outputs, targets)``, from float32 ``[C, B, H]`` and a cut of the
            targets to a scalar.
        embed: ``embed(outer, inputs)``, from a cut of the inputs to float32 ``[C, B, I]``; without
            it the inputs are that.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, float32 ``[L, B, H]``, of a
            decoder for instance. Its gradient is returned (GRAD-004).
        state: exact state from another call, instead; without either the fresh one.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002).
        gains: int32 ``[T, L-1, B, H]``, what layers above the first multiply their inputs by
            (SEQ-012).
        resets: bool ``[T, B]``, true where a row starts anew before the step (SEQ-013).
        reduction: ``"mean"``: ``readout`` gives the mean over its steps, and the loss is the mean
            over all; ``"sum"``: losses of chunks are added.
        chunk_size: steps handled together. It bounds the logits that exist at a time.
        checkpoint_every: keep the exact state every so many steps (rounded up to whole chunks) and
            the buffer of one piece at a time.
        capacity: words (for ``wordlist`` planes) set aside, for a piece if there are several;
            without it as many as can ever be needed (BUF-035).
        reset_capacity: resets, of all rows together, to set aside for in the same way; under jit
            it must be given with ``resets``.

    Raises:
        RevRNNError: while tracing ``E_ARGUMENT``, ``E_DTYPE``, ``E_SHAPE``, and ``E_UNSUPPORTED``
            where the result is differentiated; outside jit also ``E_NONFINITE``, ``E_RANGE``,
            ``E_OVERFLOW``, ``E_REVERSAL``, which inside jit are told by ``status``.
    """
    if reduction not in ("mean", "sum"):
        raise RevRNNError("E_ARGUMENT", "reduction", repr(reduction), one_of(("mean", "sum")))
    settings = _settings(config, chunk_size, checkpoint_every, capacity, reset_capacity, resets)
    check_reset_capacity(settings, resets)
    embed = _as_given if embed is None else embed
    if hx is not None and state is not None:
        raise RevRNNError("E_ARGUMENT", "hx", "hx and state", "one of the two")
    params, outer, inputs, hx = _undifferentiable((dict(params), outer, inputs, hx))
    floats = hx if hx is None or isinstance(hx, tuple) else (hx,)
    arrays = floats, state, mask, gains, resets
    checked = _checked(params, outer, inputs, targets, settings, embed, *arrays)
    params, outer, data, start = vary_together((params, outer, *checked))
    steps, rows = data.mask.shape

    def embedded(own: tuple[Tree, Tree]) -> jax.Array:
        return embed(outer, own[0])

    def chunk(
        extra: tuple[jax.Array, Tree], own: tuple[Tree, Tree], undo: Undo, carry_back: CarryBack
    ) -> tuple[tuple[jax.Array, Tree], None]:
        x, pull = jax.vjp(lambda outer: embed(outer, own[0]), outer)
        outputs = undo(x)
        weight = len(outputs) / steps if reduction == "mean" else 1.0

        def loss_of(outer: Tree, outputs: jax.Array) -> jax.Array:
            loss = readout(outer, outputs, own[1])
            if jnp.shape(loss) != ():
                given = f"shape {list(jnp.shape(loss))}"
                raise RevRNNError("E_SHAPE", "readout", given, "a scalar")
            return loss * weight

        loss, (added, grad_outputs) = jax.value_and_grad(loss_of, (0, 1))(outer, outputs)
        (from_input,) = pull(carry_back(grad_outputs))
        total, sums = extra
        sums = jax.tree.map(lambda a, b, c: a + b + c, sums, added, from_input)
        return (total + loss.astype(jnp.float32), sums), None

    exact, fault = _prepare(config, params, floats or ())
    bptt = Bptt(settings, exact, steps, rows)
    kept, _ = bptt.forward(start, fault, data, embedded)
    extra = jnp.float32(0), jax.tree.map(jnp.zeros_like, outer)
    back, _ = bptt.backward(kept, start, data, embedded, chunk, extra)
    loss, sums = _marked((back.extra[0], (back.grads, back.extra[1])), back.status)
    grad_hx: Floats = None
    if hx is not None:
        found_hx = tuple(_marked(g, back.status) for g in back.grad_state if g is not None)
        grad_hx = found_hx if isinstance(hx, tuple) else found_hx[0]
    end = carried(kept.end.state, state, config)
    found = Streamed(loss, sums, end, kept.end.wraps, back.status, grad_hx)
    if is_concrete(found.status):
        check(found.status)
    return found


def encode(
    params: Params,
    outer: Tree,
    inputs: Tree,
    config: Config,
    *,
    embed: Embed | None = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    chunk_size: int = CHUNK_SIZE,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
) -> Encoded:
    """Return slices of the states, for attention; of the rest nothing is kept (SEQ-007).

    It is differentiable once, in reverse mode, with respect to ``params`` and ``outer``. A
    ``context`` that is wanted before the last layer's state is all that exists of size steps ×
    batch. For the arguments see :func:`value_and_grad`; ``config.slice_size`` is D.

    Raises:
        RevRNNError: as :func:`value_and_grad`; ``E_ARGUMENT`` without slices.
    """
    settings = _settings(config, chunk_size, checkpoint_every, capacity, None, None)
    if not config.slice_size:
        raise RevRNNError("E_ARGUMENT", "config.slice_size", 0, "at least 1")
    embed = _as_given if embed is None else embed
    inputs = _undifferentiable(inputs)
    _, start = _checked(
        params, outer, inputs, None, settings, embed, None, state, mask, gains, None
    )
    given = (dict(params), outer, (inputs, mask, gains, start))
    found: Encoded = _encode((settings, embed), *vary_together(given))
    if is_concrete(found.status):
        check(found.status)
    return found._replace(state=carried(found.state, state, config))


_Static = tuple[Settings, Embed]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _encode(static: _Static, params: Params, outer: Tree, given: Tree) -> Encoded:
    return _encode_forward(static, params, outer, given, keep=False)[0]


def _encode_forward(
    static: _Static, params: Params, outer: Tree, given: Tree, keep: bool = True
) -> tuple[Encoded, Any]:
    settings, _ = static
    bptt, data, fault, embedded = _encoder(static, params, outer, given)

    def deliver(_: Any, __: jax.Array, slices: jax.Array) -> jax.Array:
        return slices[1:]

    kept, slices = bptt.forward(given[3], fault, data, embedded, deliver, keep)
    end = kept.end
    bits = settings.config.formats.state_bits
    floats = [v if v is None else dequantise(v, bits) for v in (slices, end.state.h, end.state.c)]
    context, h_n, c_n = _marked(floats, end.status)
    found = Encoded(context, h_n, c_n, end.state, end.wraps, end.status)
    return found, (params, outer, given, kept)


def _encode_backward(
    static: _Static, residuals: tuple[Params, Tree, Tree, Remembered], gradient: Encoded
) -> tuple[Params, Tree, None]:
    params, outer, given, kept = residuals
    params, outer, gradient = _undifferentiable((params, outer, gradient))
    settings, embed = static
    bptt, data, _, embedded = _encoder(static, params, outer, given)
    more = settings.config.hidden_size - settings.config.slice_size

    def chunk(
        sums: Tree, own: tuple[Tree, jax.Array], undo: Undo, carry_back: CarryBack
    ) -> tuple[Tree, None]:
        x, pull = jax.vjp(lambda outer: embed(outer, own[0]), outer)
        undo(x)
        (added,) = pull(carry_back(jnp.pad(own[1], ((0, 0), (0, 0), (0, more)))))
        return jax.tree.map(jnp.add, sums, added), None

    data = data._replace(own=(data.own[0], gradient.context))
    zeros = jax.tree.map(jnp.zeros_like, outer)
    grad_state = gradient.h_n, gradient.c_n
    back, _ = bptt.backward(kept, given[3], data, embedded, chunk, zeros, grad_state)
    if is_concrete(back.status):
        check(back.status)
    grads, sums = _marked((back.grads, back.extra), back.status)
    return grads, sums, None


_encode.defvjp(_encode_forward, _encode_backward)


def _encoder(static: _Static, params: Params, outer: Tree, given: Tree) -> Any:
    settings, embed = static
    inputs, mask, gains, start = given
    steps, rows = jax.tree.leaves(inputs)[0].shape[0], start.h.shape[1]
    mask = jnp.ones((steps, rows), jnp.bool_) if mask is None else mask
    exact, fault = _prepare(settings.config, dict(params))

    def embedded(own: tuple[Tree, Any]) -> jax.Array:
        return embed(outer, own[0])

    data = Data((inputs, None), mask, gains, None)
    return Bptt(settings, exact, steps, rows), data, fault, embedded


def _settings(config: Config, *more: Any) -> Settings:
    check_config(config)
    return settings_of(config, *more)


def _as_given(outer: Tree, inputs: Tree) -> jax.Array:
    x: jax.Array = inputs
    return x


def _checked(
    params: Params,
    outer: Tree,
    inputs: Tree,
    targets: Tree,
    settings: Settings,
    embed: Embed,
    hx: tuple[jax.Array, ...] | None,
    state: State | None,
    mask: jax.Array | None,
    gains: jax.Array | None,
    resets: jax.Array | None,
) -> tuple[Data, State]:
    """Check all arrays; return what has an axis of steps, and the state to start from."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves((inputs, targets))}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        given = f"steps {sorted(lengths)}"
        raise RevRNNError("E_SHAPE", "inputs", given, "inputs and targets of equal length T ≥ 1")
    ((steps,),) = lengths
    cut = jax.tree.map(lambda a: a[: min(settings.chunk, steps)], inputs)
    x = jax.eval_shape(embed, outer, cut)
    whole_x = jax.ShapeDtypeStruct((steps, *x.shape[1:]), x.dtype)
    check_arrays(params, whole_x, settings.config, hx, state, mask, gains, resets)
    rows = x.shape[1]
    mask = jnp.ones((steps, rows), jnp.bool_) if mask is None else mask
    start = _start(settings.config, rows, hx, state)
    return Data((inputs, targets), mask, gains, resets), start


def _marked(tree: Tree, status: jax.Array) -> Tree:
    """Return floats as they are, or NaN after a fault (ERR-003)."""
    return jax.tree.map(lambda v: mark(v, status).astype(v.dtype), tree)


@jax.custom_vjp
def _undifferentiable(tree: Tree) -> Tree:
    """Return what is given; its derivative is refused, where it would else be wrong (GRAD-022)."""
    return tree


def _refuse(*_: object) -> Any:
    raise RevRNNError("E_UNSUPPORTED", "streaming", "a derivative", "the gradients it gives")


_undifferentiable.defvjp(_refuse, _refuse)


@with_x64
@partial(jax.jit, static_argnums=(0, 1))
def _start(
    config: Config, rows: int, hx: tuple[jax.Array, ...] | None, state: State | None
) -> State:
    return start_of(config, rows, hx, state)


@with_x64
@partial(jax.jit, static_argnums=0)
def _prepare(
    config: Config, params: dict[str, jax.Array], hx: tuple[jax.Array, ...] = ()
) -> tuple[dict[str, jax.Array], Any]:
    """Return parameters in fixed point, and what is wrong with them or with ``hx`` (QNT-004)."""
    faults = jnp.stack([nonfinite(v) for v in (*params.values(), *hx)])
    return quantise_parameters(params, config), flag(faults.any(), NONFINITE)
