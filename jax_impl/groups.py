"""The states of a stack cut up by layer and group."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]


class Groups(NamedTuple):
    """The states of all layers cut up by layer and group, each int32 ``[B, G]``."""

    h: tuple[Pair, ...]
    c: tuple[Pair, ...] | None

    @classmethod
    def cut(cls, h: jax.Array, c: jax.Array | None) -> Groups:
        """Cut arrays ``[L, B, H]`` up."""

        def pairs(v: jax.Array) -> tuple[Pair, ...]:
            units = v.shape[2] // 2
            return tuple((v[k, :, :units], v[k, :, units:]) for k in range(v.shape[0]))

        return cls(pairs(h), None if c is None else pairs(c))

    def arrays(self) -> tuple[jax.Array, jax.Array | None]:
        """Return ``h`` and ``c`` as ``[L, B, H]``."""

        def whole(pairs: tuple[Pair, ...]) -> jax.Array:
            return jnp.stack([jnp.concatenate(pair, 1) for pair in pairs])

        return whole(self.h), None if self.c is None else whole(self.c)

    def group(self, layer: int, group: int) -> tuple[jax.Array, jax.Array | None]:
        """Return ``h`` and ``c`` of group 0 or 1 of a layer."""
        return self.h[layer][group], None if self.c is None else self.c[layer][group]

    def replace(self, layer: int, group: int, h: jax.Array, c: jax.Array | None) -> Groups:
        """Return the states with ``h`` and ``c`` of one group replaced."""
        new_c = self.c
        if new_c is not None and c is not None:
            new_c = _replaced(new_c, layer, group, c)
        return Groups(_replaced(self.h, layer, group, h), new_c)


def _replaced(
    pairs: tuple[Pair, ...], layer: int, group: int, value: jax.Array
) -> tuple[Pair, ...]:
    old = pairs[layer]
    pair = (value, old[1]) if group == 0 else (old[0], value)
    return (*pairs[:layer], pair, *pairs[layer + 1 :])
