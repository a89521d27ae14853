"""Encoders whose slices attention uses: by a call, and by chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_torch_streaming import ROWS, STEPS, WORDS, Model
from torch import nn
from torch_results import both, close, gradients_of, same, tensors_of

from revrnn.torch_impl import RevGRU, encode


@both
@pytest.mark.rule("SEQ-007")
def test_encoder_slices_carry_gradients(kind: Any) -> None:
    torch.manual_seed(7)
    module, x = kind(3, 8, 2, slice_size=3), torch.randn(20, 2, 3)
    mask = torch.arange(20)[:, None] < torch.tensor([20, 11])
    weights = torch.randn(20, 2, 3)
    outputs, last = module(x, mask=mask)
    ((outputs[:, :, :3] * weights).sum() + tensors_of(last)[0].sum()).backward()
    wanted = gradients_of(module)
    out = module.encode(x, mask=mask)
    assert out.outputs.shape == (0, 2, 8)
    assert torch.equal(out.context, outputs[:, :, :3])
    ((out.context * weights).sum() + out.h_n.sum()).backward()
    assert same(gradients_of(module), wanted)


@both
def test_streaming_encoder(kind: Any) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(WORDS, (STEPS + 1, ROWS))
    model = Model(kind, slice_size=2)
    embed = nn.Sequential(model.embed, nn.Tanh())
    mask = torch.arange(STEPS)[:, None] < torch.tensor([14, 6, 1])
    weights = torch.randn(STEPS, ROWS, 2)
    out = model.rnn.encode(embed(tokens[:-1]), mask=mask)
    ((out.context * weights).sum() + out.h_n.sum()).backward()
    wanted = gradients_of(model)
    context, h_n, c_n = encode(model.rnn, tokens[:-1], embed=embed, mask=mask)
    assert torch.equal(context, out.context)
    assert (c_n is None) == (kind is RevGRU)
    loss: Any = (context * weights).sum() + h_n.sum()
    loss.backward()
    assert close(gradients_of(model), wanted)
