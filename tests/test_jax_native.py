"""JAX's native engine: the scan's and the oracle's bits by compiled calls, or a reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from jax.experimental import checkify
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jax_agreement import assert_engines_agree

from agreement import assert_agree, assert_sequences_agree, both_gradients, equal_bits
from revrnn import Config, RevRNNError
from revrnn.conformance.contents import Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation, load
from revrnn.jax_impl import apply, engine, init, initial_state
from revrnn.jax_impl.native import weights
from revrnn.jax_impl.parameters import quantise_parameters
from revrnn.torch_impl.native.weights import Weights

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
    """Masks and resets, several chunks and the rest of one."""
    config, params, x, more = case_of(cell)

    def loss(params: Any, x: jax.Array) -> Any:
        out = apply(params, x, config, state=initial_state(config, 9), **more)
        return (out.outputs**2).sum(), out

    assert_engines_agree("native", loss, params, x)


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


SMALL = Config("revgru", 2, 6, max_forget_bits=2)
PARAMS, X = init(jax.random.key(0), SMALL), jax.random.normal(jax.random.key(1), (5, 4, 2))
Function = Callable[[jax.Array], jax.Array]


def outputs_of(x: jax.Array) -> jax.Array:
    """Return the outputs of a stack, its steps in two calls."""
    first = apply(PARAMS, x[:2], SMALL, state=initial_state(SMALL, x.shape[1]))
    last = apply(PARAMS, x[2:], SMALL, state=first.state)
    return jnp.concatenate([first.outputs, last.outputs])


def both(f: Function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return outputs, and the gradient of a loss of them by ``x``."""

    def loss(x: jax.Array) -> Any:
        outputs = f(x)
        return (outputs**2).sum(), outputs

    (_, outputs), grad = jax.value_and_grad(loss, has_aux=True)(x)
    return outputs, grad


def in_scan(f: Function) -> Function:
    """Return ``f`` as the body of a scan."""
    return lambda x: lax.scan(lambda n, x: (n + 1, f(x)), 0, x[None])[1][0]


def for_each(f: Function) -> Function:
    """Return ``f`` for two examples at a time, of which the second counts for nothing."""
    return lambda x: jax.vmap(f)(jnp.stack([x, 2 * x]))[0]


def on_a_mesh(f: Function) -> Function:
    """Return ``f`` with the rows of a batch on a mesh's devices, of which there is one."""
    mesh, rows = (
        Mesh(np.array(jax.devices()[:1]), "rows", axis_types=(AxisType.Auto,)),
        P(None, "rows"),
    )
    return jax.shard_map(f, mesh=mesh, in_specs=rows, out_specs=rows)


def checked(f: Function) -> Function:
    """Return ``f`` with its floats checked."""
    return lambda x: checkify.checkify(f, errors=checkify.float_checks)(x)[1]


WAYS: dict[str, Callable[[Function], Function]] = {
    "jit": jax.jit,
    "vmap": for_each,
    "scan": in_scan,
    "checkpoint": jax.checkpoint,
    "shard_map": on_a_mesh,
    "checkify": checked,
    "cond": lambda f: lambda x: lax.cond(x[0, 0, 0] < 99, f, lambda x: 0 * f(x), x),
}


@pytest.fixture(scope="module")
def due() -> tuple[jax.Array, jax.Array]:
    """What the scan gives."""
    with engine("scan"):
        results: tuple[jax.Array, jax.Array] = jax.jit(partial(both, outputs_of))(X)
    return results


@pytest.mark.rule("GEN-001")
@pytest.mark.parametrize("way", WAYS)
def test_transforms_have_the_scans_bits(way: str, due: tuple[jax.Array, jax.Array]) -> None:
    program = jax.jit(partial(both, WAYS[way](outputs_of)))
    assert "revrnn_advance" in program.lower(X).as_text()
    outputs, grad = program(X)
    np.testing.assert_array_equal(outputs, due[0])
    np.testing.assert_allclose(grad, due[1], 1e-4, 1e-5)


@pytest.mark.rule("GEN-001")
def test_operation_by_operation(due: tuple[jax.Array, jax.Array]) -> None:
    """Under ``disable_jit``, and outside any transformation."""
    np.testing.assert_array_equal(outputs_of(X), due[0])
    with jax.disable_jit():
        out, grad = both(lambda x: apply(PARAMS, x, SMALL).outputs, X[:2])
    np.testing.assert_array_equal(out, due[0][:2])
    assert jnp.isfinite(grad).all()


@pytest.mark.rule("GRAD-022")
def test_shapes_alone_and_second_derivatives() -> None:
    """Shapes without a computation; a gradient has no derivative."""
    assert jax.eval_shape(outputs_of, X).shape == (5, 4, 6)

    def of_gradient(x: jax.Array) -> jax.Array:
        total: jax.Array = jax.grad(lambda x: outputs_of(x).sum())(x).sum()
        return total

    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED. apply: .*derivative of a gradient"):
        jax.grad(of_gradient)(X)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_weights_are_packed_as_elsewhere(cell: str, layers: int) -> None:
    """What XLA's calls make of a stack is what PyTorch's engine makes of it."""
    config = Config(cell, 33, 130, layers)
    exact = quantise_parameters(init(jax.random.key(0), config), config)
    exact["bias_l0"] = exact["bias_l0"].at[3].set(-(2**31))
    with jax.enable_x64(True):
        packed = jax.jit(weights.pack, static_argnums=0)(config, exact)
    other = Weights(config, {name: torch.tensor(np.asarray(v)) for name, v in exact.items()})
    w_x, w_l, w_h, norms, bias = other.stack
    w_u = [] if other.w_u is None else [other.w_u]
    for made, wanted in (
        (packed.exact, [w_x, w_l, w_h, *w_u, norms, bias]),
        (packed.floats, [other.of_input, *other.floats]),
    ):
        some = [value for value in map(np.asarray, made) if value.size]
        expected = [value for value in wanted if value.size]
        for value, one in zip(some, expected, strict=True):
            np.testing.assert_array_equal(value, one)
