"""Inputs and targets that are dicts, lists and tuples of arrays are cut as one array is."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import CHUNK, ROWS, STEPS, WORDS, Model
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, encode, value, value_and_grad

F = functional
Pair = namedtuple("Pair", "tokens more")
CHUNKS = pytest.mark.parametrize("chunk_size", [1, CHUNK, STEPS])


def _tokens() -> Tensor:
    return torch.randint(WORDS, (STEPS, ROWS), generator=torch.Generator().manual_seed(1))


def _floats(size: int) -> Tensor:
    made = torch.randn(STEPS, ROWS, size, generator=torch.Generator().manual_seed(size))
    return made.requires_grad_()


def _gradient(of: Tensor) -> Tensor:
    """Return and forget a gradient."""
    made, of.grad = of.grad, None
    return torch.zeros_like(of) if made is None else made


INPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Any, Any]]]] = {
    "dict": (lambda x, f: {"x": x, "none": None, "f": f}, lambda d: (d["x"], d["f"])),
    "ordered dict": (lambda x, f: OrderedDict(x=x, f=f), lambda d: (d["x"], d["f"])),
    "tuple": (lambda x, f: (x, f), lambda d: d),
    "named tuple": (Pair, lambda d: (d.tokens, d.more)),
    "nested": (lambda x, f: [{"x": (x,)}, f], lambda d: (d[0]["x"][0], d[1])),
}


@CHUNKS
@pytest.mark.parametrize("kind", INPUTS)
def test_several_inputs_give_what_calling_the_module_gives(kind: str, chunk_size: int) -> None:
    make, take = INPUTS[kind]
    model, f = Model(), _floats(3)
    wide = nn.Linear(3, model.rnn.input_size)
    inputs, targets = make(_tokens(), f), _tokens()

    def embed(given: Any) -> Tensor:
        assert type(given) is type(inputs)
        tokens, more = take(given)
        made: Tensor = model.embed(tokens) + wide(more)
        return made

    def read(h: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model.linear(h).flatten(0, 1), y.flatten())

    model.wide = wide
    loss = read(model.rnn(embed(inputs))[0], targets)
    torch.autograd.backward(loss)
    wanted, of_floats = gradients_of(model), _gradient(f)
    given: dict[str, Any] = {"embed": embed, "chunk_size": chunk_size}
    streamed = value_and_grad(model.rnn, inputs, targets, read, **given)
    assert torch.allclose(streamed.loss, loss)
    assert torch.allclose(value(model.rnn, inputs, targets, read, **given).loss, loss)
    assert close(gradients_of(model), wanted)
    assert close({"f": _gradient(f)}, {"f": of_floats})


def _of_pair(h: Tensor, d: dict[str, Any]) -> tuple[Tensor, Tensor]:
    each = (h - d["y"]).square().sum(2)
    return (each * d["keep"]).sum(), d["keep"].sum()


READOUTS: dict[str, Callable[[Tensor, dict[str, Any]], Any]] = {
    "mean": lambda h, d: F.mse_loss(h, d["y"]),
    "over what counts": lambda h, d: _of_pair(h, d)[0] / _of_pair(h, d)[1],
    "sum and count": _of_pair,
    "by NumPy": lambda h, d: (h * torch.from_numpy(d["keep"].numpy()).unsqueeze(2)).sum(),
}


@CHUNKS
@pytest.mark.parametrize("kind", READOUTS)
def test_several_targets_give_the_loss_of_all_steps(kind: str, chunk_size: int) -> None:
    model, read, y = Model(), READOUTS[kind], _floats(6)
    targets = {"y": y, "keep": (_tokens() % 3 > 0).float(), "none": None}
    made = read(model.rnn(model.embed(_tokens()))[0], targets)
    loss = made[0] / made[1] if isinstance(made, tuple) else made
    torch.autograd.backward(loss)
    wanted, of_targets = gradients_of(model), _gradient(y)
    given: dict[str, Any] = {"embed": model.embed, "chunk_size": chunk_size}
    streamed = value_and_grad(model.rnn, _tokens(), targets, read, **given)
    assert torch.allclose(streamed.loss, loss)
    assert torch.allclose(value(model.rnn, _tokens(), targets, read, **given).loss, loss)
    assert close(gradients_of(model), wanted)
    assert close({"y": _gradient(y)}, {"y": of_targets})


def test_steps_of_several_must_not_depend_on_one_another() -> None:
    model, x = Model(), _tokens()
    calls: dict[str, Callable[[], Any]] = {
        "readout": lambda: value_and_grad(
            model.rnn,
            x,
            {"y": x, "w": torch.rand(STEPS, ROWS)},
            lambda h, d: (h.mean(2) * d["w"].softmax(0)).sum(),
            embed=model.embed,
            chunk_size=CHUNK,
        ),
        "embed": lambda: value_and_grad(
            model.rnn,
            {"x": x},
            x,
            lambda h, y: h.mean(),
            embed=lambda d: model.embed(d["x"].roll(1, 0)),
            chunk_size=CHUNK,
        ),
    }
    for name, call in calls.items():
        with pytest.raises(RevRNNError, match="along the steps") as caught:
            call()
        assert caught.value.argument == name


def test_what_is_computed_of_several_is_followed_so_that_nothing_is_tried() -> None:
    model, x, calls = Model(), _tokens(), list[str]()

    def embed(d: dict[str, Tensor]) -> Tensor:
        calls.append("embed")
        made: Tensor = model.embed(d["x"]) * d["x"].unsqueeze(2)
        return made

    def read(h: Tensor, d: tuple[Tensor, Tensor]) -> Tensor:
        calls.append("readout")
        return (F.mse_loss(h, d[0], reduction="none").mean(2) * d[1]).mean()

    targets = _floats(6).detach(), torch.rand(STEPS, ROWS)
    value(model.rnn, {"x": x}, targets, read, embed=embed, chunk_size=CHUNK)
    assert calls == ["embed", "readout"] * -(-STEPS // CHUNK)


def test_members_of_a_sequence_are_steps() -> None:
    model, x = Model(), _tokens()
    seen: list[Any] = []

    def read(h: Tensor, y: Any) -> Tensor:
        seen.append(y)
        return h.square().mean()

    for targets in ([0] * STEPS, (0,) * STEPS, {"y": [0] * STEPS}):
        value(model.rnn, x, targets, read, embed=model.embed, chunk_size=STEPS)
        assert seen.pop() == targets


def test_an_encoder_takes_several_inputs() -> None:
    rnn, inputs = RevGRU(3, 6, slice_size=2), (_floats(3), {"more": _floats(1)})
    wanted = rnn.encode(inputs[0] + inputs[1]["more"]).context
    assert wanted is not None
    torch.autograd.backward(wanted.square().sum())
    gradients = gradients_of(rnn), _gradient(inputs[0])
    context, _, _ = encode(rnn, inputs, embed=lambda d: d[0] + d[1]["more"], chunk_size=CHUNK)
    assert torch.equal(context, wanted)
    torch.autograd.backward(context.square().sum())
    assert close(gradients_of(rnn), gradients[0])
    assert close({"f": _gradient(inputs[0])}, {"f": gradients[1]})


X, Y = torch.zeros(STEPS, ROWS).long(), torch.zeros(STEPS, ROWS)


def _several(x: Any) -> Tensor:
    return torch.zeros(STEPS, ROWS, 4)


BAD: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no embed": ("E_DTYPE", "inputs", {"inputs": {"x": X}, "embed": None}),
    "embedding": ("E_DTYPE", "inputs", {"inputs": (X,), "embed": nn.Embedding(3, 4)}),
    "nothing": ("E_DTYPE", "inputs", {"inputs": {}}),
    "none": ("E_DTYPE", "inputs", {"inputs": None}),
    "numbers": ("E_DTYPE", "inputs['x'][0]", {"inputs": {"x": [1.0]}}),
    "steps": ("E_SHAPE", "inputs['z']", {"inputs": {"x": X, "z": X[1:]}}),
    "rows": ("E_SHAPE", "inputs[1]", {"inputs": [X, X[:, 1:]]}),
    "one axis": ("E_SHAPE", "inputs['z']", {"inputs": {"x": X, "z": X[:, 0]}}),
    "another dict": ("E_DTYPE", "inputs", {"inputs": type("Own", (dict,), {})(x=X)}),
    "packed": (
        "E_DTYPE",
        "inputs['x']",
        {"inputs": {"x": pack_padded_sequence(Y, [STEPS] * ROWS)}},
    ),
    "targets' steps": ("E_SHAPE", "targets['z']", {"targets": {"y": Y, "z": Y[1:]}}),
    "targets' kind": ("E_ARGUMENT", "targets['z']", {"targets": {"y": Y, "z": 3}}),
    "packed targets": (
        "E_ARGUMENT",
        "targets",
        {"targets": pack_padded_sequence(Y, [STEPS] * ROWS)},
    ),
    "no targets": ("E_ARGUMENT", "targets", {"targets": {}}),
    "targets' dict": ("E_ARGUMENT", "targets", {"targets": type("Own", (dict,), {})(y=Y)}),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_what_does_not_fit_is_named_with_its_place(case: str) -> None:
    code, name, changes = BAD[case]
    given: dict[str, Any] = {"inputs": X, "targets": Y, "embed": _several} | changes
    for run in (value_and_grad, value):
        with pytest.raises(RevRNNError) as caught:
            run(RevGRU(4, 6), given["inputs"], given["targets"], _never, embed=given["embed"])
        assert (caught.value.code, caught.value.argument) == (code, name)


def _never(h: Tensor, y: Any) -> Tensor:
    raise AssertionError
