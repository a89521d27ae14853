"""What stands around a module: a process's defaults, and other uses of its tensors' memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from revrnn import RevRNNError
from revrnn.torch_impl import (
    LinearCrossEntropy,
    LockedDropout,
    RevGRU,
    RevLSTM,
    set_engine,
    value,
    value_and_grad,
)
from revrnn.torch_impl.conversions import as_array

X = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0))
Y = torch.randint(4, (20, 2), generator=torch.Generator().manual_seed(1))
MASK = torch.ones(20, 2, dtype=torch.bool)


@pytest.fixture(params=["eager", "native"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    set_engine(request.param)
    yield request.param
    set_engine("auto")


def train(rnn: RevLSTM, linear: nn.Linear, embed: nn.Module) -> list[Tensor]:
    """Return what calls of all kinds give, with dropout, a mask and resets."""
    torch.manual_seed(2)
    rnn.zero_grad()
    readout, state = LinearCrossEntropy(linear), rnn.initial_state(2)
    first = value_and_grad(rnn, X, Y, readout, embed=embed, mask=MASK, checkpoint_every=16)
    second = value_and_grad(rnn, X, Y, readout, resets=MASK, state=state, report=True)
    nothing = value(rnn, X, Y, lambda outputs, _: (outputs.sum() * 0, 0))
    # Counts that narrow floats do not hold, as a number and as PyTorch's own.
    many = value(rnn, X, Y, lambda outputs, _: (outputs.sum(), 2049), chunk_size=20)
    shares = nn.functional.one_hot(Y, 4).float()
    each = value_and_grad(rnn, X, shares, lambda h, y: cross_entropy(linear(h).mT, y.mT))
    parts = value_and_grad(rnn, X, shares, readout, reduction="mean")
    outputs, (h, c) = rnn(X, mask=MASK)
    outputs.sum().backward()
    streamed = [made.loss for made in (first, second, nothing, many, each, parts)]
    grads = [p.grad for p in rnn.parameters() if p.grad is not None]
    return [*streamed, outputs, h, c, *grads]


@pytest.mark.parametrize("default", ["meta", torch.float16, torch.float64], ids=str)
def test_the_defaults_of_a_process_are_not_those_of_a_module(engine: str, default: Any) -> None:
    rnn, linear = RevLSTM(3, 6, 2, dropout=0.3), nn.Linear(6, 4)
    embed = nn.Sequential(nn.Linear(3, 3), LockedDropout(0.3))
    wanted = train(rnn, linear, embed)
    set_default: Any = torch.set_default_device if default == "meta" else torch.set_default_dtype
    set_default(default)
    try:
        given = train(rnn, linear, embed)
    finally:
        set_default(None if default == "meta" else torch.float32)
    for mine, theirs in zip(given, wanted, strict=True):
        assert torch.equal(mine.nan_to_num(), theirs.nan_to_num())


def test_counts_do_not_depend_on_the_default_type() -> None:
    torch.manual_seed(0)
    rnn, x = RevGRU(3, 6), torch.randn(26, 1031, 3)
    keep, shares = torch.rand(26, 1031) < 0.7, torch.rand(26, 1031, 6)
    readouts: list[tuple[Any, Tensor]] = [
        (lambda h, y: cross_entropy(h.mT, y.mT), shares),
        (lambda h, y: h[y].square().mean(), keep),
    ]
    for readout, targets in readouts:
        wanted = value(rnn, x, targets, readout, chunk_size=13).loss
        torch.set_default_dtype(torch.float16)
        try:
            given = value(rnn, x, targets, readout, chunk_size=13).loss
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(given, wanted)


def test_memory_of_the_callers_tensors_can_still_be_resized(engine: str) -> None:
    """FSDP frees a parameter's memory after the forward pass and fills it again."""
    rnn, linear, embed = RevGRU(3, 6, 2), nn.Linear(6, 4), nn.Embedding(9, 3)
    x, tokens, targets, mask = X.clone().requires_grad_(), Y.clone(), Y.clone(), MASK.clone()
    h, state, weight = torch.zeros(2, 2, 6), rnn.initial_state(2), torch.rand(4)
    rnn(x, h, mask=mask)[0].square().sum().backward()
    rnn(x, state)
    readout = LinearCrossEntropy(linear, weight=weight)
    value_and_grad(rnn, tokens, targets, readout, embed=embed, resets=mask)
    modules = nn.ModuleList([rnn, linear, embed])
    named = dict(modules.named_parameters()) | state.tensors()
    named |= {"x": x, "tokens": tokens, "targets": targets, "mask": mask, "h0": h, "weight": weight}
    storages = {name: tensor.untyped_storage() for name, tensor in named.items()}
    assert [name for name, storage in storages.items() if not storage.resizable()] == []


def test_a_module_whose_parameters_another_keeps_is_refused_by_name() -> None:
    rnn = RevGRU(3, 6)
    for name in list(rnn._parameters):
        weight = rnn._parameters.pop(name)
        object.__setattr__(rnn, name, weight)  # as FullyShardedDataParallel does
    with pytest.raises(RevRNNError, match=r"module: got a module without parameters"):
        value_and_grad(rnn, X, Y, LinearCrossEntropy(nn.Linear(6, 4)))


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("kind", ["masked", "no shape"])
def test_tensors_that_are_no_plain_arrays_are_refused_by_name(kind: str) -> None:
    kinds = {"masked": "MaskedTensor", "no shape": "a parameter that has no shape"}
    x = nn.UninitializedParameter() if kind == "no shape" else torch.masked.masked_tensor(X, X > 0)
    with pytest.raises(RevRNNError, match=rf"input: got .*{kinds[kind]}"):
        RevGRU(3, 6)(x)


def test_negative_views_have_their_sign_everywhere() -> None:
    rnn, x = RevGRU(3, 6), X.clone()
    outputs, _ = rnn(torch._neg_view(x))
    assert torch.equal(outputs, rnn(-x)[0])
    gradient = torch.randn(outputs.shape)
    outputs.backward(torch._neg_view(gradient))
    given = rnn.get_parameter("weight_hh_l0").grad
    rnn.zero_grad()
    rnn(-x)[0].backward(-gradient)
    again = rnn.get_parameter("weight_hh_l0").grad
    assert given is not None
    assert again is not None
    assert torch.equal(given, again)


@pytest.mark.parametrize("made_inside", [False, True])
def test_evaluation_in_inference_mode(made_inside: bool) -> None:
    """With readouts of all kinds, which PyTorch's versions of tensors are asked about."""
    rnn, linear = RevGRU(3, 6), nn.Linear(6, 4)

    def readout(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = linear(outputs).flatten(0, 1)
        return nn.functional.cross_entropy(logits, targets.flatten())

    with torch.inference_mode(made_inside):
        x, y = X + 0, Y + 0
    for each in (readout, LinearCrossEntropy(linear), lambda o, y: (o.argmax(-1) == y).sum() / 40):
        with torch.inference_mode():
            given = value(rnn, x, y, each).loss
        assert torch.equal(given, value(rnn, X, Y, each).loss)
        assert not given.requires_grad


def test_memory_that_older_versions_call_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy 2.1 does, for one: older versions do not say whether memory may be written."""
    exchange = np.from_dlpack

    def read_only(tensor: Tensor) -> Any:
        array = exchange(tensor)
        array.flags.writeable = False
        return array

    monkeypatch.setattr(np, "from_dlpack", read_only)
    tensor = torch.zeros(3, 4)[:, 1:3]
    as_array(tensor)[:] = [[1, 2], [3, 4], [5, 6]]
    assert tensor.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_scaler_of_gradients_scales_those_by_chunks_too() -> None:
    rnn, linear = RevGRU(3, 6), nn.Linear(6, 4)
    readout = LinearCrossEntropy(linear)
    value_and_grad(rnn, X, Y, readout)
    wanted: Any = linear.weight.grad
    linear.zero_grad()
    scaler: Any = torch.amp.GradScaler("cpu")  # type: ignore[attr-defined, unused-ignore]
    optimiser = torch.optim.SGD(linear.parameters(), 0.1)
    value_and_grad(rnn, X, Y, readout, loss_scale=scaler.scale(torch.ones(())))
    given: Any = linear.weight.grad
    assert torch.equal(given, wanted * scaler.get_scale())
    before = linear.weight.detach().clone()
    scaler.step(optimiser)
    assert torch.allclose(linear.weight, before - 0.1 * wanted)


@pytest.mark.parametrize("cell", [RevGRU, RevLSTM])
@pytest.mark.parametrize("way", ["data", "hooks"])
def test_input_that_changes_unseen_by_autograd_is_told(engine: str, cell: Any, way: str) -> None:
    """The way back meets it as an empty store or another state, and the error says of what."""
    torch.manual_seed(3)
    rnn, x = cell(3, 6), 2 * X
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t * 0.9):
        if way == "hooks":
            out, _ = rnn(x)
    if way == "data":
        out, _ = rnn(x)
        x.data.mul_(0.9)
    with pytest.raises(RevRNNError, match=r"with input as it was.*saved_tensors_hooks"):
        out.sum().backward()
