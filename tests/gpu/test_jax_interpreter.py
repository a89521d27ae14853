"""JAX's engine of kernels in Triton's interpreter: the oracle's bits, and the scan's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from check import arguments_of, config_of
from hypothesis import given, settings
from jax_agreement import assert_engines_agree
from small import JAX, SETUPS, wrong

from agreement import assert_agree
from revrnn import Config, RevRNNError
from revrnn.conformance.contents import Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation
from revrnn.gpu.order import WRITES
from revrnn.jax_impl import apply, engine, engine_plan, init, initial_state, self_check
from revrnn.jax_impl.engines import NATIVE
from revrnn.jax_impl.evaluate import JaxImplementation
from revrnn.jax_impl.triton import interpreter, launch
from strategies import SEEDS

KERNELS = JaxImplementation(engine="triton")
cells = pytest.mark.parametrize("cell", ["revgru", "revlstm"])


@cells
def test_a_sequence_and_its_gradients_are_the_oracles(oracle: Implementation, cell: str) -> None:
    random = np.random.default_rng(5)
    arguments = sequence_arguments(Config(cell, 2, 4, 1, 3), Shape(2, 2), random, heads="edges")
    assert len(oracle.evaluate("sequence_forward", arguments)["words"]) > 2
    request = gradient_arguments(arguments, random) | {"states": "reversed"}
    for operation, asked in (("sequence_forward", arguments), ("sequence_gradient", request)):
        assert_agree(oracle, KERNELS, operation, asked)


@pytest.mark.parametrize("number", [0, 1, 2])
@cells
def test_setups_are_the_oracles(cell: str, number: int) -> None:
    assert not wrong(*SETUPS[cell][number], seed=number, engine=JAX)


@given(seed=SEEDS)
@settings(max_examples=1)
def test_jax_agrees_with_the_oracle(oracle: Implementation, seed: int) -> None:
    agree(oracle, seed)


@given(seed=SEEDS)
@settings(max_examples=12)
def test_more_random_sequences_in_jax(oracle: Implementation, seed: int) -> None:
    agree(oracle, seed)


def agree(oracle: Implementation, seed: int) -> None:
    random = np.random.default_rng(seed)
    arguments = arguments_of(random, config_of(random, 17), 4)
    assert_agree(oracle, KERNELS, "sequence_forward", arguments)


@cells
def test_each_step_in_jax_is_the_oracles(oracle: Implementation, cell: str) -> None:
    random = np.random.default_rng(5)
    arguments = arguments_of(random, Config(cell, 2, 6, 2, 3), 3)
    assert_agree(oracle, KERNELS, "sequence_forward", arguments | {"trace": True})


def case_of(cell: str) -> tuple[Config, dict[str, jax.Array], jax.Array, dict[str, Any]]:
    """Return a stack, parameters, inputs, and masks and resets: two chunks and the rest of one."""
    config = Config(cell, 3, 6, num_layers=2, max_forget_bits=3)
    x = jax.random.normal(jax.random.key(1), (5, 3, 3))
    mask = jnp.arange(5)[:, None] < jnp.array([5, 2, 4])
    resets = jnp.zeros((5, 3), bool).at[jnp.array([0, 2, 3]), jnp.array([1, 0, 2])].set(True)
    more = {"mask": mask, "resets": resets, "reset_capacity": 4, "chunk_size": 2}
    return config, init(jax.random.key(0), config), x, more


@pytest.mark.parametrize("states", ["reversed", "stored"])
@cells
def test_apply_has_the_scans_bits(cell: str, states: str) -> None:
    config, params, x, more = case_of(cell)

    def loss(params: Any, x: jax.Array) -> Any:
        start = initial_state(config, 3)
        out = apply(params, x, config, state=start, states=states, **more)
        return (out.outputs**2).sum(), out

    assert_engines_agree("triton", loss, params, x)


def test_for_each_example_and_operation_by_operation() -> None:
    config, params, x, _ = case_of("revgru")
    x = jnp.stack([x[:2], x[1:3]])

    def outputs(x: jax.Array) -> jax.Array:
        return apply(params, x, config).outputs

    with engine("scan"):
        wanted = jax.vmap(outputs)(x)
    with engine("triton"):
        assert (jax.vmap(outputs)(x) == wanted).all()
        with jax.disable_jit():
            assert (outputs(x[0]) == wanted[0]).all()


@cells
def test_the_check_of_a_gpu_passes_and_sees_what_is_wrong(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert self_check._compare("triton", cell, True) is None
    run = interpreter.run

    def wrong(kernel: Any, *arguments: Any) -> Any:
        made = run(kernel, *arguments)
        if kernel.__name__ == "compact":
            made[0] ^= 1
        return made

    monkeypatch.setattr(interpreter, "run", wrong)
    jax.clear_caches()
    assert "states" in (self_check._compare("triton", cell, True) or "")


def test_a_kernel_that_changes_more_than_it_says_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, params, x, _ = case_of("revgru")
    monkeypatch.setitem(WRITES, "gru_state", ("h",))
    assert launch.WRITES is WRITES
    jax.clear_caches()
    with engine("triton"), pytest.raises(Exception, match="gru_state changes"):
        jax.block_until_ready(apply(params, x, config).outputs)


def test_what_it_does_not_take_it_names() -> None:
    with engine("triton"):
        assert engine_plan(Config("revgru", 2, 4)).engine == "triton"
        for config, reason in (
            (Config("revgru", 2, 4, buffer="wordlist"), "wordlist"),
            (Config("revlstm", 2**16, 4), "summands"),
        ):
            with pytest.raises(RevRNNError, match=rf"E_UNSUPPORTED.*{reason}"):
                engine_plan(config)
    assert engine_plan(Config("revgru", 2, 4)).engine == NATIVE  # of itself it is never taken
