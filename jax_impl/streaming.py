"""Loss and gradients by chunks: nothing of size steps × batch × hidden ever exists.

Inputs are made from the user's data chunk by chunk, forwards and again on the way back; the readout
and its loss run on the way back alone, on recovered outputs. The user's functions are traced with
the user's own setting of 64-bit types; the exact parts between them set it for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from revrnn.config import Config
from revrnn.errors import RevRNNError, one_of

from .autodiff import Params, check_arrays, check_config, initial_state, quantise_parameters
from .buffer import Store, empty_store, heads_of, make_buffer, store_of
from .gradients import sequence_backward
from .product import product_method
from .quantise import dequantise, nonfinite, quantise
from .sequence import Groups, State, sequence_forward, sequence_reverse, status_of
from .status import NONFINITE, REVERSAL, check, first, flag, is_concrete
from .x64 import with_x64

CHUNK_SIZE = 16

Tree = Any
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
    """

    loss: jax.Array
    grads: tuple[Params, Tree]
    state: State
    wraps: jax.Array
    status: jax.Array


class _Static(NamedTuple):
    """The static part of a call."""

    config: Config
    method: str
    chunk: int
    capacity: int | None
    mean: bool


class _Data(NamedTuple):
    """What has an axis of steps; ``None`` where there is nothing."""

    inputs: Tree
    targets: Tree
    mask: jax.Array
    gains: jax.Array | None


class _Carry(NamedTuple):
    """What goes along forwards."""

    state: State
    store: Store | None
    wraps: jax.Array
    status: jax.Array


class _Back(NamedTuple):
    """What goes along on the way back."""

    state: State
    store: Store | None
    grad_state: tuple[jax.Array, jax.Array | None]
    grads: Params
    outer: Tree
    loss: jax.Array
    status: jax.Array


def value_and_grad(
    params: Params,
    outer: Tree,
    inputs: Tree,
    targets: Tree,
    config: Config,
    *,
    readout: Readout,
    embed: Embed | None = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    reduction: str = "mean",
    chunk_size: int = CHUNK_SIZE,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
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
        state: exact state from another call; without it the fresh one.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002).
        gains: int32 ``[T, L-1, B, H]``, what layers above the first multiply their inputs by
            (SEQ-012).
        reduction: ``"mean"``: ``readout`` gives the mean over its steps, and the loss is the mean
            over all; ``"sum"``: losses of chunks are added.
        chunk_size: steps handled together. It bounds the logits that exist at a time.
        checkpoint_every: keep the exact state every so many steps (rounded up to whole chunks) and
            the buffer of one piece at a time.
        capacity: words (for ``wordlist`` planes) set aside, for a piece if there are several;
            without it as many as can ever be needed (BUF-035).

    Raises:
        RevRNNError: while tracing ``E_ARGUMENT``, ``E_DTYPE``, ``E_SHAPE``; outside jit also
            ``E_NONFINITE``, ``E_RANGE``, ``E_OVERFLOW``, ``E_REVERSAL``, which inside jit are told
            by ``status``.
    """
    check_config(config)
    sizes = {"chunk_size": chunk_size, "checkpoint_every": checkpoint_every, "capacity": capacity}
    for name, size in sizes.items():
        whole = isinstance(size, int) and not isinstance(size, bool) and size >= 1
        if size is not None and not whole:
            raise RevRNNError("E_ARGUMENT", name, repr(size), "a whole number, at least 1")
    if reduction not in ("mean", "sum"):
        raise RevRNNError("E_ARGUMENT", "reduction", repr(reduction), one_of(("mean", "sum")))
    if embed is None:
        embed = _as_given
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves((inputs, targets))}
    if len(lengths) != 1 or 0 in lengths:
        given = f"steps {sorted(lengths)}"
        raise RevRNNError("E_SHAPE", "inputs", given, "inputs and targets of equal length T ≥ 1")
    (steps,) = lengths
    cut = jax.tree.map(lambda a: a[: min(chunk_size, steps)], inputs)
    x = jax.eval_shape(embed, outer, cut)
    whole_x = jax.ShapeDtypeStruct((steps, *x.shape[1:]), x.dtype)
    check_arrays(params, whole_x, config, None, state, mask, gains)
    rows = x.shape[1]
    mask = jnp.ones((steps, rows), jnp.bool_) if mask is None else mask
    state = initial_state(config, rows) if state is None else state
    piece = steps if checkpoint_every is None else -(-checkpoint_every // chunk_size) * chunk_size
    static = _Static(config, product_method(), chunk_size, capacity, reduction == "mean")
    run = _Run(static, embed, readout, params, outer, steps, rows)
    found = run.go(_Data(inputs, targets, mask, gains), state, min(piece, steps))
    if is_concrete(found.status):
        check(found.status)
    return found


def _as_given(outer: Tree, inputs: Tree) -> jax.Array:
    x: jax.Array = inputs
    return x


class _Run:
    """One call: the user's functions between exact chunks."""

    def __init__(
        self,
        static: _Static,
        embed: Embed,
        readout: Readout,
        params: Params,
        outer: Tree,
        steps: int,
        rows: int,
    ) -> None:
        self.static, self.embed, self.readout = static, embed, readout
        self.outer, self.steps, self.rows = outer, steps, rows
        self.exact, self.fault = _prepare(static.config, dict(params))

    def go(self, data: _Data, state: State, piece: int) -> Streamed:
        """Go forward over all pieces, and back over them."""
        start = _Carry(state, None, jnp.int32(0), self.fault)
        if piece == self.steps:
            end, slices = self.forward(start._replace(store=self.store(piece)), data)
            back = self.nothing(end)._replace(store=end.store)
            return self.result(self.backward(back, data, slices, state), end)

        def over(carry: _Carry, part: _Data) -> tuple[_Carry, State]:
            return self.forward(carry, part)[0], carry.state

        def back_over(back: _Back, part: tuple[_Data, State]) -> tuple[_Back, None]:
            data, begin = part
            store = self.store(len(data.mask))
            again, slices = self.forward(_Carry(begin, store, jnp.int32(0), back.status), data)
            status = first(again.status, flag(~_same(again.state, back.state), REVERSAL))
            back = back._replace(store=again.store, status=status)
            return self.backward(back, data, slices, begin)._replace(store=None), None

        end, starts = _over(over, start, data, None, piece)
        back, _ = _over(back_over, self.nothing(end), data, starts, piece, back=True)
        return self.result(back, end)

    def store(self, steps: int) -> Store | None:
        """Return an empty store for so many steps."""
        config = self.static.config
        if not config.forgetting:
            return None
        return _empty_store(config, steps, self.rows, self.static.capacity)

    def nothing(self, end: _Carry) -> _Back:
        """Return what stands at the end, before the way back."""
        zero = jnp.zeros(end.state.h.shape, jnp.float32)
        params = {
            name: jnp.zeros(shape, jnp.float32)
            for name, shape in self.static.config.parameter_shapes().items()
        }
        outer = jax.tree.map(jnp.zeros_like, self.outer)
        grad_state = (zero, None if end.state.c is None else zero)
        return _Back(end.state, None, grad_state, params, outer, jnp.float32(0), end.status)

    def forward(self, carry: _Carry, data: _Data) -> tuple[_Carry, Any]:
        """Go forward over a piece, pushing to the store if there is one."""

        def body(carry: _Carry, part: _Data) -> tuple[_Carry, jax.Array]:
            x = self.embed(self.outer, part.inputs)
            found: tuple[_Carry, jax.Array] = _chunk_forward(
                self.static, self.exact, x, part.mask, part.gains, carry
            )
            return found

        return _over(body, carry, data, None, self.static.chunk)

    def backward(self, back: _Back, data: _Data, slices: Any, start: State) -> _Back:
        """Go back over a piece, and see that it ends where it began (SEQ-009)."""

        def body(back: _Back, part: tuple[_Data, jax.Array]) -> tuple[_Back, None]:
            return self.chunk_back(back, *part), None

        back, _ = _over(body, back, data, slices, self.static.chunk, back=True)
        same = _same(back.state, start)
        if back.store is not None:
            same &= back.store.length == 0
            if back.store.flags_length is not None:
                same &= back.store.flags_length == 0
        return back._replace(status=first(back.status, flag(~same, REVERSAL)))

    def chunk_back(self, back: _Back, data: _Data, slices: jax.Array) -> _Back:
        """Go back over one chunk."""
        x, pull = jax.vjp(lambda outer: self.embed(outer, data.inputs), self.outer)
        given = (self.static, self.exact, x, data.mask, data.gains)
        state, store, before, outputs, status = _chunk_back(
            *given, slices, back.state, back.store, back.status
        )
        weight = len(data.mask) / self.steps if self.static.mean else 1.0

        def loss_of(outer: Tree, outputs: jax.Array) -> jax.Array:
            loss = self.readout(outer, outputs, data.targets)
            if jnp.shape(loss) != ():
                given = f"shape {list(jnp.shape(loss))}"
                raise RevRNNError("E_SHAPE", "readout", given, "a scalar")
            return loss * weight

        loss, (outer, grad_outputs) = jax.value_and_grad(loss_of, (0, 1))(self.outer, outputs)
        dx, grads, grad_state = _chunk_gradient(
            *given, before, back.state, grad_outputs, back.grad_state, status
        )
        (from_input,) = pull(dx)
        added = jax.tree.map(lambda a, b, c: a + b + c, back.outer, outer, from_input)
        sums = {name: back.grads[name] + grads[name] for name in back.grads}
        total = back.loss + loss.astype(jnp.float32)
        return _Back(state, store, grad_state, sums, added, total, status)

    def result(self, back: _Back, end: _Carry) -> Streamed:
        """Return what was found; after a fault floats are NaN (ERR-003)."""

        def mark(v: jax.Array) -> jax.Array:
            marked: jax.Array = jnp.where(back.status == 0, v, jnp.nan).astype(v.dtype)
            return marked

        grads = jax.tree.map(mark, (back.grads, back.outer))
        return Streamed(mark(back.loss), grads, end.state, end.wraps, back.status)


def _over(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    data: _Data,
    parts: Any,
    size: int,
    *,
    back: bool = False,
) -> tuple[Any, Any]:
    """Scan over cuts of ``size`` steps, the last maybe shorter.

    Args:
        body: as for ``lax.scan``; it is given a cut of ``data``, and with ``parts`` that too.
        carry: as for ``lax.scan``.
        data: arrays ``[T, …]``.
        parts: what another such scan gave for each cut, or ``None``.
        size: steps of a cut.
        back: whether the last cut comes first.

    Returns:
        The last carry, and what ``body`` gave: for the whole cuts, and for the shorter one.
    """
    number, rest = divmod(len(data.mask), size)
    whole = jax.tree.map(lambda a: a[: number * size].reshape((number, size, *a.shape[1:])), data)
    short = jax.tree.map(lambda a: a[number * size :], data)
    if parts is not None:
        whole, short = (whole, parts[0]), (short, parts[1])
    found_whole = found_short = None
    for cut in ("short", "whole") if back else ("whole", "short"):
        if cut == "whole" and number:
            carry, found_whole = lax.scan(body, carry, whole, reverse=back)
        if cut == "short" and rest:
            carry, found_short = body(carry, short)
    return carry, (found_whole, found_short)


def _same(a: State, b: State) -> jax.Array:
    """Say whether two exact states are equal."""
    same: jax.Array = jnp.bool_(True)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        same &= (one == other).all()
    return same


_empty_store = with_x64(empty_store)


@with_x64
@partial(jax.jit, static_argnums=0)
def _prepare(config: Config, params: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], Any]:
    """Return parameters in fixed point, and what is wrong with them (QNT-004)."""
    faults = jnp.stack([nonfinite(v) for v in params.values()])
    return quantise_parameters(params, config), flag(faults.any(), NONFINITE)


@with_x64
@partial(jax.jit, static_argnums=0)
def _chunk_forward(
    static: _Static,
    exact: dict[str, jax.Array],
    x: jax.Array,
    mask: jax.Array,
    gains: jax.Array | None,
    carry: _Carry,
) -> tuple[_Carry, jax.Array]:
    """Take a chunk of steps; return also its slices ``[C+1, B, D]``."""
    state, store, wraps, status = carry
    buffer = None if state.heads is None else make_buffer(state.heads, store)
    run = sequence_forward(
        static.config, exact, x, mask, Groups.cut(state.h, state.c), buffer, static.method,
        gains=gains, status=status,
    )  # fmt: skip
    heads = None if run.buffer is None else heads_of(run.buffer)
    store = None if run.buffer is None else store_of(run.buffer)
    end = State(*run.groups.arrays(), heads)
    return _Carry(end, store, wraps + run.wraps, run.status), run.slices


@with_x64
@partial(jax.jit, static_argnums=0)
def _chunk_back(
    static: _Static,
    exact: dict[str, jax.Array],
    x: jax.Array,
    mask: jax.Array,
    gains: jax.Array | None,
    slices: jax.Array,
    state: State,
    store: Store | None,
    status: jax.Array,
) -> tuple[State, Store | None, Any, jax.Array, jax.Array]:
    """Undo a chunk; return also the states before each step and the outputs, float32."""
    config = static.config
    buffer = None if state.heads is None else make_buffer(state.heads, store)
    operand = quantise("operand", x, config.formats)
    groups, buffer, trace = sequence_reverse(
        config, exact, operand, mask, Groups.cut(state.h, state.c), buffer, slices, static.method,
        gains=gains, trace=True,
    )  # fmt: skip
    assert trace is not None
    heads = None if buffer is None else heads_of(buffer)
    store = None if buffer is None else store_of(buffer)
    outputs = jnp.concatenate([trace.h[1:, -1], state.h[-1:]])
    found = dequantise(outputs, config.formats.state_bits)
    begin = State(*groups.arrays(), heads)
    return begin, store, (trace.h, trace.c), found, first(status, status_of(buffer))


@with_x64
@partial(jax.jit, static_argnums=0)
def _chunk_gradient(
    static: _Static,
    exact: dict[str, jax.Array],
    x: jax.Array,
    mask: jax.Array,
    gains: jax.Array | None,
    before: tuple[jax.Array, jax.Array | None],
    end: State,
    grad_outputs: jax.Array,
    grad_state: tuple[jax.Array, jax.Array | None],
    status: jax.Array,
) -> tuple[jax.Array, Params, tuple[jax.Array, jax.Array | None]]:
    """Carry gradients back over a chunk whose states are known."""
    groups = Groups.cut(end.h, end.c)
    none = jnp.zeros((len(x) + 1, x.shape[1], 0), jnp.int32)
    grads, _ = sequence_backward(
        static.config, exact, x, mask, groups, None, groups, None, none, before,
        (grad_outputs, *grad_state), static.method, status, gains,
    )  # fmt: skip
    assert grads.x is not None
    return grads.x, grads.params, Groups(grads.h, grads.c).arrays()
