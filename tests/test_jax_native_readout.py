"""JAX's readout by compiled calls gives what XLA's operations give, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    LinearCrossEntropy,
    apply,
    check,
    engine,
    in_place,
    init,
    value,
    value_and_grad,
)
from revrnn.jax_impl.engines import Method
from revrnn.jax_impl.native import readout as compiled
from revrnn.jax_impl.native import threads

tiles = pytest.importorskip("revrnn.native.tiles")
kernels = pytest.importorskip("revrnn.native.readout")
Tree = Any
UNITS, CLASSES, STEPS, ROWS = 26, 83, 6, 35  # rows of a chunk, classes and units fill no panel
CONFIG = Config("revgru", 5, UNITS, max_forget_bits=2)
PARAMS = init(jax.random.key(0), CONFIG)
KEYS = jax.random.split(jax.random.key(1), 4)
OUTER = {
    "kernel": jax.random.normal(KEYS[0], (UNITS, CLASSES)) / 5,
    "bias": jax.random.normal(KEYS[1], (CLASSES,)),
}
X = jax.random.normal(KEYS[2], (STEPS, ROWS, 5))
TARGETS = jax.random.randint(KEYS[3], (STEPS, ROWS), 0, CLASSES)
TARGETS = TARGETS.at[2, :4].set(-100).at[3:].set(-100)  # of the last chunk none counts


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the compiled readout at every size, on every processor, block by block."""
    monkeypatch.setattr(in_place, "_LARGE", 1)
    monkeypatch.setattr(tiles, "AHEAD", True)
    monkeypatch.setattr(compiled, "_LOGITS", 2 * CLASSES * kernels.ROWS)
    jax.clear_caches()
    yield
    jax.clear_caches()


def layer(outer: Tree) -> Tree:
    return outer["kernel"], outer["bias"]


def step(readout: Any, params: Tree, outer: Tree, x: jax.Array, **more: Any) -> Tree:
    """Return a loss, gradients by parameters, status, and the loss without gradients."""
    given = params, outer, x, more.pop("targets", TARGETS), CONFIG
    made = value_and_grad(*given, readout=readout, chunk_size=3, **more)
    alone = value(*given, readout=readout, chunk_size=3, reduction=more.get("reduction", "mean"))
    return made.loss, made.grads, made.status, alone.loss


def is_called(program: str) -> bool:
    return "revrnn_readout_" in program


def both(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Tree], *arguments: Tree
) -> tuple[Tree, Tree]:
    """Return what XLA's operations give, and what compiled calls do."""
    made = []
    for ahead in (False, True):
        monkeypatch.setattr(tiles, "AHEAD", ahead)
        program = jax.jit(lambda *arguments: function(*arguments))
        assert is_called(program.lower(*arguments).as_text()) == ahead
        made.append(program(*arguments))
    return made[0], made[1]


def assert_close(one: Tree, other: Tree) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "settings": (
        {"weight": jnp.linspace(0, 2, CLASSES), "ignore_index": 7},
        {"reduction": "sum", "targets": abs(TARGETS) % CLASSES},
    ),
}


@pytest.mark.parametrize("case", ["plain", pytest.param("settings", marks=pytest.mark.slow)])
def test_equals_xlas_operations(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and all gradients; of one chunk nothing counts."""
    settings, more = CASES[case]
    readout = LinearCrossEntropy(layer, **settings)
    due, made = both(monkeypatch, partial(step, readout, **more), PARAMS, OUTER, X)
    check(made[2])
    np.testing.assert_allclose(made[0], made[3], rtol=1e-6)
    assert_close(made, due)


@pytest.mark.slow
def test_layers_of_any_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights shared with an embedding, in another type, without a bias; closed over; two cuts."""

    def tied(outer: Tree) -> Tree:
        return outer["embedding"].T

    def embed(outer: Tree, x: jax.Array) -> jax.Array:
        rows: jax.Array = x[..., :4] @ outer["embedding"][:4, :5].astype(jnp.float32)
        return rows

    outer = {"embedding": OUTER["kernel"].T.astype(jnp.bfloat16)}
    train = partial(step, LinearCrossEntropy(tied), embed=embed, targets=TARGETS[:4])
    due, made = both(monkeypatch, train, PARAMS, outer, X[:4])
    assert made[1][1]["embedding"].dtype == jnp.bfloat16
    rough = jax.tree.map(lambda v: v.astype(jnp.float32), (due, made))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-4), *rough)

    def closed_over(kernel: jax.Array) -> Tree:
        return step(LinearCrossEntropy(lambda _: kernel), PARAMS, {}, X)

    due, made = both(monkeypatch, closed_over, OUTER["kernel"])
    assert_close(made, due)


def test_any_number_of_threads_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_WORTH", 1)
    made = []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "threads", lambda count=count: count)
        jax.clear_caches()
        with engine("native"):
            made.append(jax.jit(partial(step, LinearCrossEntropy(layer)))(PARAMS, OUTER, X))
    for others in made[1:]:
        jax.tree.map(np.testing.assert_array_equal, made[0], others)


# --- when it is taken ------------------------------------------------------------------------


class Other(LinearCrossEntropy):
    """One that may compute anything."""


def test_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    native, plain = Method("native", None), LinearCrossEntropy(layer)
    assert in_place.compiled_readout(plain, native) is plain
    smooth = LinearCrossEntropy(layer, label_smoothing=0.1)
    for other in (smooth, Other(layer), lambda *given: plain(*given)):
        assert in_place.compiled_readout(other, native) is None
    assert in_place.compiled_readout(plain, Method("scan", "float64")) is None
    monkeypatch.setattr(tiles, "AHEAD", False)
    assert in_place.compiled_readout(plain, native) is None


@pytest.mark.parametrize("fewest", [UNITS * CLASSES, UNITS * CLASSES + 1])
def test_small_layers_are_xlas(fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "_LARGE", fewest)

    def loss(x: jax.Array) -> Tree:
        return value(PARAMS, OUTER, x, TARGETS, CONFIG, readout=LinearCrossEntropy(layer)).loss

    assert is_called(jax.jit(loss).lower(X).as_text()) == (fewest == UNITS * CLASSES)


@pytest.mark.parametrize("reduction", ["sum", pytest.param("mean", marks=pytest.mark.slow)])
def test_weights_of_classes_that_are_differentiated_are_xlas(reduction: str) -> None:
    """What the readout closes over has a gradient, which compiled calls do not give."""

    def loss(weight: jax.Array) -> jax.Array:
        readout = LinearCrossEntropy(layer, weight=weight)
        more: Any = {"readout": readout, "chunk_size": 3, "reduction": reduction}
        total: jax.Array = value_and_grad(PARAMS, OUTER, X, TARGETS, CONFIG, **more).loss
        return total

    def plain(weight: jax.Array) -> jax.Array:
        outputs = apply(PARAMS, X, CONFIG).outputs
        total, count = LinearCrossEntropy(layer, weight=weight)(OUTER, outputs, TARGETS)
        return total / count if reduction == "mean" else total

    weight = jnp.linspace(0, 2, CLASSES)
    program = jax.jit(jax.grad(loss))
    assert not is_called(program.lower(weight).as_text())
    assert_close(program(weight), jax.jit(jax.grad(plain))(weight))


def test_what_is_exported_is_xlas() -> None:
    function = partial(step, LinearCrossEntropy(layer))
    program = jax.jit(lambda *given: function(*given))
    made = program(PARAMS, OUTER, X)
    assert is_called(program.lower(PARAMS, OUTER, X).as_text())
    kept = export.export(program)(PARAMS, OUTER, X)
    assert not is_called(kept.mlir_module())
    assert_close(kept.call(PARAMS, OUTER, X), made)
    with engine("native"), pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: "):
        export.export(jax.jit(lambda *given: function(*given)))(PARAMS, OUTER, X)


def each(f: Callable[..., Tree], x: jax.Array) -> Tree:
    """Return ``f`` of two examples, of which the second counts for nothing."""
    return jax.tree.map(lambda v: v[0], jax.vmap(f)(jnp.stack([x, 2 * x])))


def in_scan(f: Callable[..., Tree], x: jax.Array) -> Tree:
    """Return ``f`` as the body of a scan."""
    return jax.tree.map(lambda v: v[0], lax.scan(lambda n, x: (n + 1, f(x)), 0, x[None])[1])


def on_a_mesh(f: Callable[..., Tree], x: jax.Array) -> Tree:
    """Return ``f`` in ``shard_map``, on a mesh's devices, of which there is one."""
    mesh = Mesh(np.array(jax.devices()[:1]), "rows", axis_types=(AxisType.Auto,))

    def summed(x: jax.Array) -> Tree:
        return jax.tree.map(lambda v: lax.psum(v, "rows"), f(x))

    return jax.shard_map(summed, mesh=mesh, in_specs=P(None, "rows"), out_specs=P())(x)


def sharded(f: Callable[..., Tree], x: jax.Array) -> Tree:
    """Return ``f`` of a batch on explicit axes of a mesh."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(AxisType.Explicit,))
    return f(jax.device_put(x, NamedSharding(mesh, P(None, "rows"))))


def by_inputs(f: Callable[..., Tree], x: jax.Array) -> Tree:
    """Return the gradient of the loss by float inputs."""
    return jax.value_and_grad(lambda x: f(x)[0])(x)


@pytest.mark.parametrize(
    "way",
    [
        each,
        *(
            pytest.param(f, marks=pytest.mark.slow)
            for f in (in_scan, on_a_mesh, sharded, by_inputs)
        ),
    ],
)
def test_transforms(way: Callable[..., Tree], monkeypatch: pytest.MonkeyPatch) -> None:
    def loss_and_gradients(x: jax.Array) -> Tree:
        given = PARAMS, OUTER, x, TARGETS[:3], CONFIG
        made = value_and_grad(*given, readout=LinearCrossEntropy(layer), chunk_size=3)
        return made.loss, made.grads

    due, made = both(monkeypatch, partial(way, loss_and_gradients), X[:3])
    assert_close(made, due)


def test_a_target_that_is_no_class() -> None:
    """NaN and a fault, under ``jit`` and outside any transformation."""
    readout, targets = LinearCrossEntropy(layer), TARGETS[:3].at[1, 1].set(CLASSES)
    given: Any = (PARAMS, OUTER, X[:3])
    loss, _, status, alone = jax.jit(partial(step, readout, targets=targets))(*given)
    assert int(status)
    assert jnp.isnan(loss)
    assert jnp.isnan(alone)
    with pytest.raises(RevRNNError, match="E_RANGE"):
        step(readout, *given, targets=targets)
