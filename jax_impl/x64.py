"""64-bit types where they are needed, whatever the global flag says.

JAX has 64-bit types off by default, and the flag belongs to the user. Functions that need them are
wrapped by :func:`with_x64`; what crosses a public boundary has 32 bits or fewer, so that nothing
changes with the flag. 64-bit integers cross it as two halves (:func:`split64`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

P = ParamSpec("P")
R = TypeVar("R")


def with_x64(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` made to run, or to be traced, with 64-bit types on.

    Arrays of fewer axes may meet others in it, also where the user has forbidden that to his own.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return wrapper


def split64(v: jax.Array) -> jax.Array:
    """Return int64 ``[…]`` as uint32 ``[…, 2]``, the low half first."""
    return lax.bitcast_convert_type(v, jnp.uint32)


def join64(halves: jax.Array) -> jax.Array:
    """Return uint32 ``[…, 2]`` as int64 ``[…]``."""
    return lax.bitcast_convert_type(halves, jnp.int64)


def split64_numpy(v: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Do what :func:`split64` does, outside JAX."""
    low, high = v & 0xFFFFFFFF, (v >> 32) & 0xFFFFFFFF
    return np.stack([low, high], -1).astype(np.uint32)


def join64_numpy(halves: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Do what :func:`join64` does, outside JAX."""
    wide = halves.astype(np.uint64)
    return (wide[..., 0] | (wide[..., 1] << np.uint64(32))).view(np.int64)
