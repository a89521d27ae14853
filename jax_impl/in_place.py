"""A linear readout whose losses and gradients are computed at once, and summed in place.

Differentiated by JAX, each chunk makes a gradient of the size of the whole weight, which is added
afterwards, and XLA's products are slower on some processors than compiled calls. Here the layer is
differentiated once a sequence, on the sum over all chunks. Programs for elsewhere
(:mod:`.lowered`) have the same computation in XLA's own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .engines import NATIVE, Method
from .lowered import either
from .readout import BLOCK_ROWS, LinearCrossEntropy
from .scans import join, over_chunks

Tree = Any

# Numbers of a readout's weight from which on compiling its kernels is worth it.
_LARGE: Final = 2**20


class Linear(NamedTuple):
    """A layer's weight with a class beside the next one, ``[V, H]``, and its bias ``[V]``.

    Also their gradients. Without a bias it is of no classes.
    """

    weight: jax.Array
    bias: jax.Array


def compiled_readout(readout: object, method: Method) -> LinearCrossEntropy | None:
    """Return a readout whose chunks may be computed in place, where that is faster.

    Which is used depends on processor, sizes and the engine chosen, not on a measurement: the
    losses of two processes on one machine are the same bits.
    """
    if type(readout) is not LinearCrossEntropy or readout.label_smoothing:
        return None
    if method.engine != NATIVE or not import_module("revrnn.native.tiles").AHEAD:
        return None
    return readout


def is_large(kernel: jax.ShapeDtypeStruct) -> bool:
    """Say whether compiling for a layer is worth it."""
    return int(kernel.size) >= _LARGE


def with_parts(readout: Callable[..., Tree], parts: Callable[[Tree], Tree]) -> Callable[..., Tree]:
    """Return a readout that gives the parts of its layer if it is called without outputs."""

    def called(outer: Tree, *others: Tree) -> Tree:
        return readout(outer, *others) if others else parts(outer)

    return called


class InPlace:
    """A readout's layer made ready for all chunks."""

    def __init__(
        self,
        readout: LinearCrossEntropy,
        parts: Callable[[Tree], Tree],
        shared: Tree,
        by_name: bool,
    ) -> None:
        """Compute the layer.

        Args:
            readout: settings.
            parts: from ``shared`` to the layer's kernel, its bias, and the weight of classes.
            shared: what the layer is made of, and differentiated by.
            by_name: whether programs for elsewhere are an error.
        """
        self._readout, self._elsewhere = readout, None if by_name else _by_xla

        def layer(shared: Tree) -> tuple[Linear, jax.Array | None]:
            kernel, bias, weight = parts(shared)
            bias = jnp.zeros(0, jnp.float32) if bias is None else bias
            return Linear(kernel.T, bias), weight

        self.linear, self._pull, self._weight = jax.vjp(layer, shared, has_aux=True)

    def nothing(self) -> Linear:
        """Return gradients to add to."""
        zero: Linear = jax.tree.map(jnp.zeros_like, self.linear)
        return zero

    def pullback(self, of_linear: Linear) -> Tree:
        """Return gradients with respect to ``shared``."""
        return self._pull(of_linear)[0]

    def sums(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return a chunk's sum of losses, and what they count."""
        none = jax.tree.map(lambda v: v[:0], self.linear)
        sums, _, _ = self._read(outputs, targets, none, False)
        return sums

    def gradients(
        self, outputs: jax.Array, targets: jax.Array, so_far: Linear
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array, Linear]:
        """Return a chunk's sum and count, the gradient of its outputs, and of the layer so far."""
        return self._read(outputs, targets, so_far, True)

    def _read(
        self, outputs: jax.Array, targets: jax.Array, so_far: Linear, train: bool
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array, Linear]:
        x, flat = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
        rows = self._readout.judge(flat, len(self.linear.weight), self._weight)
        counts = jnp.where(rows.ignored, 0, rows.counts)
        factors = jnp.where(rows.wrong, 0, counts) if train else counts[:0]
        # What is not finite in an ignored place must not get into the gradient as 0·NaN.
        ignored = rows.ignored[:, None]
        x = jnp.where(ignored, 0, x)
        data = x, rows.label.astype(jnp.int32), counts, factors
        losses, dx, *added = either(_by_calls, self._elsewhere, *self.linear, *data, *so_far)
        total = jnp.where(rows.ignored, 0, jnp.where(rows.wrong, np.float32(np.nan), losses)).sum()
        dx = jnp.where(ignored, 0, dx).reshape(outputs.shape) if train else dx
        return (total, counts.sum()), dx, Linear(*added)


def _by_calls(*arguments: jax.Array) -> Tree:
    calls: Any = import_module(".native.readout", __package__)
    return calls.losses_and_gradients(*arguments)


def _by_xla(
    _: Tree,
    weight: jax.Array,
    bias: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    counts: jax.Array,
    factors: jax.Array,
    of_weight: jax.Array,
    of_bias: jax.Array,
) -> Tree:
    """Do as :func:`revrnn.jax_impl.native.readout.losses_and_gradients`, in XLA's operations."""
    train = len(factors) > 0

    def block(so_far: Linear, part: Tree) -> tuple[Linear, Tree]:
        x, labels, counts, factors = part
        logits = x @ weight.T
        if bias.size:
            logits = logits + bias[None]
        norm = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        own = jnp.arange(len(weight), dtype=jnp.int32)[None] == labels[:, None]
        losses = counts * (norm[:, 0] - jnp.where(own, logits, 0).sum(-1))
        if not train:
            return so_far, (losses, x[:0])
        of_logits = (jnp.exp(logits - norm) - own) * factors[:, None]
        of_bias = of_logits.sum(0) if bias.size else so_far.bias
        added = Linear(of_logits.T @ x, of_bias)
        return jax.tree.map(jnp.add, so_far, added), (losses, of_logits @ weight)

    data = x, labels, counts, factors if train else counts
    so_far, made = over_chunks(block, Linear(of_weight, of_bias), len(x), BLOCK_ROWS, data)
    losses, dx = join(made)
    return losses, dx, *so_far
