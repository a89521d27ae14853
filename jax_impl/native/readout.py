"""A readout's products and cross-entropy in compiled calls: :mod:`revrnn.native.readout`."""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from ...native.compiling import callback
from ...native.readout_handler import handle, room, share
from .calls import call_target, target
from .threads import shares_of

# Logits that exist at a time (10 MB): fewer, and the weights are read more often than need be.
_LOGITS: Final = 5 * 2**19


def handler_name() -> str:
    """Return the name that XLA knows the handler by."""

    def compiled() -> Any:
        share()  # which the handler calls
        return callback(handle)

    return target("readout", compiled)


def losses_and_gradients(
    weight: jax.Array,
    bias: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    counts: jax.Array,
    factors: jax.Array,
    of_weight: jax.Array,
    of_bias: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return losses of all rows, the gradient of ``x``, and the sums of the other gradients.

    Args:
        weight: float32 ``[V, H]``.
        bias: float32 ``[V]``, or empty.
        x: float32 ``[N, H]``.
        labels: int32 ``[N]``, class numbers.
        counts: float32 ``[N]``: what each loss counts.
        factors: what each one's gradient is multiplied by; empty if there is to be none.
        of_weight: the weight's gradient so far; of no classes if there is to be none.
        of_bias: the same of the bias.
    """
    (classes, length), rows = weight.shape, len(x)
    trained = rows if len(factors) else 0
    threads = np.full(1, shares_of(rows * weight.size), np.int32)
    arguments = [weight, bias, x, labels, counts, factors, threads, of_weight, of_bias]
    shapes = [(rows,), (trained, length), of_weight.shape, of_bias.shape]
    shapes.append((room(rows, classes, _LOGITS),))
    results = [(shape, jnp.float32) for shape in shapes]
    losses, dx, *into, _ = call_target(handler_name(), arguments, results, {7: 2, 8: 3})
    return losses, dx, into[0], into[1]
