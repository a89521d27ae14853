"""A stack's parameters and numbers as compiled calls want them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from torch import Tensor

from revrnn.config import Config

from ...native.compiling import Array
from ...native.packing import aligned, float_size, pack_float, pack_int16, packed_size
from ...native.records import Stack
from ...native.sums import BIAS, CANDIDATE, INPUT, NORMS, VIEW


def _packed(parts: list[Array]) -> tuple[Array, list[int]]:
    """Pack int16 matrices ``[N, K]`` of one shape; return them and their norms."""
    n, k = parts[0].shape
    out = aligned(len(parts), packed_size(n, k), np.int16)
    return out, [pack_int16(part, to) for part, to in zip(parts, out, strict=True)]


def _floats(parts: list[Array], scale: float) -> Array:
    """Pack int16 matrices ``[K, N]`` of one shape as real numbers."""
    k, n = parts[0].shape
    out = aligned(len(parts), float_size(n, k), np.float32)
    for part, to in zip(parts, out, strict=True):
        pack_float(part, scale, to)
    return out


class Weights:
    """Packed weights; those for gradients are made when they are first asked for.

    Attributes:
        stack: what compiled calls want of the stack.
        w_u: packed weights of RevGRU's candidate, or ``None``.
        multiplications: number of weights that one step of one row is multiplied by.
    """

    def __init__(self, config: Config, params: Mapping[str, Tensor]) -> None:
        """Take int16 weights and int32 biases by name."""
        self.config = config
        layers = range(config.num_layers)
        rows, units = config.num_gates * config.group_size, config.group_size
        gru = config.cell == "revgru"
        arrays = {name: value.numpy() for name, value in params.items()}
        self._inputs = [arrays[f"weight_ih_l{k}"] for k in layers]
        both = [arrays[f"weight_hh_l{k}"] for k in layers]
        groups = [w[j * rows : (j + 1) * rows] for w in both for j in (0, 1)]
        self._views = [w[: 2 * units] for w in groups] if gru else groups
        self._candidates = [w[2 * units :] for w in groups] if gru else []
        norms = np.zeros((config.num_layers, NORMS), np.int64)
        w_x, norms[:1, INPUT] = _packed(self._inputs[:1])
        w_l = np.empty((0, 0), np.int16)
        if config.num_layers > 1:
            w_l, norms[1:, INPUT] = _packed(self._inputs[1:])
        w_h, of_views = _packed(self._views)
        norms[:, VIEW : VIEW + 2] = np.reshape(of_views, (-1, 2))
        self.w_u: Array | None = None
        if gru:
            packed, of_candidates = _packed(self._candidates)
            self.w_u = _by_group(packed)
            norms[:, CANDIDATE : CANDIDATE + 2] = np.reshape(of_candidates, (-1, 2))
        bias = np.stack([arrays[f"bias_l{k}"] for k in layers])
        norms[:, BIAS] = np.abs(bias.astype(np.int64)).max(1)
        self.stack = Stack(w_x[0], w_l, _by_group(w_h), norms, bias)
        self.multiplications = sum(w.size for w in (*self._inputs, *both))

    @cached_property
    def floats(self) -> tuple[Array, Array, Array]:
        """What :func:`revrnn.native.pullback.pull` takes as ``w_l``, ``w_h`` and ``w_u``.

        RevLSTM's ``w_u`` has no layers.
        """
        scale = 2.0**-self.config.formats.weight_bits
        none = np.empty((0, 2, 0), np.float32)
        w_l = none
        if len(self._inputs) > 1:
            w_l = _by_group(_floats([g for w in self._inputs[1:] for g in _halves(w)], scale))
        w_u = _by_group(_floats(self._candidates, scale)) if self._candidates else none
        return w_l, _by_group(_floats(self._views, scale)), w_u

    @cached_property
    def of_input(self) -> Array:
        """Layer 0's input weights for the gradient of the input, ``[2, …]``."""
        scale = 2.0**-self.config.formats.weight_bits
        return _floats(_halves(self._inputs[0]), scale)


def _halves(w: Array) -> list[Array]:
    return [w[: len(w) // 2], w[len(w) // 2 :]]


def _by_group(packed: Array) -> Array:
    return packed.reshape(-1, 2, packed.shape[1])
