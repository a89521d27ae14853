"""A call by chunks that fails puts buffers of every kind back, and its error is the caller's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_outer_graph import Model, _data
from torch import Tensor, nn

from revrnn import RevRNNError
from revrnn.torch_impl import value, value_and_grad


def _nested() -> Tensor:
    parts = [torch.ones(2), torch.ones(3)]
    made: Tensor = torch.nested.nested_tensor(parts, layout=torch.jagged)
    return made


BUFFERS: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "of several lengths": _nested,
    "without numbers": lambda: torch.ones(3, device="meta"),
    "whole": lambda: torch.ones(3),
}


def numbers(buffer: Tensor) -> list[Tensor]:
    if buffer.is_meta:
        return []
    return [part.to_dense() for part in (buffer.unbind() if buffer.is_nested else [buffer])]


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("kind", BUFFERS)
def test_buffers_of_every_kind_are_put_back(kind: str, changes: bool) -> None:
    model, (x, y, _) = Model(), _data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of what is new
        model.embed.register_buffer("kept", BUFFERS[kind]())
        wanted = numbers(BUFFERS[kind]())

    def fail(outputs: Tensor, targets: Tensor) -> Tensor:
        torch.rand(())
        if changes:
            kept: Any = model.embed.kept
            kept.mul_(2)
        raise KeyError(kind)

    random = torch.get_rng_state()
    for run in (value_and_grad, value):
        with torch.no_grad(), pytest.raises(KeyError, match=kind):
            run(model.rnn, x, y, fail, embed=model.embed)
        kept: Any = model.embed.kept
        pairs = zip(numbers(kept), wanted, strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert torch.equal(torch.get_rng_state(), random)
    assert value_and_grad(model.rnn, x, y, model.read, embed=model.embed).loss.isfinite()


def test_a_buffer_without_a_shape_is_named() -> None:
    model, (x, y, _) = Model(), _data()
    ends = nn.Flatten(0, 1), nn.Unflatten(0, (-1, x.shape[1]))
    embed = nn.Sequential(model.embed, ends[0], nn.LazyBatchNorm1d(), ends[1])
    with pytest.raises(RevRNNError, match="LazyBatchNorm1d") as caught:
        value_and_grad(model.rnn, x, y, model.read, embed=embed)
    assert (caught.value.code, caught.value.argument) == ("E_UNSUPPORTED", "embed")
    embed(x)
    assert value_and_grad(model.rnn, x, y, model.read, embed=embed).loss.isfinite()
