"""Weights packed for compiled calls: once a sequence, before the loop over chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from revrnn.config import Config

from ...native.compiling import callback
from ...native.packing import float_size, packed_size
from ...native.sums import NORMS
from ...native.weights_handlers import handler
from .calls import call_target, target


class Packed(NamedTuple):
    """A stack's weights; see :class:`revrnn.native.records.Stack`.

    Attributes:
        exact: ``w_x``, ``w_l``, ``w_h``, ``w_u`` (of no layers for RevLSTM), norms, uint32
            ``[L, 6]``, and biases.
        floats: the same weights for gradients, float32, without norms and biases.
    """

    exact: tuple[jax.Array, ...]
    floats: tuple[jax.Array, ...]


def handler_name(gradients: bool) -> str:
    """Return the name that XLA knows a handler of weights by."""
    kind = f"weights_for_{'gradients' if gradients else 'sums'}"
    return target(kind, lambda: callback(handler(gradients)))


def pack(config: Config, params: Mapping[str, jax.Array]) -> Packed:
    """Pack parameters in fixed point, int16 weights and int32 biases."""
    layers, units, hidden = config.num_layers, config.group_size, config.hidden_size
    rows, of_u = config.num_gates * units, layers if config.cell == "revgru" else 0
    seen = 2 * units if of_u else rows
    inputs = [params[f"weight_ih_l{k}"] for k in range(layers)]
    none = jnp.zeros((0, 2 * rows, hidden), jnp.int16)
    above = jnp.stack(inputs[1:]) if layers > 1 else none
    both = jnp.stack([params[f"weight_hh_l{k}"] for k in range(layers)])
    bias = jnp.stack([params[f"bias_l{k}"] for k in range(layers)])
    given, size = [inputs[0], above, both], config.input_size

    results = [
        ((packed_size(2 * rows, size),), jnp.int16),
        ((layers - 1, packed_size(2 * rows, hidden)), jnp.int16),
        ((layers, 2, packed_size(seen, units)), jnp.int16),
        ((of_u, 2, packed_size(units, units)), jnp.int16),
        ((layers, NORMS), jnp.int64),
    ]
    *packed, norms = call_target(handler_name(gradients=False), [*given, bias], results, {})
    # A larger one only says that sums may leave int32, as the largest that is kept does.
    norms = jnp.minimum(norms, 2**32 - 1).astype(jnp.uint32)

    shapes = [
        (2, float_size(size, rows)),
        (layers - 1, 2, float_size(hidden, rows)),
        (layers, 2, float_size(units, seen)),
        (of_u, 2, float_size(units, units)),
    ]
    scale = np.full(1, 2.0**-config.formats.weight_bits, np.float32)
    floats = call_target(
        handler_name(gradients=True), [*given, scale], [(s, jnp.float32) for s in shapes], {}
    )
    return Packed((*packed, norms, bias), tuple(floats))
