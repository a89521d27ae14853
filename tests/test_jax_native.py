"""JAX's native engine: the scan's and the oracle's bits by compiled calls, or a reason."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agreement import assert_agree, assert_sequences_agree, both_gradients, equal_bits
from revrnn import Config, RevRNNError
from revrnn.conformance.contents import Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation, load
from revrnn.jax_impl import apply, engine, engine_plan, init, initial_state, set_engine

STACKS: dict[str, dict[str, Any]] = {
    "usual": {"max_forget_bits": 3},
    "layers, slices": {"num_layers": 2, "max_forget_bits": 2, "slice_size": 3},
    "no limit": {"max_forget_bits": None, "z_max": 700},
    "non-forgetting": {"forgetting": False, "num_layers": 2},
}
cells = pytest.mark.parametrize("cell", ["revgru", "revlstm"])


@pytest.mark.rule("GEN-001", "CELL-040", "SEQ-007", "SEQ-012", "GRAD-020", "BUF-031", "BUF-032")
@pytest.mark.parametrize("style", ["usual", pytest.param("saturated", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", STACKS)
@cells
def test_sequences(oracle: Implementation, cell: str, case: str, style: str) -> None:
    """Outputs, states, heads, words and slices forward and back; gradients either way."""
    native = load("jax-native")
    config = Config(cell, 3, 10, **STACKS[case])
    generator = np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(5, 3), generator, style, style)
    trace = case == "layers, slices"
    assert_sequences_agree(oracle, native, arguments, trace)
    assert_agree(oracle, native, "sequence_storage", arguments)
    request = gradient_arguments(arguments, generator)
    assert equal_bits(*both_gradients(native, request))
    assert_agree(oracle, native, "sequence_gradient", request | {"states": "reversed"})


@pytest.mark.rule("EVAL-001", "BUF-037")
def test_other_layouts_are_the_scans(oracle: Implementation) -> None:
    native = load("jax-native")
    assert native.name == "jax-native"
    config = Config("revgru", 3, 4, buffer="wordlist")
    arguments = sequence_arguments(config, Shape(3, 2), np.random.default_rng(0))
    assert_agree(oracle, native, "sequence_forward", arguments)


def case_of(cell: str) -> tuple[Config, dict[str, jax.Array], jax.Array, dict[str, Any]]:
    """Return a stack, parameters, inputs, and masks and resets."""
    config = Config(cell, 5, 12, num_layers=2, max_forget_bits=3)
    x = jax.random.normal(jax.random.key(1), (21, 9, 5))
    mask = jnp.arange(21)[:, None] < jax.random.randint(jax.random.key(2), (9,), 1, 22)
    resets = jax.random.uniform(jax.random.key(3), (21, 9)) < 0.2
    more = {"mask": mask, "resets": resets, "reset_capacity": 64}
    return config, init(jax.random.key(0), config), x, more


@pytest.mark.rule("SEQ-002", "SEQ-013", "GRAD-015", "GRAD-016", "GEN-001")
@cells
def test_apply_agrees_with_the_scan(cell: str) -> None:
    """Masks and resets, several chunks and the rest of one; under ``vmap`` the same bits."""
    config, params, x, more = case_of(cell)

    def loss(params: Any, x: jax.Array) -> Any:
        out = apply(params, x, config, state=initial_state(config, 9), **more)
        return (out.outputs**2).sum(), out

    def once(name: str) -> Any:
        with engine(name):
            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    (wanted, wanted_out), wanted_grads = once("scan")
    (value, out), grads = once("native")
    assert value == wanted
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(wanted_out), strict=True):
        assert (np.asarray(a) == np.asarray(b)).all()
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)
    with engine("native"):
        pair = jax.vmap(lambda x: loss(params, x)[1].outputs)(jnp.stack([x, 2 * x]))
    assert (pair[0] == out.outputs).all()


def test_faults_are_told_as_by_the_scan() -> None:
    """NaN from the step of the fault on: an input that is none, a store that is too small."""
    config = Config("revgru", 2, 8, max_forget_bits=1)
    params, x = init(jax.random.key(0), config), jnp.zeros((60, 3, 2)).at[9, 1, 1].set(np.nan)

    def outputs(x: jax.Array, capacity: int | None) -> Any:
        def both(params: Any) -> Any:
            out = apply(params, x, config, capacity=capacity)
            return out.outputs.sum(), out

        return jax.jit(jax.grad(both, has_aux=True))(params)[1]

    for given, capacity in ((x, None), (jnp.nan_to_num(x), 5)):
        made = []
        for name in ("scan", "native"):
            with engine(name):
                made.append(outputs(given, capacity))
        assert int(made[0].status) == int(made[1].status) != 0
        assert np.array_equal(made[0].outputs, made[1].outputs, equal_nan=True)


def test_what_is_refused_and_how_it_is_chosen() -> None:
    config, other = Config("revgru", 3, 4), Config("revgru", 3, 4, buffer="wordlist")
    assert engine_plan(config).engine == "scan"
    assert "native" in engine_plan(config).refused
    with engine("native"):
        assert engine_plan(config).engine == "native"
        assert "int16" in str(engine_plan(config))
        params = init(jax.random.key(0), other)
        for call in (
            lambda: engine_plan(other),
            lambda: apply(params, jnp.zeros((2, 1, 3)), other),
        ):
            with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. engine: .*wordlist"):
                call()
    for wrong in ("eager", None, 1):
        with pytest.raises(RevRNNError, match=r"E_ARGUMENT. name: "):
            set_engine(wrong)  # type: ignore[arg-type]
    assert engine_plan(config).engine == "scan"


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import jax.numpy as jnp
from revrnn import Config, RevRNNError
from revrnn.jax_impl import engine, engine_plan
config = Config("revgru", 3, 4)
assert engine_plan(config).engine == "scan"
assert "numba" in engine_plan(config).refused["native"]
try:
    with engine("native"):
        engine_plan(config)
except RevRNNError as error:
    assert "E_UNSUPPORTED" in str(error) and "numba" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_without_numba_the_scan_goes_on() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], check=True)
    program = "import sys, revrnn.jax_impl; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
