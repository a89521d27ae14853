"""What JAX would have a GPU compute, seen on any machine: lowered for CUDA, products in bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.extend.core import jaxprs_in_params

from revrnn import RevRNNError
from revrnn.config import Config
from revrnn.gpu import support
from revrnn.jax_impl import apply, engine, engine_plan, init, initial_state
from revrnn.jax_impl.product import BYTE_BLOCK, bytes_are_exact, product, set_product_method
from revrnn.jax_impl.triton import engine as kernel_engine


@pytest.fixture(autouse=True)
def _as_on_a_gpu() -> Iterator[None]:
    """Choose what ``"auto"`` takes where the device is no CPU."""
    set_product_method("int8")
    yield
    set_product_method("auto")


def dots_of(config: Config) -> Counter[tuple[str, ...]]:
    """Count the products of a training step lowered for CUDA, by the types of both sides."""
    params, x = init(jax.random.key(0), config), jnp.zeros((6, 3, config.input_size))
    state = initial_state(config, 3)

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return (apply(params, x, config, state=state).outputs ** 2).mean()

    lowered = export.export(jax.jit(jax.grad(loss)), platforms=("cuda",))(params, x)
    assert lowered.platforms == ("cuda",)
    lines = [line for line in lowered.mlir_module().splitlines() if "stablehlo.dot_general" in line]
    return Counter(tuple(re.findall(r"x([a-z]+\d+)>", line.rsplit(":", 1)[-1])) for line in lines)


@pytest.mark.rule("PROD-003")
@pytest.mark.parametrize(("cell", "products"), [("revgru", 12), ("revlstm", 8)])
def test_products_for_a_gpu_are_of_bytes(cell: str, products: int) -> None:
    if not bytes_are_exact(jax.default_backend()):
        pytest.skip("byte products are wrong on this machine, so that it would not take them")
    counts = dots_of(Config(cell, 8, 16, 2, max_forget_bits=3))
    floats = counts.pop(("f32", "f32", "f32"))
    # Forward and back; a layer has its input's product and one or two a group.
    assert counts == {("i8", "i8", "i32"): products}
    assert floats > 0


@pytest.mark.rule("PROD-003")
@pytest.mark.parametrize(
    ("platform", "exact", "ways"),
    [
        ("cpu", True, ("float64", "int8", "float64")),
        ("cuda", True, ("int8", "int8", "float64")),
        ("cuda", False, ("float64", "float64", "float64")),
    ],
)
def test_the_way_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, platform: str, exact: bool, ways: tuple[str, ...]
) -> None:
    """By the device, by choice, and never bytes that are not exact; a factor is of its way."""
    ours = import_module("revrnn.jax_impl.product")
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(ours, "bytes_are_exact", lambda where: where == platform and exact)
    weight = np.ones((2, 3), np.int16)
    for name, way in zip(ours.METHODS, ways, strict=True):
        set_product_method(name)
        assert ours.product_is_named() is (name != "auto")
        assert ours.product_method() == way
        with jax.enable_x64(True):
            assert ours.factor(jnp.asarray(weight), way).dtype == way


@pytest.mark.rule("PROD-003")
@pytest.mark.parametrize("length", [None, 7, 64, 1024, BYTE_BLOCK])
def test_bytes_are_trusted_where_products_of_all_lengths_are_exact(
    length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA's are on processors, where they would be taken by name alone."""

    def wrong_in_one(a: jax.Array, w: jax.Array, method: str) -> jax.Array:
        return product(a, w, method) + (a.shape[1] == length)

    monkeypatch.setattr("revrnn.jax_impl.product.product", wrong_in_one)
    assert bytes_are_exact.__wrapped__("tried once more") == (length is None)


def test_float64_products_would_be_seen() -> None:
    set_product_method("float64")
    assert dots_of(Config("revgru", 8, 16, 2, max_forget_bits=3))["f64", "f64", "f64"] == 12


# Each is a kernel of its own on a GPU: XLA puts none of them into a kernel with another of them.
# Whatever else a step does, element by element, can be fused with what stands around it.
ALONE = ("dot_general", "cumsum", "scatter", "sort", "while", "scan", "cond", "reduce_sum")


def kernels_of_steps(config: Config) -> list[dict[str, int]]:
    """Count what is a kernel of its own in one step of every loop over the steps."""
    params, x = init(jax.random.key(0), config), jnp.zeros((6, 3, config.input_size))

    def loss(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return (apply(params, x, config).outputs ** 2).mean()

    loops: list[dict[str, int]] = []

    def walk(jaxpr: Any, inside: Counter[str] | None) -> None:
        for equation in jaxpr.eqns:
            name, within = equation.primitive.name, inside
            if name == "scan" and inside is None:
                within = Counter()
            elif inside is not None and name in ALONE:
                inside[name] += 1
            for inner in jaxprs_in_params(equation.params):
                walk(inner, within)
            if within is not inside:
                loops.append(dict(within or {}))

    walk(jax.make_jaxpr(jax.grad(loss))(params, x).jaxpr, None)
    return loops


def test_a_step_for_a_gpu_is_a_bounded_number_of_kernels() -> None:
    forward, back, *gradient = kernels_of_steps(Config("revgru", 8, 16, 2, max_forget_bits=3))
    # Two layers of two groups: a push scatters words, to places that are sums of what came before.
    assert forward == {"dot_general": 9, "cumsum": 4, "scatter": 4}
    assert back == {"dot_general": 9, "cumsum": 4}
    assert gradient == [{"dot_general": 4}] * 2
    forward, back, *gradient = kernels_of_steps(Config("revlstm", 8, 16, 2, max_forget_bits=3))
    assert forward == {"dot_general": 5, "cumsum": 8, "scatter": 8}
    assert back == {"dot_general": 5, "cumsum": 8}
    assert gradient == [{"dot_general": 2}] * 2


KERNEL = "__gpu$xla.gpu.triton"


@pytest.mark.parametrize(
    ("config", "installed", "reason"),
    [
        (Config("revgru", 2, 4), False, "Triton is not installed"),
        (Config("revgru", 2, 4), True, "the default device is a cpu"),
        (Config("revlstm", 2, 4, buffer="wordlist"), True, "wordlist"),
        (Config("revlstm", 2**16, 4), True, "summands"),
        (Config("revgru", 2, 2**16, 2), True, "summands"),
    ],
)
def test_what_kernels_do_not_take_is_named(
    config: Config, installed: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("another device is there")
    monkeypatch.setattr(support, "find_spec", lambda _: object() if installed else None)
    with engine("triton"), pytest.raises(RevRNNError, match=rf"E_UNSUPPORTED.*{reason}"):
        engine_plan(config)
    assert "triton" not in engine_plan(config).engine


@pytest.mark.parametrize(
    ("capability", "reason"),
    [("7.5", "7.5 is below 8.0"), ("gfx90a", "not one of CUDA's"), ("8.0", None), ("12.0", None)],
)
def test_a_gpu_that_kernels_cannot_have_is_named(
    capability: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(compute_capability=capability)])
    told = kernel_engine._capable.__wrapped__()
    assert told is None if reason is None else reason in (told or "")


def test_with_kernels_a_chunk_for_a_gpu_is_a_handful_of_launches() -> None:
    """Those of a step are in the body of a loop; tests/gpu/test_jax_compiled.py has the rest."""
    pytest.importorskip("triton")
    config = Config("revgru", 8, 16, max_forget_bits=3)
    params, x = init(jax.random.key(0), config), jnp.zeros((60, 3, 8))
    kept = [export.DisabledSafetyCheck.custom_call(KERNEL)]
    with engine("triton"):
        outputs = jax.jit(lambda params, x: apply(params, x, config).outputs)
        text = export.export(outputs, platforms=("cuda",), disabled_checks=kept)(params, x)
        names = re.findall(rf'@{re.escape(KERNEL)}.*? name = "(\w+)"', text.mlir_module())
        assert Counter(names) == {"input_part": 1, "prepare": 1, "gru_gates": 2, "gru_state": 2}
        for call in (lambda: outputs(params, x), lambda: engine_plan(config)):
            if jax.default_backend() == "cpu":
                with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: .*'scan'"):
                    call()
    assert engine_plan(config).engine != "triton"
