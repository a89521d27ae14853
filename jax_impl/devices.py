"""Where arrays lie: what is computed together lies together, which is said at the door."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from revrnn.errors import RevRNNError

from .status import is_concrete


def check_devices(named: Iterable[tuple[str, Any]]) -> None:
    """Raise ``E_ARGUMENT`` for arrays that are committed to different devices.

    Under ``jit`` it is for JAX to say where what is closed over goes.

    Args:
        named: leaves, with their names.
    """
    places: dict[Any, str] = {}
    for name, leaf in named:
        if isinstance(leaf, jax.Array) and is_concrete(leaf) and leaf.committed:
            places.setdefault(frozenset(leaf.sharding.device_set), name)
    if len(places) < 2 or not is_concrete(jnp.zeros(())):
        return
    (one, first), (other, name) = list(places.items())[:2]
    allowed = f"{_words(one)}, where {first} is, or an array that is committed to no device"
    raise RevRNNError("E_ARGUMENT", name, f"an array on {_words(other)}", allowed)


def check_memory(name: str, leaf: Any) -> None:
    """Raise ``E_ARGUMENT`` for an array in a host's memory, which JAX computes nothing with."""
    space = getattr(jax.typeof(leaf), "memory_space", None)
    if getattr(space, "name", "") == "Host":
        allowed = "one in the device's: jax.device_put(array, jax.memory.Space.Device)"
        raise RevRNNError("E_ARGUMENT", name, "an array in the host's memory", allowed)


def _words(devices: frozenset[Any]) -> str:
    return " and ".join(sorted(str(device) for device in devices))
