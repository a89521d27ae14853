"""``embed`` is called twice: its modules' buffers and random numbers are as after one call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_torch_outer_graph import ROWS, Model, _data
from torch import Tensor, nn
from torch.nn import functional
from torch_results import close, gradients_of, same

from revrnn import RevRNNError
from revrnn.torch_impl import LockedDropout, value
from revrnn.torch_impl import value_and_grad as vg


def test_modules_with_a_memory_are_as_after_one_call_a_chunk() -> None:
    """BatchNorm and spectral normalisation in embed: buffers, loss and gradients."""
    _, (x, y, _) = Model(), _data()
    results = []
    for streamed in (False, True):
        model = Model()
        norm = nn.BatchNorm1d(4)
        power = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        model.add_module("more", nn.ModuleList([norm, power]))

        def embed(tokens: Tensor, model: Any = model, norm: Any = norm, power: Any = power) -> Any:
            return power(norm(model.embed(tokens).flatten(0, 1))).unflatten(0, (-1, ROWS))

        if streamed:
            loss = vg(model.rnn, x, y, model.read, embed=embed, chunk_size=4).loss
        else:
            parts = [embed(part) for part in torch.split(x, 4)]
            loss = model.read(model.rnn(torch.cat(parts))[0], y)
            loss.backward()  # type: ignore[no-untyped-call]
        buffers = {name: value.clone().float() for name, value in model.named_buffers()}
        results.append((gradients_of(model), buffers, loss.detach()))
    assert torch.allclose(results[0][2], results[1][2], rtol=1e-5)
    assert close(results[1][0], results[0][0])
    assert same(results[1][1], results[0][1])
    assert results[0][1]["more.0.num_batches_tracked"] == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_compiled_by_jit_are_as_after_one_call_a_chunk() -> None:
    """Their buffers are no dict; a call that fails leaves them as they were."""
    (x, y, _), counted = _data(), []
    for jit in (False, True):
        model = Model()
        norm: Any = nn.BatchNorm1d(4)
        if jit:
            norm = torch.jit.script(norm)

        def embed(tokens: Tensor, model: Any = model, norm: Any = norm) -> Any:
            return norm(model.embed(tokens).transpose(1, 2)).transpose(1, 2)

        def fail(h: Tensor, y: Tensor, model: Any = model) -> Any:
            raise KeyError

        loss = vg(model.rnn, x, y, model.read, embed=embed, chunk_size=len(x)).loss
        with pytest.raises(KeyError):
            vg(model.rnn, x, y, fail, embed=embed, chunk_size=len(x))
        counted.append({"loss": loss, **norm.state_dict()})
    assert counted[0]["num_batches_tracked"] == 1
    assert same(counted[0], counted[1])
    scripted = torch.jit.script(nn.MSELoss())
    made = value(model.rnn, x, torch.zeros(*x.shape, 6), scripted, embed=model.embed, chunk_size=4)
    assert torch.allclose(made.loss, model.rnn(model.embed(x))[0].square().mean())


def test_an_embed_that_does_not_repeat_itself_is_named() -> None:
    model, (x, y, _) = Model(), _data()
    calls: list[int] = []

    def embed(tokens: Tensor) -> Tensor:
        calls.append(1)
        made: Tensor = model.embed(tokens) * len(calls)
        return made

    with pytest.raises(RevRNNError, match=r"embed.*repeats itself") as caught:
        vg(model.rnn, x, y, model.read, embed=embed)
    assert (caught.value.code, caught.value.argument) == ("E_REVERSAL", "embed")
    assert not gradients_of(model)


def test_data_changed_in_place_are_what_the_caller_gave() -> None:
    """By ``embed``, called twice, and by a readout, of which parts are tried."""
    model, (x, y, _) = Model(), _data()

    def embed(tokens: Tensor) -> Tensor:
        tokens -= 1
        made: Tensor = model.embed(tokens)
        return made

    def read(outputs: Tensor, targets: Tensor) -> Tensor:
        targets -= 1
        targets[targets == 0] = -100
        return functional.cross_entropy(model.linear(outputs).flatten(0, 1), targets.flatten())

    whole = read(model.rnn(embed(x + 1))[0], y + 1)
    whole.backward()  # type: ignore[no-untyped-call]
    wanted = gradients_of(model)
    model.zero_grad()
    given = x + 1, y + 1
    loss = vg(model.rnn, *given, read, embed=embed, chunk_size=4).loss
    assert torch.allclose(loss, whole, rtol=1e-5)
    assert close(gradients_of(model), wanted)
    assert torch.equal(given[0], x + 1)
    assert torch.equal(given[1], y + 1)
    assert torch.allclose(value(model.rnn, *given, read, embed=embed).loss, loss, rtol=1e-5)


def test_locked_dropout_is_found_wherever_it_is() -> None:
    model, (x, y, _) = Model(), _data()
    drop, seen = LockedDropout(0.5), []

    def embed(tokens: Tensor) -> Tensor:
        made: Tensor = drop(torch.ones_like(model.embed(tokens)))
        seen.append(made[0] == 0)
        return functional.dropout(model.embed(tokens), 0.2) * made

    for _ in range(2):
        vg(model.rnn, x, y, lambda h, y: model.read(h, y), embed=embed, chunk_size=4)
    assert all(torch.equal(seen[0], mask) for mask in seen[:6])
    assert not torch.equal(seen[0], seen[6])
