"""Many steps in one launch: programs that run together, their barrier, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from check import arguments_of, config_of
from hypothesis import given, settings
from small import PERSISTENT, SETUPS, at_once, wrong
from together import HangError, together
from triton.runtime.errors import InterpreterError

from agreement import assert_agree
from revrnn import Config
from revrnn.conformance.contents import Shape
from revrnn.evaluation import Implementation
from revrnn.gpu.constants import Mode
from revrnn.gpu.sizes import Tiles
from revrnn.torch_impl import RevGRU, RevLSTM, engine, engine_plan, value_and_grad
from revrnn.torch_impl.evaluate import TorchImplementation
from revrnn.torch_impl.triton import launch_persistent, self_check, support
from revrnn.torch_impl.triton.arrays import Arrays
from strategies import SEEDS

CPU = torch.device("cpu")


@given(seed=SEEDS)
@settings(max_examples=2)
def test_random_sequences_in_one_launch_a_chunk(oracle: Implementation, seed: int) -> None:
    random, kernels = np.random.default_rng(seed), TorchImplementation("cpu", 3, engine=PERSISTENT)
    arguments = arguments_of(random, config_of(random, 17), 4)
    with at_once(seed, 64):
        assert_agree(oracle, kernels, "sequence_forward", arguments)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("cell", SETUPS)
def test_forward_back_and_gradients_in_any_order(cell: str, number: int) -> None:
    assert not wrong(*SETUPS[cell][number], seed=number + 1, engine=PERSISTENT)


# Barriers of a step: as many as there are launches of a kernel a phase (test_launches.py).
@pytest.mark.parametrize(("cell", "counts"), [("revgru", (4, 4, 5)), ("revlstm", (2, 4, 3))])
def test_a_step_is_so_many_barriers(cell: str, counts: tuple[int, int, int]) -> None:
    config, steps = Config(cell, 2, 36, max_forget_bits=3), 2
    arrays = Arrays(config, 2, steps, CPU, Tiles.for_batch(2))
    launcher = launch_persistent.PersistentLauncher(arrays, Mode())
    programs = launch_persistent.programs_of(config, 2, arrays.tiles)
    assert programs == (4 if cell == "revgru" else 2)
    ways = (
        lambda: launcher.steps(0, steps),
        lambda: launcher.steps_back(0, steps, (-1, 0, 0)),
        lambda: launcher.pull_steps(0, steps, 0, True),
    )
    for way, count in zip(ways, counts, strict=True):
        with together(0, programs) as meetings:
            _ = arrays.tape, arrays.gradients
            way()
        assert meetings.launches == 1
        assert int(arrays.meeting) == steps * count * programs


def test_more_programs_than_fit_are_a_launch_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit are one launch; with one less, no kernel with a barrier is started."""
    config, shape = Config("revgru", 2, 4), Shape(2, 2)
    assert launch_persistent.programs_of(config, 2, Tiles.for_batch(2)) == 2
    started = []

    def start(*_: object, **__: object) -> None:
        started.append(True)
        raise RuntimeError("a barrier")

    monkeypatch.setattr(launch_persistent.PersistentLauncher, "_together", start)
    assert not wrong(config, shape, engine=PERSISTENT, resident=1)
    assert not started
    assert "a barrier" in wrong(config, shape, engine=PERSISTENT, resident=2)[0]
    assert started


def test_programs_that_do_not_run_at_once_would_hang() -> None:
    """What the decision is for, and that this is seen rather than waited for."""
    config = Config("revlstm", 2, 36, max_forget_bits=3)
    arrays = Arrays(config, 2, 1, CPU, Tiles.for_batch(2))
    launcher = launch_persistent.PersistentLauncher(arrays, Mode())
    with together(0, 1), pytest.raises(InterpreterError, match=HangError.__name__):
        launcher.steps(0, 1)


def test_the_plan_says_which_batches_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(PERSISTENT):
        # In the interpreter one program runs at a time.
        assert "a launch a phase" in engine_plan(Config("revgru", 2, 36)).product
        monkeypatch.setattr(support, "resident", lambda _: 132)
        assert "up to 48 rows" in engine_plan(Config("revgru", 2, 700)).product


def test_it_is_not_taken_by_itself() -> None:
    plan = engine_plan(Config("revgru", 2, 4))
    assert plan.engine not in ("triton", PERSISTENT)
    assert "by name" in plan.refused[PERSISTENT]


def test_the_check_of_a_device_passes() -> None:
    (config,) = (config for config in self_check.CONFIGS if config.cell == "revlstm")
    with torch.no_grad(), together(3, 64) as meetings:
        assert not self_check.differs(config, CPU, persistent=True)
    assert meetings.launches


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_resets_cut_a_chunk_into_launches(kind: type[RevGRU] | type[RevLSTM]) -> None:
    resets = torch.zeros(5, 2, dtype=torch.bool)
    resets[[0, 2], [1, 0]] = True
    torch.manual_seed(0)
    module, x = kind(3, 4, num_layers=2, max_forget_bits=3, chunk_size=4), torch.randn(5, 2, 3)
    states, gradients = [], []
    for name in (PERSISTENT, "eager"):
        module.zero_grad()
        with engine(name), together(0, 64) as meetings:
            step = value_and_grad(module, x, x[..., :1], squares, resets=resets)
        if name == PERSISTENT:
            assert meetings.added
        states.append(step.state)
        gradients.append([p.grad.clone() for p in module.parameters()])
    assert states[0] == states[1]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets) ** 2).mean()


def test_kernels_of_a_phase_do_not_depend_on_the_order_of_programs() -> None:
    with together(4, 1):
        assert not wrong(*SETUPS["revlstm"][0], seed=4)
