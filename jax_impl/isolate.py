"""Computations that the compiler must not mix with what surrounds them.

XLA fuses elementwise operations into each of their users. On CPUs an ``optimization_barrier`` is
gone before that happens. A call that must not be inlined stays a computation of its own: its
floats are rounded in the same way wherever it is called, and what it gives is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

R = TypeVar("R")


def isolated(function: Callable[..., R]) -> Callable[..., R]:
    """Return ``function`` made a computation of its own wherever it is called.

    Its first argument is static, a configuration; the others and its results are arrays.
    """

    @partial(jax.jit, static_argnums=0)
    @wraps(function)
    def call(static: Any, *arrays: Any) -> R:
        # Calls within the call, of which jax.numpy makes many, are to be inlined.
        with _inlineable("true"):
            return function(static, *arrays)

    @wraps(function)
    def wrapper(static: Any, *arrays: Any) -> R:
        if jax.default_backend() == "cpu":
            with _inlineable("false"):
                inside: R = call(static, *arrays)
            return inside
        barrier: Callable[[Any], Any] = lax.optimization_barrier
        results: R = barrier(call(static, *barrier(arrays)))
        return results

    return wrapper


def _inlineable(answer: str) -> Any:
    """Return a context in which XLA is told whether it may inline calls."""
    return set_xla_metadata(inlineable=answer)
