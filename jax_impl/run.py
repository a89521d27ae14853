"""One sequence by chunks, with functions of the caller's before and after the stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .asked import Asked
from .averages import Average
from .bptt import Bptt
from .call import fault_of, start_of
from .checks import check_arrays, check_function, check_initial, in_binary32
from .closures import Hoisted, hoist, is_float
from .devices import check_memory
from .embedded import check_embedded
from .in_place import compiled_readout, is_large, with_parts
from .keys import Keys, with_keys
from .losses import Reader, average_of_scalar, reader_of
from .meshes import explicit_mesh
from .parameters import quantise_parameters
from .part_gradients import check_gradients, has_own_gradient
from .passing import Data
from .ratios import as_pair
from .readout import LinearCrossEntropy
from .scans import axes_of, vary_together
from .settings import Settings
from .state import State
from .status import TARGETS, first, flag, mark
from .x64 import with_x64

Tree = Any
# From the outer parameters and a cut of the inputs to float32 [C, B, I].
Embed = Callable[[Tree, Tree], jax.Array]
# From the outer parameters, outputs [C, B, H] and a cut of the targets to a scalar, or to
# (sum, count), two scalars.
Readout = Callable[[Tree, jax.Array, Tree], Any]
# What embed and readout close over.
Values = tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]


class Free(NamedTuple):
    """What a loss may be differentiated by, that has no gradient of its own in the result.

    Attributes:
        values: traced values that ``embed`` and ``readout`` close over.
        inputs: a pytree of arrays ``[T, …]``.
        targets: the same.
    """

    values: Values
    inputs: Tree
    targets: Tree


class Given(NamedTuple):
    """The other arrays of a call."""

    params: dict[str, jax.Array]
    outer: Tree
    hx: tuple[jax.Array, ...] | None
    start: State
    mask: jax.Array
    gains: jax.Array | None
    resets: jax.Array | None
    fault: jax.Array

    def data(self, own: Tree) -> Data:
        """Return what has an axis of steps."""
        return Data(own, self.mask, self.gains, self.resets)


@dataclass(frozen=True, eq=False)
class Run:
    """What is static of a call: settings, and the caller's functions."""

    settings: Settings
    embed: Hoisted
    reader: Reader | None

    def bptt(self, given: Given) -> Bptt:
        """Return the pass over the sequence."""
        exact = _exact(self.settings.config, given.params)
        return Bptt(self.settings, exact, *given.mask.shape)


def prepare(
    settings: Settings,
    asked: Asked,
    embed: Embed | None,
    readout: Readout | None,
    *,
    mean: bool = False,
    to_train: bool = True,
) -> tuple[Run, Free, Given]:
    """Check what a caller gave, and trace his functions for each length of cut."""
    config, floats = settings.config, in_binary32(check_initial(asked.hx, asked.state))
    if embed is not None:
        check_function("embed", embed, 2)
    elif jax.tree_util.all_leaves([asked.inputs]):
        check_memory("inputs", asked.inputs)
    steps, outer = _length(asked.inputs, asked.targets), _arrays_of("outer", asked.outer, to_train)
    of_outer, of_inputs, of_targets = map(Keys, (outer, asked.inputs, asked.targets))
    asked = asked._replace(
        params=in_binary32(dict(asked.params)),
        outer=of_outer.numbers(outer),
        inputs=of_inputs.numbers(asked.inputs),
        targets=of_targets.numbers(asked.targets),
        hx=floats,
    )
    params, outer, inputs, targets, floats, state, mask, gains, resets = vary_together(asked)
    lengths = {min(settings.chunk, steps), steps % settings.chunk} - {0}
    embedded = with_keys(partial(_embedded, embed), of_outer, of_inputs)
    made, of_embed = hoist(
        "inputs" if embed is None else "embed",
        embedded,
        [(outer, _cut(inputs, length)) for length in sorted(lengths)],
    )
    if embed is not None and steps > max(lengths):
        check_embedded(embedded, outer, inputs, max(lengths))
        if has_own_gradient(made):
            check_gradients("embed", embedded, (outer, inputs))
    x = made.shapes(outer, _cut(inputs, max(lengths)))
    name = "inputs" if embed is None else "embed"
    if not hasattr(x, "shape"):
        raise RevRNNError("E_ARGUMENT", name, f"a {type(x).__name__}", "an array [C, B, I]")
    if x.shape[:1] == (max(lengths),):
        x = jax.ShapeDtypeStruct((steps, *x.shape[1:]), x.dtype)
    elif len(x.shape) == 3:
        raise RevRNNError("E_SHAPE", name, f"shape {list(x.shape)}", f"{max(lengths)} steps")
    check_arrays(params, x, config, floats, state, mask, gains, resets, name=name)
    rows = x.shape[1]
    if not rows:
        raise RevRNNError("E_SHAPE", name, f"shape {list(x.shape)}", "[T, B, …], B at least 1")
    mask = jnp.ones((steps, rows), jnp.bool_) if mask is None else mask
    start, fault = _start(config, rows, dict(params), floats, state, gains)
    start, fault, mask, _ = vary_together((start, fault, mask, (outer, inputs, targets)))
    reader: Reader | None = None
    of_readout: tuple[jax.Array, ...] = ()
    if readout is not None:
        check_function("readout", readout, 3)
        examples = [
            (outer, outputs_like(start.h, length), _cut(targets, length))
            for length in sorted(lengths)
        ]
        keyed = with_keys(readout, of_outer, None, of_targets)
        linear = compiled_readout(readout, settings.method)
        if linear is None:
            read, of_readout = hoist("readout", keyed, examples)
        else:
            both = with_parts(keyed, with_keys(linear.parts, of_outer))
            read, of_readout = hoist("readout", both, [*examples, (outer,)])
            linear = linear if is_large(read.shapes(outer)[0]) else None
        average = Average("unknown", doubt=False)
        if type(readout) is not LinearCrossEntropy:  # which is known to give sums over steps
            average = average_of_scalar(read, keyed, examples[-1], steps, mean)
        if not mean:  # scalars of chunks are added, as they are
            average = replace(average, beside=False)
        elif average.kind == "ratio":
            read, of_readout = hoist("readout", as_pair(keyed, average), examples)
        reader = reader_of(read, examples[-1], steps, mean, to_train, average)
        if to_train and steps > max(lengths) and has_own_gradient(read):
            summed = as_pair(keyed, average) if average.kind == "ratio" and mean else keyed
            scaled = mean and not reader.counts and average.kind != "sum"
            check_gradients("readout", summed, examples[-1], mean=scaled)
        reader = replace(reader, linear=linear)
        if isinstance(readout, LinearCrossEntropy):
            wrong = readout.out_of_range(outer, targets)
            fault = first(fault, flag(wrong, TARGETS))
    free = Free((of_embed, of_readout), inputs, targets)
    given = Given(dict(params), outer, floats, start, mask, gains, resets, fault)
    return Run(settings, made, reader), free, given


def marked(tree: Tree, status: jax.Array) -> Tree:
    """Return floats as they are, or NaN after a fault (ERR-003)."""
    return jax.tree.map(lambda v: mark(v, status).astype(v.dtype), tree)


@jax.custom_vjp
def undifferentiable(tree: Tree) -> Tree:
    """Return what is given; its derivative is refused, where it would else be wrong (GRAD-022)."""
    return tree


def refuse(*_: object) -> Any:
    """Raise ``E_UNSUPPORTED``."""
    allowed = "the gradients that value_and_grad gives"
    raise RevRNNError("E_UNSUPPORTED", "streaming", "a derivative", allowed)


undifferentiable.defvjp(refuse, refuse)


def same_axes(free: Free, given: Given, wanted: tuple[bool, ...]) -> None:
    """Raise ``E_UNSUPPORTED`` for a closed-over value whose gradients would have to be summed.

    In ``shard_map`` a value that all devices share gets the sum of their gradients; that is done
    for arguments (:func:`~revrnn.jax_impl.scans.vary_together`), which can be made to vary.
    """
    axes = axes_of(given.start.h)
    chosen = [leaf for leaf, yes in zip(jax.tree.leaves(free), wanted, strict=True) if yes]
    if explicit_mesh(chosen) is not None and explicit_mesh(given.start.h) is None:
        given_by = "a variable closed over that lies on explicit axes of a mesh"
        raise RevRNNError("E_UNSUPPORTED", "embed or readout", given_by, "such variables in outer")
    for leaf, yes in zip(jax.tree.leaves(free), wanted, strict=True):
        if yes and axes_of(leaf) != axes:
            raise RevRNNError(
                "E_UNSUPPORTED",
                "embed or readout",
                "a variable closed over that all devices share",
                "in shard_map such variables in outer, or made to vary by jax.lax.pcast",
            )


def _embedded(embed: Embed | None, outer: Tree, inputs: Tree) -> jax.Array:
    x: jax.Array = in_binary32(inputs if embed is None else embed(outer, inputs))
    return x


def _arrays_of(name: str, tree: Tree, to_train: bool) -> Tree:
    """Return a tree of arrays; raise ``E_DTYPE`` if one of them has no gradient."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = name + jax.tree_util.keystr(path)
        try:
            differentiable = is_float(leaf)
        except TypeError:
            raise RevRNNError("E_DTYPE", where, type(leaf).__name__, "an array") from None
        if to_train:  # their gradients are added up
            check_memory(where, leaf)
        if to_train and not differentiable:
            given = f"elements of {jnp.result_type(leaf)}"
            allowed = "floats; what has no gradient belongs to the inputs or into a closure"
            raise RevRNNError("E_DTYPE", where, given, allowed)
    return jax.tree.map(jnp.asarray, tree)


def _length(inputs: Tree, targets: Tree) -> int:
    """Return T; raise ``E_SHAPE`` unless all arrays have it."""
    lengths: dict[int, str] = {}
    for name, tree in (("inputs", inputs), ("targets", targets)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            where, shape = name + jax.tree_util.keystr(path), jnp.shape(leaf)
            if not shape or not shape[0]:
                raise RevRNNError("E_SHAPE", where, f"shape {list(shape)}", "[T, …], T at least 1")
            lengths.setdefault(shape[0], where)
    if len(lengths) > 1:
        (steps, one), (others, other) = list(lengths.items())[:2]
        given = f"{others} steps, and {steps} in {one}"
        raise RevRNNError("E_SHAPE", other, given, "arrays of equal length T")
    if not jax.tree.leaves(inputs):
        raise RevRNNError("E_SHAPE", "inputs", "no arrays", "arrays [T, …], T at least 1")
    return next(iter(lengths))


def _cut(tree: Tree, length: int) -> Tree:
    return jax.tree.map(lambda a: jnp.asarray(a)[:length], tree)


def outputs_like(h: jax.Array, length: int) -> jax.Array:
    """Return zeros like the outputs ``[C, B, H]`` of a chunk, sharded as the state is."""
    return jnp.zeros((length, 1, 1), jnp.float32) * h[-1:].astype(jnp.float32)


@with_x64
@partial(jax.jit, static_argnums=0)
def _exact(config: Config, params: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return quantise_parameters(params, config)


@with_x64
@partial(jax.jit, static_argnums=(0, 1))
def _start(
    config: Config,
    rows: int,
    params: dict[str, jax.Array],
    hx: tuple[jax.Array, ...] | None,
    state: State | None,
    gains: jax.Array | None,
) -> tuple[State, jax.Array]:
    """Return the exact state to start from, and faults."""
    return start_of(config, rows, hx, state), fault_of(params, hx, gains)
