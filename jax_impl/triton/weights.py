"""Weights padded and cut into bytes for kernels, by XLA: once a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config

from ...gpu.sizes import Sizes, Tiles


class Packed(NamedTuple):
    """A stack's weights, by the names of :class:`revrnn.gpu.pointers.Pointers`.

    Attributes:
        first: the first layer's.
        upper: those of the layers above, which lie one after another; empty if there are none.
        inputs: the first layer's input weights and biases, by the names of ``input_part``.
        floats_in: the first layer's input weights, float32 ``[2, N, Gp, I]``.
    """

    first: dict[str, jax.Array]
    upper: dict[str, jax.Array]
    inputs: dict[str, jax.Array]
    floats_in: jax.Array


def _padded(w: jax.Array, *lengths: int) -> jax.Array:
    """Return an array whose last axes are filled up with zeros to so many elements."""
    first = w.ndim - len(lengths)
    missing = (n - m for n, m in zip(lengths, w.shape[first:], strict=True))
    return jnp.pad(w, [(0, 0)] * first + [(0, n) for n in missing])


def _bytes(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return int16 weights as two byte planes (FMT-003)."""
    wide = w.astype(jnp.int32)
    high = (wide + 128) >> 8
    return high.astype(jnp.int8), (wide - (high << 8)).astype(jnp.int8)


def pack(config: Config, params: Mapping[str, jax.Array]) -> Packed:
    """Pack parameters in fixed point, int16 weights and int32 biases."""
    sizes = Sizes(config, 1, 1, Tiles.for_batch(1))
    units, padded, gates = sizes.units, sizes.padded_units, config.num_gates
    scale = jnp.float32(2.0**-config.formats.weight_bits)

    def by_gate(kind: str, layer: int) -> jax.Array:
        w = params[f"{kind}_l{layer}"]
        return w.reshape(2, gates, units, *w.shape[1:])

    def floats(w: jax.Array) -> jax.Array:
        real: jax.Array = w.astype(jnp.float32) * scale
        return real

    def bias(layer: int) -> jax.Array:
        return _padded(by_gate("bias", layer), padded)

    recurrent = [
        _padded(by_gate("weight_hh", layer), padded, padded) for layer in range(config.num_layers)
    ]
    w_in = by_gate("weight_ih", 0)
    high, low = _bytes(recurrent[0])
    first = {"wh": high, "wl": low, "w": floats(recurrent[0])}
    high, low = _bytes(_padded(w_in, padded, sizes.length))
    inputs = {"wh": high, "wl": low, "bias": bias(0)}
    upper: dict[str, jax.Array] = {}
    if config.num_layers > 1:
        above = range(1, config.num_layers)
        both = [by_gate("weight_ih", layer) for layer in above]
        halves = [
            jnp.concatenate([_padded(half, padded, padded) for half in jnp.split(w, 2, -1)], -1)
            for w in both
        ]
        whole = [jnp.concatenate(pair, -1) for pair in zip(halves, recurrent[1:], strict=True)]
        high, low = _bytes(jnp.stack(whole))
        upper = {
            "wh": high,
            "wl": low,
            "w": floats(jnp.stack(recurrent[1:])),
            "w_in": floats(jnp.stack(halves)),
            "part": jnp.stack([bias(layer) for layer in above]),
        }
    length = config.input_size
    return Packed(first, upper, inputs, floats(_padded(w_in, padded, length)))
