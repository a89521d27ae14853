"""Streaming where gradients go on: encoders, prefixes, float inputs, modules with a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch_results import close, gradients_of, same

from revrnn import RevRNNError
from revrnn.torch_impl import LinearCrossEntropy, RevGRU, RevLSTM, encode, value
from revrnn.torch_impl import value_and_grad as vg

STEPS, ROWS, WORDS = 10, 3, 11


class Model(nn.Module):
    """A decoder and an encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.far = nn.GRU(4, 6), RevGRU(4, 6)
        self.embed, self.rnn = nn.Embedding(WORDS, 4), RevGRU(4, 6)
        self.linear = nn.Linear(6, WORDS)
        self.to_input = nn.Linear(6, 4)

    def read(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss."""
        logits = self.linear(outputs)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _data() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    tokens = torch.randint(WORDS, (STEPS + 1, ROWS))
    return tokens[:-1], tokens[1:], torch.randn(5, ROWS, 4)


@pytest.mark.parametrize("encoder", ["encoder", "far"])
@pytest.mark.parametrize("every", [None, 4])
def test_graphs_of_embed_and_readout_get_their_gradient(encoder: str, every: int | None) -> None:
    """An encoder, our own too, seen by embed and readout in every chunk; hooks see the whole."""
    model, (x, y, source) = Model(), _data()
    seen: list[Tensor] = []

    def double(gradient: Tensor) -> Tensor:
        seen.append(gradient)
        return 2 * gradient

    def parts() -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor], Tensor]:
        context, last = getattr(model, encoder)(source)
        pooled: Any = torch.tanh(context).mean(0)
        pooled.register_hook(double)

        def embed(tokens: Tensor) -> Tensor:
            made: Tensor = model.embed(tokens) + model.to_input(pooled)
            return made

        return embed, lambda h, y: model.read(h + pooled * last[0], y), last

    embed, read, last = parts()
    loss: Any = read(model.rnn(embed(x), last)[0], y)
    loss.backward()
    wanted, hooked = gradients_of(model), seen[-1]
    embed, read, last = parts()
    streamed = vg(
        model.rnn,
        x,
        y,
        read,
        embed=embed,
        hx=last,
        chunk_size=4,
        checkpoint_every=every,
        through_hx=True,
    )
    assert torch.allclose(streamed.loss, loss, rtol=1e-5)
    assert close(gradients_of(model), wanted)
    assert torch.allclose(seen[-1], hooked, rtol=1e-4, atol=1e-6)
    if encoder == "encoder":  # or carried on by hand
        embed, read, last = parts()
        streamed = vg(model.rnn, x, y, read, embed=embed, hx=last, chunk_size=4)
        torch.autograd.backward(last, streamed.grad_hx)
        assert close(gradients_of(model), wanted)
    with torch.no_grad():
        only = value(model.rnn, x, y, read, embed=embed, hx=last, chunk_size=4)
    assert torch.allclose(only.loss, loss, rtol=1e-5)


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("leaf", [False, True])
def test_float_inputs_and_targets_get_their_gradient(embedded: bool, leaf: bool) -> None:
    model, (_, _, _) = Model(), _data()
    source = torch.randn(STEPS, ROWS, 4, requires_grad=True)
    aim = torch.randn(STEPS, ROWS, 6, requires_grad=True)
    embed = nn.Sequential(nn.Linear(4, 4), nn.Tanh()) if embedded else None

    def read(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()

    results: list[Any] = []
    for streamed in (False, True):
        inputs, targets = (source, aim) if leaf else (source.sin(), aim.cos())
        if streamed:
            vg(model.rnn, inputs, targets, read, embed=embed, chunk_size=4)
        else:
            given = inputs if embed is None else embed(inputs)
            loss: Any = read(model.rnn(given)[0], targets)
            loss.backward()
        results.append(gradients_of(model) | {"x": source.grad, "y": aim.grad})
        source.grad = aim.grad = None
    assert close(results[1], results[0])


def test_writes_of_input_gradients_do_not_grow_with_the_square_of_steps() -> None:
    """The bytes that operations make for twice the steps are about twice as many."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Written(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = f(*args, **(kwargs or {}))
            if isinstance(made, Tensor):
                self.total += (
                    made.untyped_storage().nbytes()
                    if f._schema.name.endswith(
                        ("zeros", "slice_backward", "new_zeros", "zeros_like")
                    )
                    else 0
                )
            return made

    sizes = []
    for steps in (64, 128):
        x = torch.randn(steps, 2, 4, requires_grad=True)
        with Written() as mode:  # type: ignore[no-untyped-call]
            vg(RevGRU(4, 2), x, x.detach(), lambda h, y: h.square().mean(), chunk_size=4)
        sizes.append(mode.total)
    assert sizes[1] < 2.5 * sizes[0]


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_gradients_are_the_same_in_every_mode(mode: str) -> None:
    model, (x, y, _) = Model(), _data()
    for embed in (model.embed, nn.Sequential(model.embed, nn.Tanh())):
        vg(model.rnn, x, y, model.read, embed=embed)
        wanted = gradients_of(model)
        with MODES[mode]():
            vg(model.rnn, x + 0, y + 0, model.read, embed=embed)
        assert same(gradients_of(model), wanted)


@pytest.mark.parametrize("frozen", ["embed", "rnn", "linear"])
def test_frozen_parts_get_no_gradient(frozen: str) -> None:
    model, (x, y, _) = Model(), _data()
    vg(model.rnn, x, y, model.read, embed=model.embed)
    wanted = gradients_of(model)
    getattr(model, frozen).requires_grad_(False)
    for read in (model.read, LinearCrossEntropy(model.linear)):
        vg(model.rnn, x, y, read, embed=model.embed)
        own = gradients_of(model)
        assert close(own, {n: g for n, g in wanted.items() if not n.startswith(frozen)})


def test_a_failure_in_the_backward_pass_leaves_gradients_alone() -> None:
    model, (x, y, _) = Model(), _data()
    calls: list[int] = []

    def read(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("mine")
        return model.read(outputs, targets)

    with pytest.raises(KeyError, match="mine"):
        vg(model.rnn, x, y, read, embed=model.embed, chunk_size=4)
    assert not gradients_of(model)


def test_a_tensor_that_embed_leaves_for_the_readout() -> None:
    """A connection past the stack, chunk by chunk."""
    model, (x, y, _) = Model(), _data()
    kept: list[Tensor] = []

    def embed(tokens: Tensor) -> Tensor:
        kept[:] = [torch.tanh(model.embed(tokens))]
        return kept[0] * 2

    def read(outputs: Tensor, targets: Tensor) -> Tensor:
        return model.read(outputs + kept[0].repeat(1, 1, 2)[:, :, :6], targets)

    loss: Any = read(model.rnn(embed(x))[0], y)
    loss.backward()
    wanted = gradients_of(model)
    streamed = vg(model.rnn, x, y, read, embed=embed, chunk_size=4)
    assert torch.allclose(streamed.loss, loss, rtol=1e-5)
    assert close(gradients_of(model), wanted)


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_encode_gives_autograd_what_embed_uses(kind: Any) -> None:
    """By torch.autograd.grad too; on an outer graph; for float inputs."""
    torch.manual_seed(0)
    model: Any = nn.ModuleDict({"embed": nn.Linear(4, 4), "rnn": kind(4, 6, slice_size=2)})
    outer, source = nn.Linear(3, 4), torch.randn(STEPS, ROWS, 4, requires_grad=True)
    weights, side = torch.randn(STEPS, ROWS, 2), torch.randn(ROWS, 3)
    results: list[Any] = []
    for streamed in (False, True):
        beside = torch.tanh(outer(side))

        def embed(part: Tensor, beside: Tensor = beside) -> Tensor:
            made: Tensor = torch.tanh(model["embed"](part) + beside)
            return made

        if streamed:
            context, _, _ = encode(model["rnn"], source, embed=embed, chunk_size=4)
        else:
            context = model["rnn"].encode(embed(source)).context
        loss: Any = (context * weights).sum() + beside.sum()
        loss.backward()
        results.append(gradients_of(model) | {"x": source.grad} | gradients_of(outer))
        source.grad = None
    assert close(results[1], results[0])
    context, _, _ = encode(model["rnn"], source, embed=model["embed"], chunk_size=4)
    of_both = torch.autograd.grad(context.sum(), [model["embed"].weight, source])
    assert all(g.any() for g in of_both)


def test_checkpoints_in_a_readout() -> None:
    """They compute again what they did; those that begin a backward pass of their own cannot."""
    model, (x, y, _) = Model(), _data()
    vg(model.rnn, x, y, model.read, embed=model.embed, chunk_size=4)
    wanted = gradients_of(model)

    def read(outputs: Tensor, targets: Tensor, reentrant: bool = False) -> Any:
        return checkpoint(model.read, outputs, targets, use_reentrant=reentrant)

    vg(model.rnn, x, y, read, embed=model.embed, chunk_size=4)
    assert close(gradients_of(model), wanted)
    with pytest.raises(RevRNNError, match="use_reentrant"):
        vg(model.rnn, x, y, lambda h, y: read(h, y, True), embed=model.embed)
    assert not gradients_of(model)
