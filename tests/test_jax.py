"""What is particular to JAX: transformations, 64-bit types, capacity, status, errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agreement import assert_agree, equal_bits
from revrnn import Config
from revrnn.conformance.contents import Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation, load
from revrnn.jax_impl import State, apply, check, init, initial_state, set_product_method
from revrnn.jax_impl.evaluate import JaxImplementation
from strategies import FIXED, name_of

# One of each cell and layout: every further one costs compilations.
SOME = [FIXED[1], FIXED[3], FIXED[7], FIXED[8]]
some = pytest.mark.parametrize("setup", SOME, ids=name_of)
one_first = pytest.mark.parametrize(
    "setup", [SOME[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SOME[1:])], ids=name_of
)


def floats(config: Config, shape: Shape, seed: int = 0) -> tuple[Any, Any]:
    """Return float parameters and input."""
    keys = jax.random.split(jax.random.key(seed))
    params = {name: 3 * value for name, value in init(keys[0], config).items()}
    return params, jax.random.normal(keys[1], (shape.steps, shape.rows, config.input_size))


def same(a: Any, b: Any) -> bool:
    """Say whether two pytrees are equal in structure, types and every bit."""
    left, right = jax.tree.leaves(a), jax.tree.leaves(b)
    return str(jax.tree.structure(a)) == str(jax.tree.structure(b)) and all(
        x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(left, right, strict=True)
    )


def loss_of(config: Config, **options: Any) -> Any:
    """Return a function of params, input and float state: a loss and the whole output."""

    def loss(params: Any, x: Any, hx: Any) -> Any:
        out = apply(params, x, config, hx=hx, **options)
        total = (
            out.outputs * jnp.cos(jnp.arange(out.outputs.size)).reshape(out.outputs.shape)
        ).sum()
        total += (out.h_n * 0.5).sum() + (0 if out.c_n is None else (out.c_n * 0.25).sum())
        return total, out

    return loss


def initial_floats(config: Config, shape: Shape) -> Any:
    axes = (config.num_layers, shape.rows, config.hidden_size)
    keys = jax.random.split(jax.random.key(9), config.state_arrays)
    states = tuple(jax.random.normal(key, axes) for key in keys)
    return states if len(states) == 2 else states[0]


@pytest.mark.rule("QNT-005", "GRAD-002", "GRAD-003", "GRAD-004", "GRAD-020")
@some
def test_function_agrees_with_the_oracle(
    oracle: Implementation, setup: tuple[Config, Shape]
) -> None:
    """From floats: the oracle's bits from quantised floats; its gradients; stored as recovered."""
    config, shape = setup
    params, x = floats(*setup)
    x = x.at[0, 0, 0].set(99.0)  # beyond the operand's range: no gradient
    hx = initial_floats(*setup)
    results = []
    for states in ("reversed", "stored"):
        program = jax.jit(
            jax.value_and_grad(loss_of(config, states=states), argnums=(0, 1, 2), has_aux=True)
        )
        (_, out), grads = program(params, x, hx)
        check(out.status)
        results.append(grads)
    assert same(results[0], results[1])

    def fixed_point(kind: str, value: Any) -> Any:
        request = {"kind": kind, "x": np.asarray(value), "formats": config.formats.as_dict()}
        return oracle.evaluate("quantise", request)["q"]

    arguments: dict[str, Any] = {"config": config.as_dict(), "x": fixed_point("operand", x)}
    arguments["mask"] = np.ones((shape.steps, shape.rows), np.bool_)
    for name, value in params.items():
        arguments[name] = fixed_point("bias" if name.startswith("bias") else "weight", value)
    states_in = hx if isinstance(hx, tuple) else (hx,)
    for name, value in zip(("h", "c"), states_in, strict=False):
        arguments[name] = fixed_point("state", value)
    heads = sequence_arguments(config, shape, np.random.default_rng(0))["heads"]
    wanted = oracle.evaluate("sequence_forward", arguments | {"heads": heads})
    assert np.array_equal(out.state.h, wanted["h"])
    if config.buffer == "stream":
        assert np.array_equal(out.state.heads, wanted["heads"])
    generator = {"outputs": np.cos(np.arange(out.outputs.size, dtype=np.float32))}
    request = arguments | {
        "heads": heads,
        "grad_outputs": generator["outputs"].reshape(out.outputs.shape),
        "grad_h": np.full(out.h_n.shape, 0.5, np.float32),
    }
    if out.c_n is not None:
        request["grad_c"] = np.full(out.c_n.shape, 0.25, np.float32)
    exact = oracle.evaluate("sequence_gradient", request | {"states": "stored"})
    exact["grad_x"][0, 0, 0] = 0
    grad_params, grad_x, grad_hx = results[0]
    gradients_by_name = {"x": grad_x, **grad_params}
    gradients_by_name |= dict(
        zip(("h", "c"), grad_hx if isinstance(hx, tuple) else (grad_hx,), strict=False)
    )
    for name, gradient in gradients_by_name.items():
        target = exact[f"grad_{name}"]
        assert np.abs(gradient - target).max() <= 1e-4 * np.abs(target).max() + 1e-6, name


@pytest.mark.rule("GEN-001")
@one_first
def test_transformations_keep_the_bits(setup: tuple[Config, Shape]) -> None:
    """Jitted or not, under value_and_grad, checkpoint, vmap and scan: one right answer."""
    config, _ = setup
    params, x = floats(*setup)
    hx = initial_floats(*setup)
    loss = loss_of(config)
    program = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, eager), eager_grads = program(params, x, hx)
    (_, jitted), jitted_grads = jax.jit(program)(params, x, hx)
    exact = (jitted.state, jitted.outputs)
    assert same((eager.state, eager.outputs), exact)
    assert same(eager_grads, jitted_grads)
    plain = jax.jit(loss)(params, x, hx)[1]  # without gradients no store: same bits (SEQ-010)
    assert same((plain.state, plain.outputs), exact)
    remat = jax.value_and_grad(jax.checkpoint(loss), argnums=(0, 1), has_aux=True)
    (_, again), remat_grads = jax.jit(remat)(params, x, hx)
    assert same((again.state, again.outputs), exact)
    assert same(remat_grads, jitted_grads)
    two = jax.tree.map(lambda v: jnp.stack([v, 0.5 * v]), (x, hx))
    batched = jax.vmap(program, in_axes=(None, 0, 0))
    (_, out), _ = jax.jit(batched)(params, *two)
    (_, half), _ = jax.jit(program)(params, 0.5 * x, jax.tree.map(lambda v: 0.5 * v, hx))
    for index, single in enumerate((jitted, half)):
        one = jax.tree.map(lambda v, i=index: v[i], (out.state, out.outputs))
        assert same(one, (single.state, single.outputs))

    def body(state: State, part: Any) -> tuple[State, Any]:
        result = apply(params, part, config, state=state)
        return result.state, result.outputs

    halves = x[: len(x) // 2 * 2].reshape(2, -1, *x.shape[1:])
    start = initial_state(config, x.shape[1])
    final, outputs = jax.jit(lambda s: jax.lax.scan(body, s, halves))(start)
    whole = apply(params, halves.reshape(-1, *x.shape[1:]), config, state=start)
    assert same(final.h, whole.state.h)
    assert same(outputs.reshape(whole.outputs.shape), whole.outputs)
    if config.buffer == "stream":
        assert same(final.heads, whole.state.heads)


@pytest.mark.rule("PROD-003")
def test_vmap_does_not_round_the_products() -> None:
    """Batching rules run where 64-bit types are off: sums that need them must not lose bits."""
    config = Config("revgru", 40, 4)
    params, _ = floats(config, Shape(2, 2))
    params = {name: 5 + value for name, value in params.items()}
    x = 5 + jax.random.normal(jax.random.key(3), (3, 2, 2, 40))
    batched = jax.jit(jax.vmap(lambda v: apply(params, v, config).state.h))(x)
    single = [apply(params, part, config).state.h for part in x]
    assert same(batched, jnp.stack(single))
    both = jax.vmap(jax.vmap(lambda v: apply(params, v, config).state.h))(x[None])
    assert same(both[0], batched)


@pytest.mark.rule("GEN-001", "PROD-003")
@pytest.mark.parametrize("variant", ["int8", "not jitted"])
def test_variants_agree(oracle: Implementation, variant: str) -> None:
    other = JaxImplementation(jit=variant != "not jitted")
    set_product_method("int8" if variant == "int8" else "auto")
    try:
        for config, shape in (FIXED[2], FIXED[6]):
            generator = np.random.default_rng(4)
            arguments = sequence_arguments(config, shape, generator, "large", masks="random")
            assert_agree(oracle, other, "sequence_forward", arguments | {"trace": True})
            shapes = {"a": (3, 70), "w": (5, 70)}
            ends = np.array([-32512, 32512, 127, -128], np.int16)
            product = {name: generator.choice(ends, axes) for name, axes in shapes.items()}
            assert_agree(oracle, other, "product", product)
    finally:
        set_product_method("auto")


PROGRAM = """
import sys, numpy as np, jax, jax.numpy as jnp
sys.path.insert(0, {tests!r})
from revrnn.conformance.contents import gradient_arguments, sequence_arguments
from strategies import FIXED
from revrnn.digest import digest, step_digests
from revrnn.evaluation import load
from revrnn.jax_impl import apply
assert jax.config.jax_enable_x64 is {flag}
digests = []
for number in {numbers}:
    config, shape = FIXED[number]
    arguments = sequence_arguments(config, shape, np.random.default_rng(7), "large")
    got = load("jax").evaluate("sequence_forward", arguments | {{"trace": True}})
    digests += step_digests(config, got)
    names = config.parameter_shapes()
    params = {{n: jnp.asarray(arguments[n] / 2.0**14, jnp.float32) for n in names}}
    x = jnp.asarray(arguments["x"] / 2.0**12, jnp.float32)
    loss = lambda p: (apply(p, x, config).outputs ** 2).sum()
    grads = jax.jit(jax.grad(loss))(params)
    leaves = jax.tree.leaves((grads, apply(params, x, config)))
    assert not [v.dtype for v in leaves if v.dtype.itemsize > 4], "64-bit types leaked"
    digests += [np.asarray(v).tobytes().hex()[:64] for v in leaves]
assert jax.config.jax_enable_x64 is {flag}
assert jnp.zeros(1).dtype == jnp.{dtype}
print(digests)
"""


@pytest.mark.rule("GEN-001")
@pytest.mark.parametrize("numbers", [(8,), pytest.param((1, 3), marks=pytest.mark.slow)])
def test_same_bits_with_64_bit_types_off_and_on(numbers: tuple[int, ...]) -> None:
    outputs = []
    for flag, dtype in ((False, "float32"), (True, "float64")):
        tests = str(Path(__file__).parent)
        program = PROGRAM.format(tests=tests, flag=flag, dtype=dtype, numbers=numbers)
        if flag:
            program = "import jax\njax.config.update('jax_enable_x64', True)\n" + program
        process = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tests
        )
        assert process.returncode == 0, process.stderr
        outputs.append(process.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000


def test_nothing_is_compiled_twice() -> None:
    """A second call with the same shapes finds its program."""
    config, shape = FIXED[1]
    params, x = floats(config, shape)
    jax.clear_caches()
    traced = []

    @jax.jit
    def program(params: Any, x: Any) -> Any:
        traced.append(1)
        return apply(params, x, config).outputs

    program(params, x)
    program(params, 2 * x)
    assert len(traced) == 1


@pytest.mark.rule("GRAD-020", "GRAD-021")
def test_gradients_of_extreme_states(oracle: Implementation) -> None:
    """Saturated views and gates: still the same function of the same numbers."""
    other = load("jax")
    for config, shape in (FIXED[1], FIXED[7]):
        generator = np.random.default_rng(2)
        for states in ("extreme", "large"):
            arguments = sequence_arguments(config, shape, generator, "large", "saturated", states)
            request = gradient_arguments(arguments, generator)
            results = [
                other.evaluate("sequence_gradient", request | {"states": source})
                for source in ("reversed", "stored")
            ]
            assert equal_bits(*results)
