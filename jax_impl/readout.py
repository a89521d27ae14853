"""A readout that lets only a block of the logits exist at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from revrnn.errors import RevRNNError, shown
from revrnn.kinds import is_int

from .scans import over_chunks
from .status import is_array_or_number, kind_of

Tree = Any

# Rows whose logits exist at a time.
BLOCK_ROWS = 512


class Judged(NamedTuple):
    """What targets of one shape say.

    Attributes:
        ignored: bool, which count nothing.
        wrong: bool, which are neither a class nor ignored.
        label: their classes, 0 where there is none.
        counts: float32, what each counts unless it is ignored.
    """

    ignored: jax.Array
    wrong: jax.Array
    label: jax.Array
    counts: jax.Array


class LinearCrossEntropy:
    """A linear layer and the cross-entropy of its logits, as one readout.

    It returns ``(sum, count)``, so that with the reduction ``"mean"`` of
    :func:`revrnn.jax_impl.value_and_grad` the loss is the mean over all targets that count, and
    with class weights the weighted mean, as ``torch.nn.CrossEntropyLoss`` has it. The logits, and
    the loss, are float32. A target out of range makes the loss NaN; in
    :func:`~revrnn.jax_impl.value_and_grad` and :func:`~revrnn.jax_impl.value` it is a fault too.
    """

    def __init__(
        self,
        layer: Callable[[Tree], Any],
        *,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        """Read out by a linear layer, which may share its weights with an embedding.

        Args:
            layer: from the outer parameters to the layer's kernel ``[H, V]``, or to
                ``(kernel, bias)`` with a bias ``[V]``.
            weight: float ``[V]``, what a target of each class counts, or ``None``.
            ignore_index: targets that count nothing.
            label_smoothing: share of each target that is spread over all classes, 0 … 1.
        """
        given: object = layer
        if not callable(given):
            given = f"a {type(layer).__name__}"
            raise RevRNNError("E_ARGUMENT", "layer", given, "a function of the outer parameters")
        if not is_int(ignore_index) or not -(2**31) <= ignore_index < 2**31:
            allowed = "a whole number of 32 bits"
            raise RevRNNError("E_ARGUMENT", "ignore_index", shown(ignore_index), allowed)
        numbers = isinstance(label_smoothing, (int, float, np.number))
        if not numbers or isinstance(label_smoothing, bool) or not 0 <= label_smoothing <= 1:
            raise RevRNNError("E_ARGUMENT", "label_smoothing", shown(label_smoothing), "0 … 1")
        leaves = jax.tree.leaves(weight, is_leaf=lambda leaf: leaf is None)
        if weight is not None and not all(map(is_array_or_number, leaves)):
            given = f"a {type(weight).__name__}"
            raise RevRNNError("E_DTYPE", "weight", given, "an array of numbers")
        self.layer, self.weight = layer, weight
        self.ignore_index, self.label_smoothing = int(ignore_index), float(label_smoothing)

    def __call__(
        self, outer: Tree, outputs: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the sum of losses, and what they count.

        Args:
            outer: the outer parameters.
            outputs: float32 ``[C, B, H]``, or with other axes before the last.
            targets: class numbers ``[C, B]``, any whole type; the outputs' axes but the last.

        Raises:
            RevRNNError: ``E_DTYPE``, ``E_SHAPE``.
        """
        kernel, bias = self._checked(outer, targets)
        if not hasattr(outputs, "dtype"):
            raise RevRNNError("E_DTYPE", "outputs", kind_of(outputs), "an array")
        if not outputs.ndim:
            raise RevRNNError("E_SHAPE", "outputs", "shape []", "[C, B, H]")
        *axes, width = outputs.shape
        if kernel.shape[0] != width:
            allowed = f"[{width}, V], as the outputs"
            raise RevRNNError("E_SHAPE", "kernel", f"shape {list(kernel.shape)}", allowed)
        if targets.shape != tuple(axes):
            allowed = f"{axes}, as the outputs"
            raise RevRNNError("E_SHAPE", "targets", f"shape {list(targets.shape)}", allowed)
        targets = jnp.asarray(targets)
        if len(axes) != 2:
            outputs, targets = outputs.reshape(targets.size, 1, width), targets.reshape(-1, 1)
        steps, rows = targets.shape

        def block(sums: Tree, part: Tree) -> tuple[Tree, None]:
            total, count = self._block(kernel, bias, *part)
            return (sums[0] + total, sums[1] + count), None

        size, zero = max(1, BLOCK_ROWS // max(rows, 1)), jnp.float32(0)
        if size >= steps:
            sums: tuple[jax.Array, jax.Array] = block((zero, zero), (outputs, targets))[0]
            return sums
        # The logits of a block are made again on the way back.
        (total, count), _ = over_chunks(
            jax.checkpoint(block), (zero, zero), steps, size, (outputs, targets)
        )
        return total, count

    def out_of_range(self, outer: Tree, targets: jax.Array) -> jax.Array:
        """Say whether a target is neither a class nor ignored, bool."""
        kernel, _ = self._checked(outer, targets)
        return self._wrong(jnp.asarray(targets), kernel.shape[1]).any()

    def parts(self, outer: Tree) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
        """Return the layer's kernel ``[H, V]`` and bias, and the weight of classes, float32."""
        kernel, bias = self._layer(outer)
        return kernel, bias, _float(self.weight)

    def judge(self, targets: jax.Array, classes: int, weight: jax.Array | None) -> Judged:
        """Look at targets of any shape; ``weight`` is that of the classes."""
        ignored, wrong = self._ignored(targets), self._wrong(targets, classes)
        label = jnp.where(ignored | wrong, jnp.zeros_like(targets), targets)
        counts = jnp.ones(label.shape, jnp.float32) if weight is None else weight[label]
        return Judged(ignored, wrong, label, counts)

    def _checked(self, outer: Tree, targets: Any) -> tuple[jax.Array, jax.Array | None]:
        """Return kernel and bias, float32; see that they and the targets' type fit."""
        kernel, bias = self._layer(outer)
        kind = getattr(targets, "dtype", None)
        if kind is None or not jnp.issubdtype(kind, jnp.integer):
            given = type(targets).__name__ if kind is None else f"elements of {kind}"
            raise RevRNNError("E_DTYPE", "targets", given, "class numbers, of a whole type")
        return kernel, bias

    def _layer(self, outer: Tree) -> tuple[jax.Array, jax.Array | None]:
        """Return kernel and bias, float32; see that they fit."""
        made = self.layer(outer)
        pair = made if isinstance(made, (tuple, list)) else (made, None)
        if len(pair) != 2:
            raise RevRNNError("E_ARGUMENT", "layer", f"{len(pair)} results", "kernel, bias")
        kernel, bias = pair
        wanted = [("kernel", kernel, 2), ("bias", bias, 1), ("weight", self.weight, 1)]
        for name, value, axes in wanted:
            if value is None and name != "kernel":
                continue
            if not isinstance(value, (list, tuple)) and not is_array_or_number(value):
                raise RevRNNError("E_DTYPE", name, f"a {type(value).__name__}", "an array")
            if jnp.iscomplexobj(value):
                raise RevRNNError("E_DTYPE", name, "complex numbers", "an array of floats")
            shape = jnp.shape(value)
            if len(shape) != axes or (axes == 1 and shape != jnp.shape(kernel)[1:]):
                allowed = "[H, V]" if axes == 2 else f"{list(jnp.shape(kernel)[1:])}, the classes"
                raise RevRNNError("E_SHAPE", name, f"shape {list(shape)}", allowed)
        return jnp.asarray(kernel, jnp.float32), _float(bias)

    def _ignored(self, targets: jax.Array) -> jax.Array:
        """Say which targets count nothing."""
        least, most = _ends(targets)
        if not least <= self.ignore_index <= most:
            return jnp.zeros_like(targets, jnp.bool_)
        return targets == jnp.asarray(self.ignore_index, targets.dtype)

    def _wrong(self, targets: jax.Array, classes: int) -> jax.Array:
        """Say which targets are neither a class nor ignored."""
        last = jnp.asarray(min(classes - 1, _ends(targets)[1]), targets.dtype)
        wrong: jax.Array = ((targets < 0) | (targets > last)) & ~self._ignored(targets)
        return wrong

    def _block(
        self, kernel: jax.Array, bias: jax.Array | None, outputs: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        classes, smooth = kernel.shape[1], self.label_smoothing
        weight = _float(self.weight)
        ignored, wrong, label, counts = self.judge(targets, classes, weight)
        # What is not finite in an ignored place must not get into the gradient as 0·NaN.
        logits = jnp.where(ignored[..., None], 0, outputs) @ kernel
        if bias is not None:
            logits = logits + bias[None, None]
        norm = jax.nn.logsumexp(logits, axis=-1)
        # As a sum with one term: checkify knows no derivative of take_along_axis (JAX 0.10).
        classes_in_order = lax.broadcasted_iota(jnp.int32, logits.shape, 2)
        own = classes_in_order == label[..., None].astype(jnp.int32)
        picked = jnp.where(own, logits, 0).sum(-1)
        losses = counts * (norm - picked)
        if smooth:
            if weight is None:
                spread = norm - logits.mean(-1)
            else:
                spread = (norm * weight.sum() - logits @ weight) / classes
            losses = (1 - smooth) * losses + smooth * spread
        losses = jnp.where(wrong, np.float32(np.nan), losses)
        zero = jnp.zeros_like(norm)
        return jnp.where(ignored, zero, losses).sum(), jnp.where(ignored, zero, counts).sum()


def _ends(targets: jax.Array) -> tuple[int, int]:
    """Return the least and the greatest number of a whole type, of 4 bits too."""
    ends = jnp.iinfo(targets.dtype)  # type: ignore[no-untyped-call]
    return int(ends.min), int(ends.max)


def _float(value: Any) -> jax.Array | None:
    return None if value is None else jnp.asarray(value, jnp.float32)
