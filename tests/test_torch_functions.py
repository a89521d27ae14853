"""What does not fit is said by functions beside the modules, in the caller's words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from revrnn import Config, RevRNNError
from revrnn.torch_impl import (
    LinearCrossEntropy,
    LockedDropout,
    RevGRU,
    RevLSTM,
    State,
    average_gradients,
    engine_plan,
    initial_state,
    plan,
    quantise_parameters,
    rev_rnn,
    value,
    value_and_grad,
)

X = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
MODULE = RevGRU(3, 6, 2)
CONFIG, PARAMS = MODULE.config, MODULE.state_dict()
START = MODULE.initial_state(2)
HEADS: Any = START.heads
PACKED = pack_sequence([X[:2, 0], X[:, 1]], enforce_sorted=False)


def run(**changes: Any) -> Any:
    given: dict[str, Any] = {"x": X, "params": PARAMS, "config": CONFIG}
    return rev_rnn(**given | changes)


def gains(made: Any) -> Callable[[], Any]:
    return lambda: run(gains=lambda t: made)


def stream(**changes: Any) -> Any:
    given: dict[str, Any] = {"module": MODULE, "inputs": X, "targets": X}
    given["readout"] = lambda h, y: h.mean()
    return value_and_grad(**given | changes)


def counted(count: Any) -> Callable[[], Any]:
    return lambda: stream(readout=lambda h, y: (h.sum(), count), chunk_size=2)


def state(**changes: Any) -> State:
    return replace(START, **changes)


def packed(**changes: Any) -> PackedSequence:
    return PACKED._replace(**changes)


def classes(targets: Any) -> Callable[[], Any]:
    """Return a call of the readout as a plain function of outputs ``[4, 2, 6]``."""
    return lambda: LinearCrossEntropy(nn.Linear(6, 3))(torch.ones(4, 2, 6), targets)


ones = torch.ones(1, 2, 6, dtype=torch.int32)
other: Any = "x"
# What is called, the code, and the argument as the caller wrote it.
CALLS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "gains, none": (gains(None), "E_DTYPE", "gains(0)"),
    "gains, shape": (gains(ones[0]), "E_SHAPE", "gains(0)"),
    "gains, floats": (gains(ones.float()), "E_DTYPE", "gains(0)"),
    "gains, large": (gains(ones * 10**6), "E_RANGE", "gains(0)"),
    "with outputs": (lambda: run(with_outputs="no"), "E_ARGUMENT", "with_outputs"),
    "hx of a GRU": (lambda: run(hx=X), "E_SHAPE", "hx"),
    "NaN in hx": (lambda: run(hx=torch.full((2, 2, 6), np.nan)), "E_NONFINITE", "hx"),
    "a state as hx": (lambda: run(hx=START), "E_ARGUMENT", "hx"),
    "heads": (lambda: run(state=state(heads=HEADS * 0)), "E_RANGE", "state.heads"),
    "heads, a call": (lambda: MODULE(X, state(heads=-HEADS)), "E_RANGE", "hx.heads"),
    "heads, by chunks": (lambda: stream(state=state(heads=-HEADS)), "E_RANGE", "state.heads"),
    "state's config": (lambda: MODULE(X, state(config=other)), "E_ARGUMENT", "hx.config"),
    "initial state": (lambda: initial_state(other, 2), "E_ARGUMENT", "config"),
    "initial place": (lambda: initial_state(CONFIG, 2, "moon"), "E_ARGUMENT", "device"),
    "a module's place": (lambda: RevGRU(3, 6, device="moon"), "E_ARGUMENT", "device"),
    "engine": (lambda: engine_plan(MODULE), "E_ARGUMENT", "config"),  # type: ignore[arg-type]
    "engine's place": (lambda: engine_plan(CONFIG, "moon"), "E_ARGUMENT", "device"),
    "plan": (lambda: plan(MODULE, 3, 1), "E_ARGUMENT", "config"),  # type: ignore[arg-type]
    "quantise": (lambda: quantise_parameters({"x": X}, CONFIG), "E_ARGUMENT", "params"),
    "quantise NaN": (
        lambda: quantise_parameters(PARAMS | {"bias_l0": PARAMS["bias_l0"] * np.nan}, CONFIG),
        "E_NONFINITE",
        "bias_l0",
    ),
    "quantise for": (lambda: quantise_parameters(PARAMS, other), "E_ARGUMENT", "config"),
    "batch sizes": (
        lambda: MODULE(packed(batch_sizes=torch.ones(6))),
        "E_SHAPE",
        "input.batch_sizes",
    ),
    "a list of sizes": (lambda: MODULE(packed(batch_sizes=[6])), "E_SHAPE", "input.batch_sizes"),
    "axes of sizes": (
        lambda: MODULE(packed(batch_sizes=torch.ones(1, 6).long())),
        "E_SHAPE",
        "input.batch_sizes",
    ),
    "another order back": (
        lambda: MODULE(packed(unsorted_indices=torch.tensor([0, 1]))),
        "E_RANGE",
        "input.unsorted_indices",
    ),
    "meta": (lambda: stream(inputs=X.to("meta")), "E_UNSUPPORTED", "inputs"),
    "meta module": (lambda: stream(module=RevGRU(3, 6, device="meta")), "E_UNSUPPORTED", "module"),
    "sparse": (lambda: stream(inputs=X.to_sparse()), "E_UNSUPPORTED", "inputs"),
    "nested": (
        lambda: stream(inputs=torch.nested.nested_tensor([X[:, 0], X[:2, 0]], layout=torch.jagged)),
        "E_UNSUPPORTED",
        "inputs",
    ),
    "reductions": (lambda: stream(reduction=np.array(["mean", "sum"])), "E_ARGUMENT", "reduction"),
    "large scale": (lambda: stream(loss_scale=1e39), "E_RANGE", "loss_scale"),
    "larger scale": (lambda: stream(loss_scale=10**400), "E_ARGUMENT", "loss_scale"),
    "large tensor": (
        lambda: stream(loss_scale=torch.tensor(1e300, dtype=torch.float64)),
        "E_RANGE",
        "loss_scale",
    ),
    "count below 0": (counted(torch.tensor(-3.0)), "E_ARGUMENT", "readout"),
    "NaN count": (counted(torch.tensor(np.nan)), "E_ARGUMENT", "readout"),
    "count without end": (counted(torch.tensor(np.inf)), "E_ARGUMENT", "readout"),
    "true": (counted(True), "E_ARGUMENT", "readout"),
    "true tensor": (counted(torch.tensor(True)), "E_SHAPE", "readout"),
    "detached": (
        lambda: stream(readout=lambda h, y: h.detach().mean(), chunk_size=2),
        "E_ARGUMENT",
        "readout",
    ),
    "detached sum": (
        lambda: stream(readout=lambda h, y: (h.detach().sum(), 3)),
        "E_ARGUMENT",
        "readout",
    ),
    "another width": (
        lambda: stream(readout=LinearCrossEntropy(nn.Linear(5, 4)), targets=X[:, :, 0].long()),
        "E_SHAPE",
        "readout.linear",
    ),
    "a layer's class": (lambda: LinearCrossEntropy(nn.Linear), "E_ARGUMENT", "linear"),  # type: ignore[arg-type]
    "targets by rows": (classes(torch.zeros(2, 4).long()), "E_SHAPE", "targets"),
    "targets as floats": (classes(torch.zeros(4, 2)), "E_SHAPE", "targets"),
    "no targets": (classes(None), "E_DTYPE", "targets"),
    "another type": (
        lambda: stream(
            readout=LinearCrossEntropy(nn.Linear(6, 4).half()), targets=X[:, :, 0].long()
        ),
        "E_DTYPE",
        "readout.linear",
    ),
    "a layer's tuple": (
        lambda: stream(
            readout=LinearCrossEntropy(lambda h: (h,)),  # type: ignore[arg-type, return-value]
            targets=torch.zeros(4, 2).long(),
        ),
        "E_DTYPE",
        "linear",
    ),
    "locked dropout of tokens": (lambda: LockedDropout()(X.long()), "E_DTYPE", "x"),
    "averaging of a list": (lambda: average_gradients([MODULE]), "E_ARGUMENT", "modules"),  # type: ignore[arg-type]
    "bits": (lambda: plan(CONFIG, 3, 1, expected_bits=other), "E_ARGUMENT", "expected_bits"),
    "cells": (lambda: Config(np.array(["revgru"]), 3, 6), "E_ARGUMENT", "cell"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_calls_are_refused_in_the_callers_words(case: str) -> None:
    call, code, argument = CALLS[case]
    with pytest.raises(RevRNNError) as caught:
        call()
    assert (caught.value.code, caught.value.argument) == (code, argument)
    assert all(parameter.grad is None for parameter in MODULE.parameters())


CHANGES: dict[str, tuple[Callable[[], nn.Module], str, tuple[Any, ...]]] = {
    "dropout": (lambda: RevGRU(3, 6, 2), "dropout", (0.99, 2, -1, np.nan, "half")),
    "locked": (LockedDropout, "p", (2, -0.5, np.nan, None, True)),
    "index": (lambda: LinearCrossEntropy(nn.Linear(6, 4)), "ignore_index", (1.5, None, 10**30)),
    "sum": (lambda: LinearCrossEntropy(nn.Linear(6, 4)), "reduction", ("none", None, 3)),
    "smooth": (lambda: LinearCrossEntropy(nn.Linear(6, 4)), "label_smoothing", (2, -1, "x")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_settings_are_checked_whenever_they_are_set(case: str) -> None:
    make, name, wrong = CHANGES[case]
    module = make()
    before = getattr(module, name)
    for value_ in wrong:
        with pytest.raises(RevRNNError, match=name):
            setattr(module, name, value_)
        assert getattr(module, name) == before


def test_numpys_truth_values_are_truth_values() -> None:
    yes, no = np.bool_(True), np.bool_(False)
    settings: Any = {"bias": no, "batch_first": yes, "offload": yes, "forgetting": no}
    module = RevGRU(3, 6, **settings)
    for name, given in settings.items():
        held = getattr(module.config if name == "forgetting" else module, name)
        assert held is bool(given)
    stream(offload=no, through_hx=no, report=yes, chunk_size=2, checkpoint_every=2)
    MODULE.zero_grad()


def test_no_chunk_is_longer_than_the_sequence() -> None:
    losses = [stream(chunk_size=size).loss for size in (4, 10**30)]
    assert torch.equal(*losses)
    MODULE.zero_grad()


@pytest.mark.parametrize("name", ["mask", "gains", "state"])
def test_a_change_in_place_before_the_way_back_is_told(name: str) -> None:
    """As PyTorch tells of one of weights and inputs."""
    made: Any = {
        "mask": torch.ones(4, 2, dtype=torch.bool),
        "gains": torch.full((4, 1, 2, 6), 1 << 12, dtype=torch.int32),
        "state": START.clone(),
    }[name]
    params = {n: p.clone().requires_grad_() for n, p in PARAMS.items()}
    loss = run(params=params, **{name: made}).outputs.sum()
    tensor: Tensor = made.h if name == "state" else made
    tensor.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_gradients_by_frequency_are_those_of_the_whole_sequence(kind: Any) -> None:
    embed, rnn, linear = nn.Embedding(5, 3, scale_grad_by_freq=True), kind(3, 6), nn.Linear(6, 5)
    tokens = torch.randint(5, (9, 2))
    readout = LinearCrossEntropy(linear)
    readout(rnn(embed(tokens))[0], tokens).backward()
    held: Any = embed.weight
    wanted, held.grad = held.grad, None
    value_and_grad(rnn, tokens, tokens, readout, embed=embed, chunk_size=2)
    assert torch.allclose(held.grad, wanted, rtol=1e-4, atol=1e-7)
    inside = nn.Sequential(embed)
    with pytest.raises(RevRNNError, match="scale_grad_by_freq"):
        value_and_grad(rnn, tokens, tokens, readout, embed=inside, chunk_size=2)
    value(rnn, tokens, tokens, readout, embed=inside, chunk_size=2)


def test_threads_keep_their_own_masks() -> None:
    """Locked dropout of one sequence does not take the masks of another thread's."""
    meanwhile, done = threading.Event(), threading.Event()

    def train(wait: bool) -> Tensor:
        torch.manual_seed(1)
        module, drop = RevGRU(3, 6), LockedDropout(0.5)
        calls: list[int] = []

        def embed(x: Tensor) -> Any:
            calls.append(1)
            if wait and len(calls) == 2:
                other.start()
                meanwhile.wait(60)
            return drop(x)

        step = value_and_grad(
            module, X, X, lambda h, y: h.square().mean(), embed=embed, chunk_size=2
        )
        return step.loss

    def beside() -> None:
        def embed(x: Tensor) -> Tensor:
            meanwhile.set()
            done.wait(60)
            return x

        torch.rand(1)
        value(MODULE, X, X, lambda h, y: h.mean(), embed=embed)

    other = threading.Thread(target=beside)
    alone = train(wait=False)
    try:
        assert torch.equal(train(wait=True), alone)
    finally:
        done.set()
        other.join()
