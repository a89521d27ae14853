"""An ``embed`` whose steps depend on one another is refused; another is called once a chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_torch_losses import CHUNK, ROWS, STEPS, WORDS, Model
from torch import Tensor, nn
from torch.nn import functional
from torch_results import close, gradients_of

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, encode, rev_rnn, value, value_and_grad

F = functional
SIZE, _AHEAD = 4, (0, 0, 0, 0, 9, 0)
ROWS_OWN = torch.linspace(-1, 1, ROWS)[:, None]
PLACES = torch.linspace(-1, 1, STEPS)[:, None, None]
CONV, GRU = nn.Conv1d(SIZE, SIZE, 3, padding=1), nn.GRU(SIZE, SIZE)
ONE, NORM, LAYER = nn.Conv1d(SIZE, SIZE, 1), nn.BatchNorm1d(SIZE), nn.Linear(SIZE, SIZE)


def _read(h: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(h, y)


def _floats() -> Tensor:
    return torch.randn(STEPS, ROWS, SIZE, generator=torch.Generator().manual_seed(1))


def _targets() -> Tensor:
    return torch.randn(STEPS, ROWS, 6, generator=torch.Generator().manual_seed(2))


Embed = Callable[[Tensor], Tensor]
MIXED: dict[str, Embed] = {
    "convolution": lambda x: CONV(x.permute(1, 2, 0)).permute(2, 0, 1),
    "recurrent layer": lambda x: GRU(x)[0],
    "attention": lambda x: F.scaled_dot_product_attention(*(x.transpose(0, 1),) * 3).transpose(
        0, 1
    ),
    "running sum": lambda x: x.cumsum(0),
    "differences": lambda x: torch.cat([x[:1] * 0, x[1:] - x[:-1]]),
    "centred": lambda x: x - x.mean(0),
    "scaled": lambda x: x / x.abs().max(),
    "standardised": lambda x: x / ((x - x.mean(0)).square().sum(0) / (len(x) - 1)).sqrt(),
    "ranged": lambda x: (x - x.amin(0)) / (x.amax(0) - x.amin(0)),
    "scaled where it is large": lambda x: x / x.abs().max().clamp(min=50),
    "scaled by a number": lambda x: x * float(x.abs().max()),
    "positions": lambda x: x + PLACES[: len(x)],
    "NumPy": lambda x: torch.from_numpy(x.numpy().cumsum(0)),
    "chunk's length": lambda x: x * len(x),
    "padded, with dropout": lambda x: F.pad(F.dropout(x, 0.5), (0, 0, 0, 0, 1, 0))[:-1],
    "step by step": lambda x: torch.stack([step * k for k, step in enumerate(x)]),
    "a lag longer than two chunks": lambda x: x if len(x) < 10 else x + F.pad(x[:-9], _AHEAD),
    "a lag, without an if": lambda x: x + F.pad(x[:-9], (0, 0, 0, 0, min(9, len(x)), 0)),
    "turned where it is long": lambda x: x.flip(0) if x.shape[0] > 5 else x,
    "twice where it is long": lambda x: x * 2 if x.size(0) > 10 else x * 1,
    "BatchNorm and a shift": lambda x: NORM(x.permute(1, 2, 0)).permute(2, 0, 1).roll(1, 0),
}
APART: dict[str, Embed] = {
    "convolution of one step": lambda x: ONE(x.permute(1, 2, 0)).permute(2, 0, 1),
    "every step": lambda x: torch.stack([LAYER(step) for step in x]),
    "over rows": lambda x: x - x.mean(1, keepdim=True),
    "asked for its shape": lambda x: x.reshape(x.shape[0], x.shape[1], -1) * (len(x) > 0),
    "as many rows as it knows": lambda x: x.view(len(x), ROWS, SIZE) + ROWS_OWN,
}
ONCE: dict[str, Embed] = {
    "layers": lambda x: nn.Sequential(LAYER, nn.GELU(), nn.LayerNorm(SIZE))(x),
    "joined": lambda x: LAYER(torch.cat([x[..., :2], x[..., 2:].tanh()], -1)),
    "dropout of ones": lambda x: x * F.dropout(torch.ones_like(x), 0.5),
    "flat": lambda x: NORM(x.flatten(0, 1)).view_as(x),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_functions_along_the_steps_are_refused(name: str) -> None:
    model, x, y, embed = Model(), _floats(), _targets(), MIXED[name]
    state = torch.get_rng_state()
    for run, size in ((value_and_grad, CHUNK), (value, CHUNK), (value, 1)):
        with pytest.raises(RevRNNError, match="along the steps") as caught:
            run(model.rnn, x, y, _read, embed=embed, chunk_size=size)
        assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", "embed")
        assert not gradients_of(model)
        assert torch.equal(torch.get_rng_state(), state)
    value(model.rnn, x, y, _read, embed=embed, chunk_size=STEPS)


def test_recurrent_layers_go_by_their_own_names() -> None:
    model, inner = Model(), RevGRU(SIZE, SIZE, slice_size=2)
    wide = nn.Linear(2, SIZE)
    of_features = RevLSTM(1, SIZE)
    given: dict[str, Embed] = {
        "RevGRU": lambda x: inner(x)[0],
        "encode": lambda x: wide(encode(inner, x)[0]),
        "rev_rnn": lambda x: rev_rnn(x, dict(inner.named_parameters()), inner.config).outputs,
    }
    for name, embed in given.items():
        with pytest.raises(RevRNNError, match=f"{name} along the steps") as caught:
            value(model.rnn, _floats(), _targets(), _read, embed=embed, chunk_size=CHUNK)
        assert caught.value.argument == "embed"

    def read(h: Tensor, y: Tensor) -> Tensor:
        return _read(inner(h[..., :SIZE])[0], y[..., :SIZE])

    with pytest.raises(RevRNNError, match="RevGRU along the steps"):
        value(model.rnn, _floats(), _targets(), read, chunk_size=CHUNK)

    def over_features(x: Tensor) -> Tensor:
        last: Tensor = of_features(x.reshape(-1, SIZE).t().unsqueeze(2))[1][0]
        return last.view(x.shape)

    loss = _read(model.rnn(over_features(_floats()))[0], _targets())
    made = value(
        model.rnn, _floats(), _targets(), _read, embed=over_features, chunk_size=CHUNK
    ).loss
    assert torch.allclose(made, loss)


def test_encoders_refuse_them_too() -> None:
    model = Model()
    model.rnn.config = type(model.rnn.config)("revgru", SIZE, 6, slice_size=2)
    with pytest.raises(RevRNNError, match="along the steps"):
        encode(model.rnn, _floats(), embed=MIXED["convolution"], chunk_size=CHUNK)


@pytest.mark.parametrize("name", APART)
def test_functions_that_keep_steps_apart_are_taken(name: str) -> None:
    model, x, y, embed = Model(), _floats(), _targets(), APART[name]
    loss: Any = _read(model.rnn(embed(x))[0], y)
    loss.backward()
    wanted = gradients_of(model)
    for size in (1, CHUNK):
        model.zero_grad()
        step = value_and_grad(model.rnn, x, y, _read, embed=embed, chunk_size=size)
        assert torch.allclose(step.loss, loss.detach(), rtol=1e-5)
        assert close(gradients_of(model), wanted)


@pytest.mark.parametrize("name", ONCE)
def test_functions_of_each_step_are_called_once_a_chunk(name: str) -> None:
    model, x, y, calls = Model(), _floats(), _targets(), list[int]()

    def embed(x: Tensor) -> Tensor:
        calls.append(x.numel() // (ROWS * SIZE))  # len() would have more steps tried
        return ONCE[name](x)

    value(model.rnn, x, y, _read, embed=embed, chunk_size=CHUNK)
    assert calls == [4, 4, 4, 2]


def test_rows_of_a_table_are_taken_once_a_chunk() -> None:
    model, y, calls = Model(), _targets(), list[int]()
    tokens = torch.randint(WORDS, (STEPS, ROWS))
    table = torch.linspace(-1, 1, WORDS * SIZE).view(WORDS, SIZE)

    def embed(tokens: Tensor) -> Tensor:
        calls.append(tokens.numel() // ROWS)
        return table[tokens] + F.embedding(tokens, table) + F.one_hot(tokens, WORDS).float() @ table

    value(model.rnn, tokens, y, _read, embed=embed, chunk_size=CHUNK)
    assert calls == [4, 4, 4, 2]
