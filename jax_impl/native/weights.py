"""Weights packed for compiled calls, by XLA: once a sequence, before the loop over chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from revrnn.config import Config

from ...native.amx import SIDE, TERMS
from ...native.float_parts import BLOCK
from ...native.packing import float_size, packed_size, padded
from ...native.processor import AMX
from ...native.tiles import PANEL


class Packed(NamedTuple):
    """A stack's weights; see :class:`revrnn.native.records.Stack`.

    Attributes:
        exact: ``w_x``, ``w_l``, ``w_h``, ``w_u`` (of no layers for RevLSTM), norms, uint32
            ``[L, 6]``, and biases.
        floats: the same weights for gradients, float32, without norms and biases.
    """

    exact: tuple[jax.Array, ...]
    floats: tuple[jax.Array, ...]


def _panels(w: jax.Array, per: int) -> jax.Array:
    """Return ``[…, N, K]`` as ``[…, panels · K · PANEL]``, ``per`` neighbours of K together."""
    *first, n, k = w.shape
    width, length = padded(n), -(-k // per) * per
    pad = [(0, 0)] * len(first) + [(0, width - n), (0, length - k)]
    cut = jnp.pad(w, pad).reshape(*first, width // PANEL, PANEL, length // per, per)
    return jnp.swapaxes(cut, -3, -2).reshape(*first, width * length)


def _exact(w: jax.Array) -> jax.Array:
    """Return int16 ``[…, N, K]`` packed as :func:`revrnn.native.packing.pack_int16` does."""
    if not AMX:
        return _panels(w, 2)
    *first, n, k = w.shape
    pad = [(0, 0)] * len(first) + [(0, -n % SIDE), (0, -k % TERMS)]
    by_tile = (*first, -(-n // SIDE), SIDE, -(-k // TERMS), TERMS // 4, 4)
    cut = jnp.pad(w, pad).reshape(by_tile)
    # Tiles of columns, tiles of terms, fours of terms, columns, terms.
    cut = jnp.moveaxis(cut, -4, -2)
    both = jnp.stack([cut >> 8, cut & 255], -4).astype(jnp.uint8)
    pairs = lax.bitcast_convert_type(both.reshape(*both.shape[:-1], 2, 2), jnp.int16)
    return pairs.reshape(*first, packed_size(n, k))


def _floats(w: jax.Array) -> jax.Array:
    """Return float32 ``[…, K, N]`` packed as :func:`revrnn.native.packing.pack_float` does."""
    if not AMX:
        return _panels(jnp.swapaxes(w, -1, -2), 1)
    *first, k, n = w.shape
    pad = [(0, 0)] * len(first) + [(0, -k % BLOCK), (0, -n % (2 * SIDE))]
    words = lax.bitcast_convert_type(jnp.pad(w, pad), jnp.uint32)
    upper = words & np.uint32(0xFFFF0000)
    lower = lax.bitcast_convert_type(words, jnp.float32) - _real(upper)
    both = jnp.stack([upper, lax.bitcast_convert_type(lower, jnp.uint32)], -3) >> 16
    tiles = -(-n // (2 * SIDE)) * 2
    cut = both.reshape(*first, 2, -(-k // BLOCK), SIDE, 2, tiles, SIDE)
    # A pair of terms is a word, the first one its lower half.
    pairs = cut[..., 0, :, :] | cut[..., 1, :, :] << 16
    # Tiles of columns, tiles of terms, parts, pairs of terms, columns.
    pairs = jnp.moveaxis(pairs, (-2, -4, -5), (-5, -4, -3))
    return _real(pairs).reshape(*first, float_size(n, k))


def _real(words: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(words, jnp.float32)


def _norm(w: jax.Array) -> jax.Array:
    """Return the largest sum of magnitudes of a column, ``[…]``; the largest uint32 for more."""
    sums = jnp.abs(w.astype(jnp.int64)).sum(-1).max(-1, initial=0)
    return jnp.minimum(sums, 2**32 - 1).astype(jnp.uint32)


def pack(config: Config, params: Mapping[str, jax.Array]) -> Packed:
    """Pack parameters in fixed point, int16 weights and int32 biases."""
    layers, units = range(config.num_layers), config.group_size
    gru, scale = config.cell == "revgru", jnp.float32(2.0**-config.formats.weight_bits)
    inputs = [params[f"weight_ih_l{k}"] for k in layers]
    both = jnp.stack([params[f"weight_hh_l{k}"] for k in layers])
    groups = both.reshape(config.num_layers, 2, config.num_gates * units, units)
    views, candidates = groups, groups[:0]
    if gru:
        views, candidates = groups[:, :, : 2 * units], groups[:, :, 2 * units :]
    none = jnp.zeros((0, *inputs[0].shape[:1], config.hidden_size), jnp.int16)
    above = jnp.stack(inputs[1:]) if config.num_layers > 1 else none
    bias = jnp.stack([params[f"bias_l{k}"] for k in layers])
    of_inputs = jnp.stack([_norm(w) for w in inputs])[:, None]
    of_groups = [_norm(views), _norm(candidates) if gru else jnp.zeros_like(_norm(views))]
    largest = jnp.abs(bias.astype(jnp.int64)).max(1).astype(jnp.uint32)[:, None]
    norms = jnp.concatenate([of_inputs, *of_groups, largest], 1)
    packed = [_exact(w) for w in (inputs[0], above, views, candidates)]

    def floats(w: jax.Array) -> jax.Array:
        return _floats(w.astype(jnp.float32) * scale)

    def by_group(w: jax.Array) -> jax.Array:
        return w.reshape(*w.shape[:-2], 2, w.shape[-2] // 2, w.shape[-1])

    w_x = floats(by_group(inputs[0]))
    exact = (*packed, norms, bias)
    return Packed(exact, (w_x, floats(by_group(above)), floats(views), floats(candidates)))
