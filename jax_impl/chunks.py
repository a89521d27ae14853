"""``lax.scan`` over cuts of a sequence, the last maybe shorter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any


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
    found_whole = found_short = None
    for cut in ("short", "whole") if back else ("whole", "short"):
        if cut == "whole" and number:
            carry, found_whole = lax.scan(body, carry, whole, reverse=back)
        if cut == "short" and rest:
            carry, found_short = body(carry, short)
    return carry, (found_whole, found_short)


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
