"""JAX's engine of kernels lowered for CUDA on any machine: launches, and their text."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from aot import TARGET, calls_in, exported, has_plugin, launches, run
from compile import ARCHITECTURES, compiled_text
from jax._src.lib import triton as dialect
from jaxlib.mlir import ir

from revrnn import Config, RevRNNError
from revrnn.jax_impl import apply, engine, engine_plan, init, value_and_grad
from revrnn.jax_impl.triton.engine import refusal

cells = pytest.mark.parametrize("cell", ["revgru", "revlstm"])
# Of two layers, by loop over the steps: forward, back, gradient.
IN_A_STEP: dict[str, list[dict[str, int]]] = {
    "revgru": [
        {"gru_gates": 4, "gru_state": 4},
        {"gru_gates": 4, "gru_unstate": 4},
        {"add_outputs": 1, "gru_to_u": 4, "gru_to_view": 4, "to_layer_below": 1},
    ],
    "revlstm": [
        {"lstm_state": 4},
        {"lstm_unhide": 4, "lstm_uncell": 4},
        {"add_outputs": 1, "lstm_back": 4, "to_layer_below": 1},
    ],
}
# Forward and back.
IN_A_CHUNK = {"input_part": 2, "prepare": 2, "compact": 1, "refill": 1}


def config_of(cell: str, layers: int = 2) -> Config:
    return Config(cell, 8, 32, layers, max_forget_bits=3)


@cells
def test_a_chunk_for_a_gpu_is_so_many_launches(cell: str) -> None:
    outside, loops = launches(config_of(cell), 6, 3)
    assert (outside, loops) == (IN_A_CHUNK, IN_A_STEP[cell])
    assert launches(config_of(cell), 60, 3) == (outside, loops)


@cells
def test_exported_for_cuda_it_is_these_kernels_alone(cell: str) -> None:
    text = exported(config_of(cell), 6, 3)
    names = Counter(re.findall(rf'@{re.escape(TARGET)}.*? name = "(\w+)"', text))
    assert names == sum(map(Counter, IN_A_STEP[cell]), Counter(IN_A_CHUNK))
    # What they change is changed in place: nothing is copied.
    for line in text.splitlines():
        if TARGET in line:
            assert len(re.findall("output_operand_alias<", line)) == line.count("output_tuple_ind")
            assert "output_operand_alias<" in line
    # No exact product is left to XLA: those of the gradients of parameters and inputs are floats.
    dots = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert dots
    assert all("xf32>" in line and "f64" not in line for line in dots)
    # The loops over the steps are these; words are pushed by kernels. Since JAX 0.11 a running sum
    # comes with a loop beside the program, for compilers that have none of their own.
    functions = re.split(r"(?m)^  func\.func ", text)
    loops = [part.count("stablehlo.while") for part in functions if "@chlo.scan" not in part[:50]]
    assert sum(loops) == 3
    for name, kernel, _, _ in calls_in(text):
        with ir.Context() as context:
            dialect.dialect.register_dialect(context)
            module = ir.Module.parse(kernel)
            assert module.operation.verify(), name


@pytest.mark.slow
@cells
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_text_compiles_and_spills_next_to_nothing(cell: str, architecture: int) -> None:
    layers = 2 if architecture == 90 else 1
    text = exported(Config(cell, 650, 1150, layers, max_forget_bits=3), 4, 20)
    made = [
        compiled_text(kernel, name, architecture, warps, stages)
        for name, kernel, warps, stages in calls_in(text)
    ]
    assert len(made) > 7
    for kernel in made:
        assert kernel.spills <= 16, kernel  # instructions; the most seen are 2
        products = kernel.name in ("gru_gates", "gru_state", "gru_unstate", "lstm_state")
        assert kernel.bytes_dots > 0 or not products, kernel


needs_plugin = pytest.mark.skipif(not has_plugin(), reason="JAX's plugin for CUDA is not installed")


@pytest.mark.slow
@needs_plugin
@cells
def test_xla_compiles_it_for_a_gpu_that_is_not_there(cell: str) -> None:
    """Besides the kernels a step has one, that counts the steps, and no copies."""
    made = run(cell).splitlines()
    due = [f"custom-call {sum(kinds.values())}, fusion 1" for kinds in IN_A_STEP[cell]]
    assert sorted(made) == sorted(due)


@pytest.mark.slow
@needs_plugin
def test_xla_compiles_the_kernels_text_itself() -> None:
    with pytest.raises(RuntimeError, match=r"parse Triton module.*no_such_operation"):
        run("revgru", "--spoil")


@pytest.mark.parametrize("version", [(0, 10, 2), (0, 11, 2), (0, 12, 0, 1)])
def test_versions_of_jax_that_it_was_compiled_with(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    monkeypatch.setattr(jax, "__version_info__", version)
    assert refusal(config_of("revgru")) is None


@pytest.mark.parametrize("version", [(0, 12, 1), (0, 13, 0), (1, 0, 0)])
def test_newer_versions_of_jax_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    monkeypatch.setattr(jax, "__version_info__", version)
    monkeypatch.setattr(jax, "__version__", ".".join(map(str, version)))
    allowed = rf"JAX {re.escape(jax.__version__)} is newer than 0\.12\.0, the last"
    with engine("triton"), pytest.raises(RevRNNError, match=rf"E_UNSUPPORTED. engine: .*{allowed}"):
        engine_plan(config_of("revgru"))


def test_on_a_cpu_it_refuses_and_says_what_is_allowed() -> None:
    config = config_of("revgru", 1)
    params, x = init(jax.random.key(0), config), jnp.zeros((2, 1, 8))

    def loss(outer: Any, outputs: jax.Array, targets: Any) -> jax.Array:
        return (outputs**2).mean()

    with engine("triton"):
        for call in (
            lambda: engine_plan(config),
            lambda: apply(params, x, config),
            lambda: jax.jit(lambda x: apply(params, x, config).outputs)(x),
            lambda: value_and_grad(params, {}, x, x, config, readout=loss),
        ):
            with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: .*'auto' or 'scan'"):
                call()
    assert engine_plan(config).engine != "triton"
