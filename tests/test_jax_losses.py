"""The loss of a sequence is that of all its steps at once, in chunks too, gradients included."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from revrnn import Config, RevRNNError
from revrnn.jax_impl import LinearCrossEntropy, apply, check, init, value, value_and_grad

CONFIG = Config("revgru", 3, 4, max_forget_bits=3)
STEPS, ROWS, CLASSES = 21, 2, 5
PARAMS = init(jax.random.key(0), CONFIG)
KEYS = jax.random.split(jax.random.key(1), 4)
OUTER = {
    "embedding": jax.random.normal(KEYS[0], (CLASSES, 3)),
    "kernel": jax.random.normal(KEYS[1], (4, CLASSES)),
    "bias": jnp.arange(5.0) / 5,
}
TOKENS = jax.random.randint(KEYS[2], (STEPS, ROWS), 0, CLASSES)
TARGETS = np.asarray(jax.random.randint(KEYS[3], (STEPS, ROWS), 0, CLASSES))
PADDED = np.where(np.arange(STEPS)[:, None] < [[8, 18]], TARGETS, -100)
WEIGHT = jnp.asarray([0.5, 1.0, 2.0, 0.0, 1.5])
Tree = Any


def embed(outer: Tree, tokens: jax.Array) -> jax.Array:
    rows: jax.Array = outer["embedding"][tokens]
    return rows


def layer(outer: Tree) -> Tree:
    return outer["kernel"], outer["bias"]


def reference(weight: Any, smooth: float, targets: Any, reduction: str) -> Any:
    """Return the loss of all steps at once, by definition."""

    def loss(params: Tree, outer: Tree) -> jax.Array:
        outputs = apply(params, embed(outer, TOKENS), CONFIG).outputs
        logs = jax.nn.log_softmax(outputs @ outer["kernel"] + outer["bias"])
        counts = jnp.ones(CLASSES) if weight is None else weight
        shares = optax.smooth_labels(jax.nn.one_hot(targets, CLASSES), smooth)
        losses = -(shares * counts * logs).sum(-1)
        kept = targets != -100
        total = jnp.where(kept, losses, 0).sum()
        return total if reduction == "sum" else total / jnp.where(kept, counts[targets], 0).sum()

    return loss


def assert_close(one: Tree, other: Tree) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), one, other)


@pytest.mark.parametrize(
    ("weight", "smooth", "targets", "reduction"),
    [
        pytest.param(None, 0.0, PADDED, "mean", marks=pytest.mark.slow),
        (WEIGHT, 0.1, PADDED, "mean"),
        pytest.param(WEIGHT, 0.0, TARGETS, "sum", marks=pytest.mark.slow),
    ],
)
def test_cross_entropy_of_a_sequence(
    weight: Any, smooth: float, targets: Any, reduction: str
) -> None:
    readout = LinearCrossEntropy(layer, weight=weight, label_smoothing=smooth)
    loss, grads = jax.value_and_grad(reference(weight, smooth, targets, reduction), (0, 1))(
        PARAMS, OUTER
    )
    given = PARAMS, OUTER, TOKENS, targets, CONFIG
    options: Any = {"readout": readout, "embed": embed, "reduction": reduction, "chunk_size": 8}
    step = value_and_grad(*given, **options)
    check(step.status)
    assert_close(step.loss, loss)
    assert_close(step.grads, grads)
    measured = value(*given, **options)
    assert_close(measured.loss, loss)
    assert measured.grads is None
    np.testing.assert_array_equal(measured.state.h, step.state.h)


def test_a_readout_says_what_its_chunk_weighs() -> None:
    """A sum and a count, the count with a derivative of its own too."""
    mask = jnp.asarray(PADDED != -100)

    def sums(outer: Tree, outputs: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = outputs @ outer["kernel"][:, 0]
        weights = jnp.where(mask, jax.nn.sigmoid(outputs[..., 0]), 0)
        return (weights * scores).sum(), weights.sum()

    def whole(params: Tree, outer: Tree) -> jax.Array:
        total, count = sums(outer, apply(params, embed(outer, TOKENS), CONFIG).outputs, mask)
        return total / count

    loss, grads = jax.value_and_grad(whole, (0, 1))(PARAMS, OUTER)
    step = value_and_grad(
        PARAMS, OUTER, TOKENS, mask, CONFIG, readout=sums, embed=embed, chunk_size=8
    )
    assert_close((step.loss, step.grads), (loss, grads))


def test_nothing_that_counts_is_nan_as_in_pytorch() -> None:
    nothing = np.full_like(TARGETS, -100)
    measured = value(
        PARAMS, OUTER, TOKENS, nothing, CONFIG, readout=LinearCrossEntropy(layer), embed=embed
    )
    assert np.isnan(measured.loss)
    assert measured.status == 0


def test_a_term_beside_a_ratio_counts_where_nothing_else_does() -> None:
    def penalised(outer: Any, outputs: jax.Array, mask: jax.Array) -> jax.Array:
        ratio = ((outputs @ outer["kernel"]).sum(-1) * mask).sum() / jnp.maximum(mask.sum(), 1)
        made: jax.Array = ratio + (outer["kernel"] ** 2).sum()
        return made

    nothing, wanted = jnp.zeros_like(TOKENS, jnp.bool_), (OUTER["kernel"] ** 2).sum()
    given = PARAMS, OUTER, TOKENS, nothing, CONFIG
    step = value_and_grad(*given, readout=penalised, embed=embed, chunk_size=8)
    np.testing.assert_allclose(step.loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(step.grads[1]["kernel"], 2 * OUTER["kernel"], rtol=1e-6)
    added = value(*given, readout=penalised, embed=embed, chunk_size=8, reduction="sum")
    assert added.loss > 2 * wanted  # in every chunk


OF_NAN: dict[str, Any] = {
    "mean": (value_and_grad, lambda outer, o, t: (o @ outer["kernel"]).mean()),
    "linear": (value_and_grad, LinearCrossEntropy(layer)),
    "pair": (value, lambda outer, o, t: ((o @ outer["kernel"]).sum(), t.size)),
    "count": (value, lambda outer, o, t: (o.sum(), t.size * outer["kernel"].sum())),
    "logarithm": (value, lambda outer, o, t: (jnp.log(-jnp.abs(o) - 1).sum(), t.size)),
}


@pytest.mark.parametrize("kind", OF_NAN)
def test_a_loss_of_nan_is_told(kind: str) -> None:
    """Outside jit by what holds NaN, or by the readout that made it."""
    (function, readout), few = OF_NAN[kind], jnp.zeros((2, 1), int)
    outer = OUTER if kind == "logarithm" else OUTER | {"kernel": OUTER["kernel"] * jnp.nan}
    name = "x, params, hx, embed or readout" if kind == "logarithm" else r"outer\['kernel'\]"

    def run() -> Any:
        options = {"readout": readout, "embed": embed, "chunk_size": 1}
        return function(PARAMS, outer, few, few, CONFIG, **options)

    if function is value:
        with pytest.raises(RevRNNError, match=f"E_NONFINITE. {name}: got NaN"):
            run()
    out = jax.jit(run)()
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves((out.loss, out.grads)))
    with pytest.raises(RevRNNError, match="readout: got NaN"):
        check(out.status)


@pytest.mark.parametrize("wrong", [-1, CLASSES])
def test_a_target_that_is_no_class_is_told(wrong: int) -> None:
    targets = TARGETS.copy()
    targets[3, 1] = wrong
    arguments = (PARAMS, OUTER, TOKENS)
    options: dict[str, Any] = {"readout": LinearCrossEntropy(layer), "embed": embed}
    with pytest.raises(RevRNNError, match="targets"):
        value(*arguments, targets, CONFIG, **options)
    under_jit = jax.jit(lambda t: value(*arguments, t, CONFIG, **options))(targets)
    assert np.isnan(under_jit.loss)
    with pytest.raises(RevRNNError, match="targets"):
        check(under_jit.status)


@pytest.mark.parametrize("steps", [STEPS - 1, STEPS + 1])
def test_targets_of_another_length_are_told(steps: int) -> None:
    targets = np.zeros((steps, ROWS), np.int32)
    with pytest.raises(RevRNNError, match=f"E_SHAPE.*targets.*{steps} steps"):
        value(
            PARAMS, OUTER, TOKENS, targets, CONFIG, readout=LinearCrossEntropy(layer), embed=embed
        )


@pytest.mark.parametrize("result", [jnp.zeros(3), (jnp.float32(0),) * 3, "loss"])
def test_a_readout_of_another_kind_is_told(result: Any) -> None:
    with pytest.raises((RevRNNError, TypeError), match=r"readout|not a valid JAX type"):
        value(PARAMS, OUTER, TOKENS, TARGETS, CONFIG, readout=lambda *_: result, embed=embed)


def test_outputs_of_any_number_of_axes_have_a_loss() -> None:
    """Of one row too, and of none."""
    cross: Any = LinearCrossEntropy(layer)
    outputs = jax.random.normal(KEYS[0], (STEPS, ROWS, 4))
    whole = cross(OUTER, outputs, TARGETS)
    for shape in ((1, STEPS, ROWS), (STEPS * ROWS,)):
        made = cross(OUTER, outputs.reshape(*shape, 4), TARGETS.reshape(shape))
        assert_close(made, whole)
    row = outputs[0, 0]
    assert_close(cross(OUTER, row[None], TARGETS[:1, 0]), cross(OUTER, row, TARGETS[0, 0]))
    assert cross(OUTER, outputs[:, :0], TARGETS[:, :0]) == (0, 0)
    for wrong in (None, [1.0], "text", outputs[..., 0], jnp.float32(1)):
        with pytest.raises(RevRNNError, match=r"^\[E_[A-Z]*\] (outputs|kernel):"):
            cross(OUTER, wrong, TARGETS)
