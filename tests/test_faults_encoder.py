"""PyTorch's encoders and measuring by chunks where something fails in the middle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_faults_torch import Setting, equal

from revrnn.torch_impl import encode, value


@pytest.mark.parametrize("place", ["embed", "readout"])
def test_measuring_and_encoding(place: str) -> None:
    """What has no gradients: buffers and random numbers."""
    setting = Setting()

    def call() -> Any:
        if place == "readout":
            data, targets = setting.data[:-1], setting.data[1:]
            return value(setting.rnn, data, targets, setting.loss, embed=setting.embedded).loss
        return encode(setting.rnn, setting.data, embed=setting.embedded)[0]

    calls = 0

    def trip(where: str) -> None:
        nonlocal calls
        calls += where == place
        if calls >= 2:  # the second one may be a trial, which goes on without an answer
            raise ValueError("here")

    setting.trip, before = trip, setting.everything()
    with pytest.raises(ValueError, match="here"):
        call()
    assert equal(setting.everything(), before)
    setting.trip = lambda where: None
    first = call().clone()
    setting = Setting()
    assert torch.equal(first, call())


def test_the_way_back_of_an_encoder() -> None:
    setting = Setting()
    context = encode(setting.rnn, setting.data, embed=setting.embedded)[0]
    buffers = [buffer.clone() for buffer in setting.model.buffers()]

    def trip(where: str) -> None:
        if where == "backward of embed":
            raise ValueError("here")

    setting.trip, random_state = trip, torch.get_rng_state()
    with pytest.raises(ValueError, match="here"):
        context.sum().backward()  # type: ignore[no-untyped-call]
    assert all(map(torch.equal, buffers, setting.model.buffers()))
    assert torch.equal(random_state, torch.get_rng_state())
