"""An encoder by chunks, of whose states only slices are kept, for attention (SEQ-007)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec as P

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.plan import CHUNK_SIZE

from .asked import Asked
from .checks import Params
from .closures import divide, primals_of, unite, wanted_of
from .meshes import Rows, state_specs
from .passing import Pullback, Recover, Remembered
from .run import Embed, Free, Given, Run, marked, prepare, same_axes, undifferentiable
from .settings import settings_of
from .state import State, floats_of
from .status import check, is_concrete

Tree = Any


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


export.register_namedtuple_serialization(Encoded, serialized_name="revrnn.Encoded")


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

    It is differentiable once, in reverse mode, with respect to ``params``, ``outer``, float inputs
    and what ``embed`` closes over. A ``context`` that is wanted before the last layer's state is
    all that exists of size steps × batch. For the arguments see :func:`value_and_grad`;
    ``config.slice_size`` is D.

    Raises:
        RevRNNError: as :func:`value_and_grad`; ``E_ARGUMENT`` without slices.
    """
    settings = settings_of(config, chunk_size, checkpoint_every, capacity, mask=mask)
    if not config.slice_size:
        raise RevRNNError("E_ARGUMENT", "config.slice_size", 0, "at least 1")
    asked = Asked(params, outer, inputs, state=state, mask=mask, gains=gains)

    def encoded(asked: Asked) -> Encoded:
        out: Encoded = _encode(*prepare(settings, asked, embed, None, to_train=False))
        return out

    return asked.answered(config, encoded, partial(_specs, config))


def _specs(config: Config, rows: Rows, _: Asked) -> Any:
    """Return how results are sharded where the batch is sharded over ``rows``."""
    state = state_specs(config, rows)
    return Encoded(state.h, state.h, state.c, state, *[P()] * 2)  # type: ignore[arg-type]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _encode(run: Run, free: Free, given: Given) -> Encoded:
    return _forward(run, free, given, keep=False)[0]


def _forward(run: Run, free: Free, given: Given, keep: bool) -> tuple[Encoded, Remembered]:
    def embedded(own: Tree) -> jax.Array:
        x: jax.Array = run.embed(free.values[0], given.outer, own)
        return x

    def deliver(_: Tree, __: jax.Array, slices: jax.Array) -> jax.Array:
        return slices[1:]

    data, bptt = given.data(free.inputs), run.bptt(given)
    kept, slices = bptt.forward(given.start, given.fault, data, embedded, deliver, keep)
    end = kept.end
    context, h_n, c_n = (
        floats_of(run.settings.config, v, end.status) for v in (slices, end.state.h, end.state.c)
    )
    return Encoded(context, h_n, c_n, end.state, end.wraps, end.status), kept


def _encode_forward(run: Run, free: Tree, given: Tree) -> tuple[Encoded, Any]:
    wanted = wanted_of((given.params, given.outer, free))
    free, given = primals_of((free, given))
    same_axes(free, given, wanted[-len(jax.tree.leaves(free)) :])
    out, kept = _forward(run, free, given, keep=True)
    if is_concrete(out.status):
        check(out.status)
    return out, (free, given, kept, _Wanted(wanted))


def _encode_backward(run: Run, residuals: Any, gradient: Encoded) -> tuple[Free, Given]:
    *tree, wanted = residuals
    of_context, of_h, of_c = (
        None if v is None or isinstance(v, SymbolicZero) else v for v in gradient[:3]
    )
    tree, of_context, of_h, of_c = undifferentiable((tree, of_context, of_h, of_c))  # GRAD-022
    free, given, kept = tree
    (_, outer, chosen), (_, other_outer, others) = divide(
        (given.params, given.outer, free), wanted.leaves
    )
    shared = outer, chosen.values
    config = run.settings.config
    more = config.hidden_size - config.slice_size

    def embed(shared: Tree, chosen: Tree, others_cut: Tree) -> jax.Array:
        outer, values = shared
        of_embed, _ = unite(values, others.values)
        x: jax.Array = run.embed(of_embed, unite(outer, other_outer), unite(chosen, others_cut))
        return x

    def chunk(sums: Tree, own: Tree, recover: Recover, pullback: Pullback) -> tuple[Tree, Tree]:
        inputs, other_inputs, of_slices = own
        x, pull = jax.vjp(lambda s, i: embed(s, i, other_inputs), shared, inputs)
        recover(x)
        wide = None
        if of_slices is not None:
            wide = jnp.pad(of_slices, ((0, 0), (0, 0), (0, more)))
        added, of_inputs = pull(pullback(wide))
        return jax.tree.map(jnp.add, sums, added), of_inputs

    def embedded(own: Tree) -> jax.Array:
        return embed(shared, own[0], own[1])

    data = given.data((chosen.inputs, others.inputs, of_context))
    zeros = jax.tree.map(lambda v: jnp.zeros_like(v, jnp.promote_types(v.dtype, "float32")), shared)
    back, of_inputs = run.bptt(given).backward(
        kept, given.start, data, embedded, chunk, zeros, (of_h, of_c)
    )
    if is_concrete(back.status):
        check(back.status)
    grads, (of_outer, of_values), of_inputs = marked(
        (back.grads, back.extra, of_inputs), back.status
    )
    of_outer, of_values, of_inputs = jax.tree.map(
        lambda g, v: g.astype(v.dtype), (of_outer, of_values, of_inputs), (*shared, chosen.inputs)
    )
    nothing: Any = None
    of_given = Given(grads, of_outer, *[nothing] * (len(Given._fields) - 2))
    return Free(of_values, of_inputs, None), of_given


_encode.defvjp(_encode_forward, _encode_backward, symbolic_zeros=True)


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Wanted:
    """Which leaves the result is differentiated by: static among arrays."""

    leaves: tuple[bool, ...]
