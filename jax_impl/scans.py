"""``lax.scan`` over steps, and over cuts of a sequence, the last maybe shorter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any


def vary_together(tree: Tree) -> Tree:
    """Return arrays as they are; inside ``shard_map`` all made to vary over the same mesh axes.

    JAX does so itself where two arrays meet in an operation, but not for the carry of a scan, and
    not where a function brings its own derivative: the sum over devices of the gradients of what
    did not vary comes from here.
    """
    leaves = jax.tree.leaves(tree)
    return _vary(tree, frozenset().union(*(axes_of(leaf) for leaf in leaves)))


def axes_of(leaf: Any) -> frozenset[str]:
    """Return the mesh axes of ``shard_map`` over which an array varies."""
    kind = jax.typeof(leaf)
    # Its place in JAX's types has changed.
    manual = getattr(kind, "manual_axis_type", None)
    axes: frozenset[str] = getattr(kind, "vma", frozenset()) if manual is None else manual.varying
    return axes


def _vary(tree: Tree, axes: frozenset[str]) -> Tree:
    def one(leaf: Any) -> Any:
        missing = tuple(sorted(axes - axes_of(leaf)))
        if not missing:
            return leaf
        if not hasattr(lax, "pcast"):  # JAX 0.8
            older: Any = lax
            return older.pvary(leaf, missing)
        return lax.pcast(leaf, missing, to="varying")

    return jax.tree.map(one, tree) if axes else tree


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, *, reverse: bool = False
) -> tuple[Any, Any]:
    """Do what ``lax.scan`` does; with no steps under ``disable_jit`` too, where it refuses."""
    carry, xs = vary_together((carry, xs))
    axes = frozenset().union(*(axes_of(leaf) for leaf in jax.tree.leaves(carry)))

    def same_axes(carry: Any, inputs: Any) -> tuple[Any, Any]:
        carry, ys = body(carry, inputs)
        return _vary(carry, axes), ys

    if jax.tree.leaves(xs)[0].shape[0]:
        return lax.scan(same_axes, carry, xs, reverse=reverse)
    shapes = jax.eval_shape(
        lambda c, v: body(c, jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), v)), carry, xs
    )
    return carry, jax.tree.map(lambda s: jnp.zeros((0, *s.shape), s.dtype), shapes[1])


def over_chunks(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    steps: int,
    size: int,
    data: Tree,
    parts: tuple[Any, Any] | None = None,
    *,
    back: bool = False,
) -> tuple[Any, tuple[Any, Any]]:
    """Do what ``lax.scan`` does, over cuts of ``size`` steps.

    Args:
        body: as for ``lax.scan``; it is given a cut of ``data``, and with ``parts`` a pair of that
            and of what another such scan gave for the cut.
        carry: as for ``lax.scan``.
        steps: T.
        size: steps of a cut.
        data: arrays ``[T, …]``.
        parts: what another such scan gave.
        back: whether the last cut comes first.

    Returns:
        The last carry, and what ``body`` gave: for the whole cuts, with a leading axis, and for the
        shorter one; ``None`` where there are none.
    """
    number, rest = divmod(steps, size)
    if rest and not number:
        whole, short = None, data
    elif number and not rest:
        whole, short = _cut(data, number, size), None
    else:
        whole = _cut(jax.tree.map(lambda a: a[: number * size], data), number, size)
        short = jax.tree.map(lambda a: a[number * size :], data)
    if parts is not None:
        whole, short = (whole, parts[0]), (short, parts[1])
    of_whole = of_short = None
    for cut in ("short", "whole") if back else ("whole", "short"):
        if cut == "whole" and number:
            carry, of_whole = scan(body, carry, whole, reverse=back)
        if cut == "short" and rest:
            carry, of_short = body(carry, short)
    return carry, (of_whole, of_short)


def _cut(data: Tree, number: int, size: int) -> Tree:
    return jax.tree.map(lambda a: a.reshape((number, size, *a.shape[1:])), data)


def join(parts: tuple[Any, Any]) -> Tree:
    """Return what :func:`over_chunks` gave, arrays ``[C, …]`` for each cut, as ``[T, …]``."""
    whole, short = parts
    if whole is not None:
        whole = jax.tree.map(lambda a: a.reshape((-1, *a.shape[2:])), whole)
    if whole is None or short is None:
        return short if whole is None else whole
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), whole, short)


def unzip(ys: tuple[Any, Any]) -> tuple[Any, Any, Any]:
    """Return three results of :func:`over_chunks` from one of threes."""
    whole, short = (y or (None, None, None) for y in ys)
    one, two, three = zip(whole, short, strict=True)
    return one, two, three
