"""What is particular to PyTorch: the autograd function, products, chunks, compilation, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from agreement import assert_agree, both_gradients, equal_bits
from revrnn import Config, RevRNNError
from revrnn.conformance.contents import Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation
from revrnn.torch_impl import (
    State,
    TorchImplementation,
    engine,
    initial_state,
    quantise_parameters,
    rev_rnn,
)
from revrnn.torch_impl.buffer import fresh_heads
from strategies import FIXED, name_of

fixed = pytest.mark.parametrize("setup", FIXED, ids=name_of)


def floats(config: Config, shape: Shape, seed: int = 0) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return a float input and float parameters."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape.steps, shape.rows, config.input_size, generator=generator)
    params = {
        name: (0.7 * torch.randn(axes, generator=generator)).requires_grad_()
        for name, axes in config.parameter_shapes().items()
    }
    return x.requires_grad_(), params


def gradients(out: Any, inputs: list[torch.Tensor], seed: int = 1) -> list[torch.Tensor]:
    """Differentiate a random linear function of everything that is differentiable."""
    generator = torch.Generator().manual_seed(seed)
    parts = [out.outputs, out.h_n] + ([] if out.c_n is None else [out.c_n])
    loss = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in parts)
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.rule("QNT-003", "QNT-005", "GRAD-002", "GRAD-003", "GRAD-004", "GRAD-020")
@fixed
def test_function_agrees_with_the_evaluated_operation(
    oracle: Implementation, setup: tuple[Config, Shape]
) -> None:
    """From floats: the same bits as the oracle from quantised floats, and its gradients."""
    config, shape = setup
    x, params = floats(config, shape)
    with torch.no_grad():
        x[0, 0, 0] = 99.0  # beyond the operand's range: no gradient
        params["weight_ih_l0"][0, 0] = -99.0  # a parameter beyond it keeps its gradient
    axes = (config.num_layers, shape.rows, config.hidden_size)
    hx = [torch.randn(axes).requires_grad_() for _ in range(config.state_arrays)]
    out = rev_rnn(x, params, config, hx=hx[0] if len(hx) == 1 else (hx[0], hx[1]))
    of_function = gradients(out, [x, *params.values(), *hx])

    def fixed_point(kind: str, value: torch.Tensor) -> Any:
        request = {"kind": kind, "x": value.detach().numpy(), "formats": config.formats.as_dict()}
        return oracle.evaluate("quantise", request)["q"]

    arguments: dict[str, Any] = {"config": config.as_dict(), "x": fixed_point("operand", x)}
    arguments["mask"] = np.ones((shape.steps, shape.rows), np.bool_)
    for name, value in params.items():
        arguments[name] = fixed_point("bias" if name.startswith("bias") else "weight", value)
    for name, value in zip(("h", "c"), hx, strict=False):
        arguments[name] = fixed_point("state", value)
    if config.forgetting:
        heads = fresh_heads(config.buffer, shape.rows, config.group_size, None)
        arguments["heads"] = heads.to(torch.int64).numpy()
    wanted = oracle.evaluate("sequence_forward", arguments)
    assert np.array_equal(out.state.h.numpy(), wanted["h"])
    floats_of = {"q": wanted["outputs"], "bits": config.formats.state_bits}
    assert np.array_equal(
        out.outputs.detach().numpy(), oracle.evaluate("dequantise", floats_of)["x"]
    )
    if config.forgetting:
        assert out.state.heads is not None
        assert np.array_equal(out.state.heads.numpy(), wanted["heads"])
    generator = torch.Generator().manual_seed(1)
    for name, part in (("grad_outputs", out.outputs), ("grad_h", out.h_n), ("grad_c", out.c_n)):
        if part is not None:
            arguments[name] = torch.randn(part.shape, generator=generator).numpy()
    exact = oracle.evaluate("sequence_gradient", arguments | {"states": "stored"})
    names = ["x", *params, *("h", "c")[: len(hx)]]
    for name, gradient in zip(names, of_function, strict=True):
        target = exact[f"grad_{name}"]
        if name == "x":
            assert gradient[0, 0, 0] == 0
            target[0, 0, 0] = 0
        assert np.abs(gradient.numpy() - target).max() <= 1e-4 * np.abs(target).max() + 1e-6, name


@pytest.mark.rule("GRAD-020")
@fixed
def test_stored_and_recovered_gradients_of_the_function(setup: tuple[Config, Shape]) -> None:
    x, params = floats(*setup)
    results = []
    for states in ("reversed", "stored"):
        out = rev_rnn(x, params, setup[0], states=states)
        results.append(gradients(out, [x, *params.values()]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.rule("GEN-001", "SEQ-008")
@fixed
@pytest.mark.parametrize("chunk_size", [1, 2, 5, 100])
def test_chunk_size_changes_nothing(
    oracle: Implementation, setup: tuple[Config, Shape], chunk_size: int
) -> None:
    other = TorchImplementation(chunk_size=chunk_size)
    generator = np.random.default_rng(chunk_size)
    arguments = sequence_arguments(*setup, generator, "large", masks="random")
    assert_agree(oracle, other, "sequence_forward", arguments | {"trace": True})
    request = gradient_arguments(sequence_arguments(*setup, generator, masks="random"), generator)
    assert equal_bits(*both_gradients(other, request))
    assert_agree(oracle, other, "sequence_gradient", request | {"states": "reversed"})


@pytest.mark.rule("SEQ-008", "SEQ-010")
@fixed
def test_carried_state_and_evaluation_mode(setup: tuple[Config, Shape]) -> None:
    """Two segments equal one sequence; without gradients nothing is kept, same bits."""
    config, shape = setup
    x, params = floats(config, shape)
    whole = rev_rnn(x, params, config)
    first = rev_rnn(x[: shape.steps // 2], params, config)
    kept = [t.clone() for t in (first.state.h, first.state.heads) if t is not None]
    if shape.steps > 1:
        gradients(first, [x])  # reversal must leave the carried state alone
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            kept, [t for t in (first.state.h, first.state.heads) if t is not None], strict=True
        )
    )
    second = rev_rnn(x[shape.steps // 2 :], params, config, state=first.state)
    assert torch.equal(torch.cat([first.outputs, second.outputs]), whole.outputs)
    with torch.no_grad():
        quiet = rev_rnn(x, params, config)
    for state in (second.state, quiet.state):
        for name in ("h", "c", "heads"):
            a, b = getattr(state, name), getattr(whole.state, name)
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)


@pytest.mark.rule("SEQ-009")
@pytest.mark.parametrize("name", ["eager", "native"])
def test_backward_proves_its_reversal(name: str) -> None:
    """Damaged memory between forward and backward is an error, not a wrong gradient."""
    config, shape = FIXED[1]
    for damage in ("words", "state"):
        x, params = floats(config, shape)
        with torch.no_grad():
            params["bias_l0"] -= 5  # forget much, so that words are pushed
        with engine(name):
            out = rev_rnn(x, params, config)
        node: Any = out.outputs.grad_fn
        _, going = node.call.bptt._kept
        blocks = going.buffer.stored.closed if name == "eager" else going.rows.blocks[0]
        h = going.running.h[0][0] if name == "eager" else going.rows.h[0][0]
        if damage == "words":
            words = next(b for b in blocks if len(b))
            words[0] ^= 1
        else:
            h[0, 0] ^= 1
        with pytest.raises(RevRNNError) as caught:
            out.outputs.sum().backward()  # type: ignore[no-untyped-call]
        assert caught.value.code in ("E_REVERSAL", "E_UNDERFLOW")


@pytest.mark.rule("GRAD-002")
def test_an_input_at_the_end_of_the_range_has_a_gradient() -> None:
    """32512 of 2^-12 is the largest operand; what rounds to more is clipped and has none."""
    torch.manual_seed(0)
    config = Config("revgru", 3, 4)
    params = {name: torch.randn(shape) for name, shape in config.parameter_shapes().items()}
    x = torch.randn(2, 2, 3)
    x[0, :, 0] = torch.tensor([7.9375, 7.9378])
    x[1, :, 0] = -x[0, :, 0]
    x.requires_grad_()
    rev_rnn(x, params, config).outputs.square().sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad[:, 0].all()
    assert not x.grad[:, 1, 0].any()


@pytest.mark.rule("GRAD-022")
def test_second_derivatives_are_refused() -> None:
    config, shape = FIXED[1]
    x, params = floats(config, shape)
    out = rev_rnn(x, params, config)
    with pytest.raises(RevRNNError, match=r"E_UNSUPPORTED.*create_graph"):
        torch.autograd.grad(out.outputs.sum(), x, create_graph=True)


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "not a tensor": ({"x": [1.0]}, "E_DTYPE", "x"),
    "integers": ({"x": torch.zeros(6, 3, 3, dtype=torch.int32)}, "E_DTYPE", "x"),
    "features": ({"x": torch.zeros(6, 3, 4)}, "E_SHAPE", "x"),
    "axes": ({"x": torch.zeros(6, 3)}, "E_SHAPE", "x"),
    "NaN": ({"x": torch.full((6, 3, 3), float("nan"))}, "E_NONFINITE", "x"),
    "names": ({"params": {}}, "E_ARGUMENT", "params"),
    "mask type": ({"mask": torch.ones(6, 3)}, "E_DTYPE", "mask"),
    "mask shape": ({"mask": torch.ones(3, 6, dtype=torch.bool)}, "E_SHAPE", "mask"),
    "states": ({"states": "both"}, "E_ARGUMENT", "states"),
    "chunk": ({"chunk_size": 0}, "E_ARGUMENT", "chunk_size"),
    "hx": ({"hx": torch.zeros(1, 2, 6)}, "E_SHAPE", "hx"),
    "two hx": ({"hx": (torch.zeros(1, 3, 6),) * 2}, "E_ARGUMENT", "hx"),
    "infinite hx": ({"hx": torch.full((1, 3, 6), float("inf"))}, "E_NONFINITE", "hx"),
    "no state": ({"state": 3}, "E_ARGUMENT", "state"),
    "float state": ({"state": State(torch.zeros(1, 3, 6), None, None)}, "E_DTYPE", "state.h"),
    "no heads": (
        {"state": State(torch.zeros(1, 3, 6, dtype=torch.int32), None, None)},
        "E_DTYPE",
        "state.heads",
    ),
    "both": (
        {"hx": torch.zeros(1, 3, 6), "state": initial_state(FIXED[1][0], 3)},
        "E_ARGUMENT",
        "hx",
    ),
}


@pytest.mark.rule("ERR-004", "QNT-004", "BUF-037")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    changes, code, argument = BAD[case]
    config, shape = FIXED[1]
    x, params = floats(config, shape)
    given: dict[str, Any] = {"x": x, "params": params} | changes
    with pytest.raises(RevRNNError) as caught:
        rev_rnn(given.pop("x"), given.pop("params"), config, **given)
    assert (caught.value.code, caught.value.argument) == (code, argument)


def test_float_types_are_converted_once() -> None:
    """Other inputs go through float32 (QNT-003); gradients come back in their type."""
    config, shape = FIXED[1]
    x, params = floats(config, shape)
    for dtype in (torch.bfloat16, torch.float64):
        y = x.detach().to(dtype).requires_grad_()
        out = rev_rnn(y, params, config)
        same = rev_rnn(y.detach().float(), params, config)
        assert torch.equal(out.outputs, same.outputs)
        (gradient,) = torch.autograd.grad(out.outputs.sum(), y)
        assert gradient.dtype == dtype
    exact = quantise_parameters(params, config)
    assert exact["weight_ih_l0"].dtype == torch.int16
    assert exact["bias_l0"].dtype == torch.int32


def test_autocast_does_not_touch_the_exact_part() -> None:
    config, shape = FIXED[6]
    x, params = floats(config, shape)
    plain = rev_rnn(x, params, config)
    wanted = gradients(plain, [x])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = rev_rnn(x, params, config)
        autocast_gradients = gradients(cast, [x])
    assert torch.equal(plain.outputs, cast.outputs)
    assert torch.equal(wanted[0], autocast_gradients[0])
