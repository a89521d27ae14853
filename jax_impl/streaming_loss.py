"""The loss of a sequence and its gradients, chunk by chunk, as one function with a derivative."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export
from jax.custom_derivatives import SymbolicZero

from .checks import Floats
from .closures import divide, is_float, primals_of, unite, wanted_of
from .in_place import InPlace
from .losses import Reader, Sums, count_varies
from .part_gradients import has_own_gradient
from .passing import Pullback, Recover, Remembered
from .run import Free, Given, Run, marked, outputs_like, refuse, same_axes, undifferentiable
from .state import State, floats_of
from .status import check, first, is_concrete

Tree = Any


class Streamed(NamedTuple):
    """What :func:`value_and_grad` and :func:`value` give.

    Attributes:
        loss: float32; NaN after a fault.
        grads: of ``params`` and of ``outer``; of :func:`value` ``None``.
        state: the exact final state, to be carried to the next call.
        wraps: int32, how often a state left int32 (MUL-006).
        status: int32, 0, or the faults for :func:`revrnn.jax_impl.check`, forwards and back.
        grad_hx: the gradient with respect to ``hx``, as :func:`value_and_grad` was given it.
        h_n: float32 ``[L, B, H]``, the final ``h``.
        c_n: the same for RevLSTM's ``c``, or ``None``.
    """

    loss: jax.Array
    grads: Tree
    state: State
    wraps: jax.Array
    status: jax.Array
    grad_hx: Floats = None
    h_n: Any = None
    c_n: Any = None


export.register_namedtuple_serialization(Streamed, serialized_name="revrnn.Streamed")


def measure(run: Run, free: Free, given: Given) -> Streamed:
    """Return the loss, going forward once."""
    pieces = _Pieces(run, free, given, _none(free))
    kept, (total, count) = pieces.forward(keep=False)
    loss = pieces.reader.loss(total, count)
    if pieces.reader.average.beside:
        beside = pieces.beside(pieces.shared)
        total, loss = total + beside, loss + beside
    status = first(kept.end.status, pieces.reader.fault(total, count))
    return _streamed(run, kept, status, marked(loss, status))


def train(run: Run, free: Free, given: Given) -> Streamed:
    """Return the loss and its gradients."""
    out: Streamed = _train(run, free, given)
    return out


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _train(run: Run, free: Free, given: Given) -> Streamed:
    return _gradients(run, free, given, _none(free))[0]


def _train_forward(run: Run, free: Tree, given: Tree) -> tuple[Streamed, Free]:
    """Return the result, and gradients of what the loss is being differentiated by."""
    wanted = wanted_of(free)
    free, given = undifferentiable(primals_of((free, given)))  # GRAD-022
    same_axes(free, given, wanted)
    out, further = _gradients(run, free, given, wanted)
    if is_concrete(out.status):
        check(out.status)
    return out, further


def _train_backward(run: Run, further: Free, gradient: Streamed) -> tuple[Free, None]:
    """Return gradients with respect to :class:`Free`, from that of the loss."""
    of_loss, *others = gradient
    for leaf in jax.tree.leaves(others, is_leaf=_is_zero):
        if not _is_zero(leaf) and is_float(leaf):
            refuse()
    if _is_zero(of_loss):
        of_loss = jnp.zeros(of_loss.shape, of_loss.dtype)
    of_loss = undifferentiable(of_loss)
    return jax.tree.map(lambda g: (of_loss * g).astype(g.dtype), further), None


_train.defvjp(_train_forward, _train_backward, symbolic_zeros=True)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _none(free: Free) -> tuple[bool, ...]:
    return (False,) * len(jax.tree.leaves(free))


class _Pieces:
    """The caller's functions of cuts, and what their gradients are asked for."""

    def __init__(self, run: Run, free: Free, given: Given, wanted: tuple[bool, ...]) -> None:
        """Divide ``free`` into what is differentiated by, and the rest."""
        assert run.reader is not None
        self.run, self.given = run, given
        self.reader: Reader = run.reader
        self.chosen, self.others = divide(free, wanted)
        # What is the same for all chunks; gradients with respect to it are added up.
        self.shared = given.outer, self.chosen.values
        chosen, others = self.chosen, self.others
        own = (chosen.inputs, chosen.targets), (others.inputs, others.targets)
        self.data, self.bptt = given.data(own), run.bptt(given)

    def embed(self, shared: Tree, chosen: Tree, others: Tree) -> jax.Array:
        """Return inputs ``[C, B, I]`` of a cut of the inputs, in two parts."""
        outer, values = shared
        of_embed, _ = unite(values, self.others.values)
        x: jax.Array = self.run.embed(of_embed, outer, unite(chosen, others))
        return x

    def in_place(self) -> InPlace | None:
        """Return the readout computed in place, if there is one and its gradients are all."""
        reader, (_, of_readout) = self.reader, self.chosen.values
        if reader.linear is None or jax.tree.leaves(of_readout):
            return None

        def parts(shared: Tree) -> Tree:
            _, values = unite(shared[1], self.others.values)
            return reader.readout(values, shared[0])

        by_name = self.run.settings.method.product is None
        return InPlace(reader.linear, parts, self.shared, by_name)

    def read(self, shared: Tree, outputs: jax.Array, chosen: Tree, others: Tree) -> Sums:
        """Return the sum and count of a cut."""
        outer, values = shared
        _, of_readout = unite(values, self.others.values)
        return self.reader(of_readout, outer, outputs, unite(chosen, others))

    def embedded(self, own: Tree) -> jax.Array:
        """Return inputs ``[C, B, I]`` of a cut of the own data."""
        return self.embed(self.shared, own[0][0], own[1][0])

    def forward(self, keep: bool, read: bool = True) -> tuple[Remembered, Any]:
        """Go forward; read out too, and return the sum and the count, if asked to."""
        linear = None if keep or not read else self.in_place()

        def deliver(own: Tree, outputs: jax.Array, _: jax.Array) -> Tree:
            if linear is None:
                sums = self.read(self.shared, outputs, own[0][1], own[1][1])
            else:
                sums = linear.sums(outputs, unite(own[0][1], own[1][1]))
            return jax.tree.map(lambda v: v[None], sums)

        start, fault = self.given.start, self.given.fault
        kept, sums = self.bptt.forward(
            start, fault, self.data, self.embedded, deliver if read else None, keep
        )
        return kept, jax.tree.map(jnp.sum, sums) if read else None

    def beside(self, shared: Tree) -> jax.Array:
        """Return what is added to the loss in the end."""
        outer, values = shared
        _, of_readout = unite(values, self.others.values)
        outputs, chosen, others = self._first()
        return self.reader.beside(of_readout, outer, outputs, unite(chosen, others))

    def count_varies(self) -> bool:
        """Say whether gradients of the sum are made otherwise once its count is known.

        They flow through the count, or a ``jax.custom_vjp`` may make anything of their size.
        """
        if not self.reader.divides:
            return False
        if has_own_gradient(self.run.embed) or has_own_gradient(self.reader.readout):
            return True
        outputs, chosen, others = self._first()

        def read(shared: Tree, outputs: jax.Array, chosen: Tree) -> Sums:
            return self.read(shared, outputs, chosen, others)

        return count_varies(read, self.shared, outputs, chosen)

    def _first(self) -> tuple[jax.Array, Tree, Tree]:
        """Return outputs like those of the first chunk, and its targets in two parts."""
        steps = min(self.run.settings.chunk, self.reader.steps)
        chosen, others = jax.tree.map(lambda v: v[:steps], self.data.own)
        return outputs_like(self.given.start.h, steps), chosen[1], others[1]


def _gradients(
    run: Run, free: Free, given: Given, wanted: tuple[bool, ...]
) -> tuple[Streamed, Free]:
    """Return the result, and the gradients with respect to the leaves of ``free`` ``wanted``."""
    pieces = _Pieces(run, free, given, wanted)
    reader, two_passes = pieces.reader, pieces.count_varies()
    kept, known = pieces.forward(keep=True, read=two_passes)
    # The loss S/N has the differential dS/N − S·dN/N². Where N has no derivative, gradients of S
    # are divided in the end, when N is known; else the readout ran before, for both.
    of_total, of_count = jnp.float32(1), jnp.float32(0)
    if two_passes:
        total, count = known
        of_total, of_count = jax.grad(reader.loss, argnums=(0, 1))(total, count)

    linear = None if two_passes else pieces.in_place()

    def read(outputs: jax.Array, targets: Tree, others: Tree, so_far: Tree) -> Tree:
        """Return a cut's sum and count, gradients of outputs and targets, and those so far."""
        sums, of_linear = so_far
        if linear is not None:  # class numbers have no gradient
            result, grad, of_linear = linear.gradients(outputs, unite(targets, others), of_linear)
            return result, grad, targets, (sums, of_linear)
        result, pull = jax.vjp(
            lambda s, o, t: pieces.read(s, o, t, others), pieces.shared, outputs, targets
        )
        given = [
            jnp.broadcast_to(g, v.shape) + jnp.zeros_like(v)
            for g, v in zip((of_total, of_count), result, strict=True)
        ]
        added, grad, of_targets = pull(tuple(given))
        return result, grad, of_targets, (jax.tree.map(_sum, sums, added), of_linear)

    def chunk(extra: Tree, own: Tree, recover: Recover, pullback: Pullback) -> tuple[Tree, Tree]:
        (inputs, targets), (other_inputs, other_targets) = own
        x, pull = jax.vjp(lambda s, i: pieces.embed(s, i, other_inputs), pieces.shared, inputs)
        total, count, so_far = extra
        made = read(recover(x), targets, other_targets, so_far)
        result, grad_outputs, of_targets, (sums, of_linear) = made
        from_input, of_inputs = pull(pullback(grad_outputs))
        so_far = jax.tree.map(_sum, sums, from_input), of_linear
        return (total + result[0], count + result[1], so_far), (of_inputs, of_targets)

    so_far = jax.tree.map(_zeros, pieces.shared), None if linear is None else linear.nothing()
    back, delivered = pieces.bptt.backward(
        kept,
        given.start,
        pieces.data,
        pieces.embedded,
        chunk,
        (jnp.float32(0), jnp.float32(0), so_far),
    )
    total, count, (sums, of_linear) = back.extra
    if linear is not None:
        sums = jax.tree.map(_sum, sums, linear.pullback(of_linear))
    of_outer, of_values = sums
    grads: Tree = (back.grads, of_outer), back.grad_state, (of_values, *delivered)
    if reader.divides and not two_passes:
        divisor = reader.divisor(count)
        grads = jax.tree.map(lambda g: g / divisor, grads)
    (of_params, of_outer), of_state, (of_values, *of_data) = grads
    loss = reader.loss(total, count)
    if reader.average.beside:
        beside, of_beside = jax.value_and_grad(pieces.beside)(pieces.shared)
        total, loss = total + beside, loss + beside
        of_outer, of_values = jax.tree.map(_sum, (of_outer, of_values), of_beside)
    grads = (of_params, of_outer), of_state, (of_values, *of_data)
    status = first(back.status, reader.fault(total, count))
    loss, grads = marked((loss, grads), status)
    (of_params, of_outer), of_state, further = grads
    of_outer = jax.tree.map(lambda g, v: g.astype(v.dtype), of_outer, given.outer)
    further = jax.tree.map(lambda g, v: g.astype(v.dtype), Free(*further), pieces.chosen)
    grad_hx = None if given.hx is None else tuple(g for g in of_state if g is not None)
    out = _streamed(run, kept, status, loss, (of_params, of_outer), grad_hx)
    return out, further


def _zeros(leaf: jax.Array) -> jax.Array:
    """Return zeros to add gradients to: in float32 where the leaf has fewer bits."""
    narrow = leaf.dtype.itemsize < 4
    return jnp.zeros_like(leaf, jnp.float32 if narrow else leaf.dtype)


def _sum(sums: jax.Array, *more: jax.Array) -> jax.Array:
    """Return gradients added up in the type of the first, as floats of 8 bits are not by JAX."""
    return sum((v.astype(sums.dtype) for v in more), sums)


def _streamed(
    run: Run,
    kept: Remembered,
    status: jax.Array,
    loss: jax.Array,
    grads: Tree = None,
    grad_hx: Any = None,
) -> Streamed:
    config, end = run.settings.config, kept.end
    h_n, c_n = (floats_of(config, v, status) for v in (end.state.h, end.state.c))
    return Streamed(loss, grads, end.state, end.wraps, status, grad_hx, h_n, c_n)
