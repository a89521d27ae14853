"""The kernels in Triton's interpreter: the oracle's bits, and the eager engine's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from check import arguments_of, config_of
from hypothesis import given, settings
from small import SETUPS, wrong

from agreement import assert_agree, assert_law
from revrnn.config import Config
from revrnn.conformance.contents import Shape
from revrnn.evaluation import Implementation
from revrnn.torch_impl import RevGRU, RevLSTM, engine, value_and_grad
from revrnn.torch_impl.evaluate import TorchImplementation
from revrnn.torch_impl.triton import places, self_check
from strategies import FIXED, SEEDS, name_of

KERNELS = TorchImplementation("cpu", 3, engine="triton")
STREAMS = [setup for setup in FIXED if setup[0].buffer == "stream" or not setup[0].forgetting]


@given(seed=SEEDS)
@settings(max_examples=1)  # one takes as long as all other tests here on the other core
def test_random_sequences_agree_with_the_oracle(oracle: Implementation, seed: int) -> None:
    agree(oracle, seed)


@given(seed=SEEDS)
@settings(max_examples=12)
def test_more_random_sequences_agree(oracle: Implementation, seed: int) -> None:
    agree(oracle, seed)


def agree(oracle: Implementation, seed: int) -> None:
    random = np.random.default_rng(seed)
    arguments = arguments_of(random, config_of(random, 17), 4)
    assert_agree(oracle, KERNELS, "sequence_forward", arguments)
    assert_law(KERNELS, arguments, KERNELS.evaluate("sequence_forward", arguments))


@pytest.mark.parametrize("setup", STREAMS, ids=name_of)
def test_forward_back_and_gradients(setup: tuple[Config, Shape]) -> None:
    assert not wrong(*setup, seed=3)


@pytest.mark.parametrize("cell", SETUPS)
def test_every_step_is_the_oracles(oracle: Implementation, cell: str) -> None:
    random = np.random.default_rng(5)
    arguments = arguments_of(random, Config(cell, 2, 6, 2, 3), 3)
    assert_agree(oracle, KERNELS, "sequence_forward", arguments | {"trace": True})


def results(name: str, module: Any, **options: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return the exact state after a streamed step, and all gradients."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(7, 3, 4, generator=generator)
    targets = torch.randn(7, 3, 6, generator=generator)
    for parameter in module.parameters():
        parameter.grad = None
    torch.manual_seed(1)
    with engine(name):
        step = value_and_grad(module, inputs, targets, torch.nn.MSELoss(), **options)
    return step.state, [step.loss, *(p.grad for p in module.parameters())]


RESETS = torch.zeros(7, 3, dtype=torch.bool)
RESETS[[0, 2, 3, 6], [1, 0, 2, 1]] = True
MASK = torch.ones(7, 3, dtype=torch.bool)
MASK[4:, 2] = False
WAYS: dict[str, dict[str, Any]] = {
    "resets": {"resets": RESETS},
    "resets and mask": {"resets": RESETS, "mask": MASK},
    "pieces run again": {"checkpoint_every": 3},
    "words in the host's memory": {"offload": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_modules_have_the_eager_engines_bits(kind: Any, way: str) -> None:
    torch.manual_seed(0)
    module = kind(4, 6, num_layers=2, max_forget_bits=3, dropout=0.25, chunk_size=3)
    (state, gradients), (wanted, by_eager) = (
        results(name, module, **WAYS[way]) for name in ("triton", "eager")
    )
    assert state == wanted
    for a, b in zip(gradients, by_eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_two_passes_take_turns_in_the_same_arrays() -> None:
    torch.manual_seed(0)
    modules = [RevLSTM(4, 6, max_forget_bits=3, chunk_size=2) for _ in range(2)]
    x = torch.randn(5, 3, 4)
    gradients = {}
    for name in ("triton", "eager"):
        for module in modules:
            module.zero_grad()
        with engine(name):
            first, second = (module(x)[0] for module in modules)
            (first * second).sum().backward()
        gradients[name] = [p.grad.clone() for m in modules for p in m.parameters()]
    for a, b in zip(gradients["triton"], gradients["eager"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", self_check.CONFIGS, ids=lambda c: c.cell)
def test_the_proof_of_a_device_passes(config: Config) -> None:
    with torch.no_grad():
        assert not self_check.differs(config, torch.device("cpu"))


def test_a_tape_outlives_another_pass_of_the_same_kind() -> None:
    """A readout that runs another such stack does so between recovering and pulling back.

    It may do so over a chunk of all steps alone, since a stack's step is none of its own.
    """
    torch.manual_seed(0)
    first, second = (RevGRU(4, 4, max_forget_bits=3, chunk_size=3) for _ in range(2))
    inputs, targets = torch.randn(3, 2, 4), torch.zeros(3, 2, 4)

    def readout(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return ((second(outputs)[0] - wanted) ** 2).mean()

    gradients = {}
    for name in ("triton", "eager"):
        first.zero_grad()
        second.zero_grad()
        with engine(name):
            value_and_grad(first, inputs, targets, readout)
        parameters = [*first.parameters(), *second.parameters()]
        gradients[name] = [torch.zeros(1) if p.grad is None else p.grad.clone() for p in parameters]
    for a, b in zip(gradients["triton"], gradients["eager"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_pass_keeps_its_state_when_its_arrays_are_let_go() -> None:
    torch.manual_seed(0)
    module, x = RevGRU(4, 4, max_forget_bits=3, chunk_size=2), torch.randn(3, 2, 4)
    with engine("triton"):
        outputs, _ = module(x)
        places.release()
        outputs.sum().backward()
    assert module.weight_hh_l0.grad is not None
    assert bool(module.weight_hh_l0.grad.any())


def test_arrays_serve_inference_mode_and_training_in_turn() -> None:
    torch.manual_seed(0)
    module, x = RevLSTM(3, 8, max_forget_bits=2, chunk_size=2), torch.randn(2, 2, 3)
    places.release()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with engine("triton"):
            with torch.inference_mode():
                first, _ = module(x)
            second, _ = module(x)
            second.sum().backward()
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(first, second)
    assert module.weight_hh_l0.grad is not None
