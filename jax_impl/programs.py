"""Programs of calls outside ``jit``, compiled once.

JAX remembers what it compiled by the function; the functions that a caller gives to a call outside
``jit`` may be new ones each time, or the same ones that close over other values. So each call is
traced, which takes little time, and what was compiled is remembered by the program that comes out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from .status import is_concrete

Tree = Any
R = TypeVar("R")

# Programs that are kept; the one that was not used for longest goes first.
_MOST: Final = 64
_compiled: OrderedDict[Any, Any] = OrderedDict()


def compiled_once(function: Callable[[Tree], R], given: Tree) -> R:
    """Return ``function(given)``, outside ``jit`` by a program that is compiled once.

    Args:
        function: of a pytree of arrays and numbers.
        given: its argument.
    """
    leaves, disabled = jax.tree.leaves(given), jax.config.jax_disable_jit  # type: ignore[attr-defined]
    # Under jit whatever is computed is traced, even if all that is given is not.
    if disabled or not all(map(is_concrete, (*leaves, jnp.zeros(())))):
        try:
            return function(given)
        except NotImplementedError as error:
            if "shard_map" not in str(error):
                raise
            # Outside jit it cannot call what has a derivative of its own, of some arguments.
            made: R = jax.jit(function)(given)
            return made
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(given)
    if not all(map(is_concrete, closed.consts)):  # of an outer transformation
        return function(given)

    def run(consts: list[Any], leaves: list[Any]) -> list[Any]:
        results: list[Any] = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))(*leaves)
        return results

    arguments = list(closed.consts), leaves
    lowered = jax.jit(run, keep_unused=True).lower(*arguments)
    text = lowered.as_text()
    if "callback" in text:  # The text does not say which function of the host is called.
        return function(given)
    places = tuple(getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(arguments))
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    key = sha256(text.encode()).digest(), len(leaves), places, device
    if key not in _compiled:
        _compiled[key] = lowered.compile()
        while len(_compiled) > _MOST:
            _compiled.popitem(last=False)
    _compiled.move_to_end(key)
    try:
        leaves = _compiled[key](*arguments)
    except Exception:
        if not jax.config.jax_debug_nans and not jax.config.jax_debug_infs:  # type: ignore[attr-defined]
            raise
        located: R = jax.jit(function)(given)  # JAX says where the number was made
        return located
    results: R = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return results
