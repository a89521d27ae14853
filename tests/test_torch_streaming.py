"""Training by chunks: the same states and gradients as the drop-in path, and nothing large."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_results import both, close, gradients_of, same, tensors_of

from revrnn import RevRNNError
from revrnn.torch_impl import (
    LinearCrossEntropy,
    LockedDropout,
    RevGRU,
    RevLSTM,
    engine,
    value,
    value_and_grad,
)

STEPS, ROWS, WORDS = 14, 3, 11


class Model(nn.Module):
    """A small language model."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 4)
        self.rnn = kind(4, 6, **settings)
        self.readout = nn.Linear(6, WORDS)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        logits = self.readout(outputs)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.fixture
def tokens() -> Tensor:
    """Give tokens for inputs and targets."""
    torch.manual_seed(0)
    return torch.randint(WORDS, (STEPS + 1, ROWS))


@both
@pytest.mark.rule("GRAD-020", "SEQ-008")
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "dropout": 0.3, "weight_drop": 0.2}])
@pytest.mark.parametrize("name", ["auto", "eager"])
def test_streaming_equals_the_drop_in_path(
    kind: Any, name: str, settings: dict[str, Any], tokens: Tensor
) -> None:
    """States and the recurrent gradients bit for bit at one chunk size, all close at others."""
    with engine(name):
        compare_with_the_drop_in_path(kind, settings, tokens)


def compare_with_the_drop_in_path(kind: Any, settings: dict[str, Any], tokens: Tensor) -> None:
    model = Model(kind, **settings)
    state = model.rnn.initial_state(ROWS)
    torch.manual_seed(1)
    outputs, end = model.rnn(model.embed(tokens[:-1]), state)
    loss: Any = model.loss(outputs, tokens[1:])
    loss.backward()
    wanted = gradients_of(model)
    for chunk in (1, 2, 7, 14, 16):
        torch.manual_seed(1)
        streamed = value_and_grad(
            model.rnn,
            tokens[:-1],
            tokens[1:],
            model.loss,
            embed=model.embed,
            state=state,
            chunk_size=chunk,
        )
        assert torch.allclose(streamed.loss, loss, rtol=1e-5)
        for a, b in zip(tensors_of(streamed.state), tensors_of(end), strict=True):
            assert torch.equal(a, b)
        gradients = gradients_of(model)
        assert close(gradients, wanted)
        if chunk == 16:
            assert same(gradients, wanted)
    torch.manual_seed(1)
    again = value_and_grad(
        model.rnn, tokens[:-1], tokens[1:], model.loss, embed=model.embed, state=state
    )
    assert torch.equal(again.loss, streamed.loss)
    assert same(gradients_of(model), wanted)


@both
@pytest.mark.rule("GRAD-004")
def test_float_initial_states(kind: Any, tokens: Tensor) -> None:
    """A decoder starts from what an encoder ended with, and its gradient goes back there."""
    model = Model(kind, num_layers=2)
    number = model.rnn.config.state_arrays
    parts = [torch.randn(2, ROWS, 6).div(2).requires_grad_() for _ in range(number)]
    hx: Any = tuple(parts) if number == 2 else parts[0]
    outputs, _ = model.rnn(model.embed(tokens[:-1]), hx)
    loss: Any = model.loss(outputs, tokens[1:])
    loss.backward()
    wanted = gradients_of(model)
    streaming = (model.rnn, tokens[:-1], tokens[1:], model.loss)
    streamed = value_and_grad(*streaming, embed=model.embed, hx=hx)
    assert torch.allclose(streamed.loss, loss, rtol=1e-5)
    assert same(gradients_of(model), wanted)
    grads = (streamed.grad_hx,) if isinstance(streamed.grad_hx, Tensor) else streamed.grad_hx
    assert grads is not None
    for part, grad in zip(parts, grads, strict=True):
        assert part.grad is not None
        assert torch.equal(part.grad, grad)
    assert torch.equal(value(*streaming, embed=model.embed, hx=hx).loss, streamed.loss)
    assert value_and_grad(*streaming, embed=model.embed).grad_hx is None
    with pytest.raises(RevRNNError, match="hx"):
        value(*streaming, embed=model.embed, hx=hx, state=model.rnn.initial_state(ROWS))
    with pytest.raises(RevRNNError, match="hx"):
        value(*streaming, embed=model.embed, hx=(*parts, *parts))  # type: ignore[arg-type]
    model.zero_grad()


@both
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_added_in_place_are_those_of_autograd(
    kind: Any, reduction: str, tokens: Tensor
) -> None:
    """A known readout and embedding, shared weight, padding and ignored targets included."""
    model = Model(kind)
    model.embed = nn.Embedding(WORDS, 4, padding_idx=3)
    narrow = nn.Linear(4, WORDS)
    narrow.weight = model.embed.weight
    targets = tokens[1:].clone()
    targets[2:4, 1] = 5
    down = nn.Linear(6, 4)
    for linear, ready in ((model.readout, None), (narrow, down)):
        readout = LinearCrossEntropy(linear, ignore_index=5, reduction="sum")

        def through(
            outputs: Tensor, targets: Tensor, readout: Any = readout, ready: Any = ready
        ) -> Tensor:
            loss: Tensor = readout(outputs if ready is None else ready(outputs), targets)
            return loss

        results = []
        plain: Any = nn.Sequential(model.embed)  # autograd's way
        for embed, read in ((plain, through), (model.embed, through if ready else readout)):
            streamed = value_and_grad(
                model.rnn,
                tokens[:-1],
                targets,
                read,
                embed=embed,
                reduction=reduction,
                chunk_size=4,
                loss_scale=2.0,
            )
            results.append((streamed.loss, gradients_of(model)))
            down.zero_grad()
        assert torch.allclose(results[0][0], results[1][0], rtol=1e-5)
        assert close(results[1][1], results[0][1])
        assert set(results[0][1]) >= {"embed.weight", "rnn.bias_l0"}
    mean = LinearCrossEntropy(model.readout)
    by_value = [
        value(model.rnn, tokens[:-1], tokens[1:], read, embed=model.embed).loss
        for read in (mean, model.loss)
    ]
    assert torch.allclose(by_value[0], by_value[1], rtol=1e-5)
    with pytest.raises(RevRNNError, match="reduction"):
        LinearCrossEntropy(model.readout, reduction="none")


@both
def test_dropout_everywhere_repeats(kind: Any, tokens: Tensor) -> None:
    """Random inputs are the same in the backward pass: gradients are those of what was computed."""
    model = Model(kind, num_layers=2, dropout=0.2, locked_dropout=True, weight_drop=0.3)
    embed = nn.Sequential(model.embed, LockedDropout(0.4), nn.Dropout(0.3))
    seen: list[Tensor] = []
    embed.register_forward_hook(lambda module, given, made: seen.append(made.detach()))
    after = LockedDropout(0.5)
    dropped: list[Tensor] = []

    class Readout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.after = after

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            out = self.after(outputs)
            dropped.append((out == 0)[0])
            return model.loss(out, targets)

    readout = Readout().loss
    for every in (None, 8):
        seen.clear()
        dropped.clear()
        state = torch.get_rng_state()
        value_and_grad(
            model.rnn,
            tokens[:-1],
            tokens[1:],
            readout,
            embed=embed,
            chunk_size=4,
            checkpoint_every=every,
        )
        chunks = -(-STEPS // 4)
        assert len(seen) == 2 * chunks + (2 if every else 0)
        for at in range(chunks):
            # Pieces that are run again lie between the ways back over the last and the first.
            again = {None: [7, 6, 5, 4], 8: [9, 8, 5, 4]}[every][at]
            assert torch.equal(seen[at], seen[again])
        assert all(torch.equal(mask, dropped[0]) for mask in dropped)
        assert dropped[0].any()
        # What is locked is gone from every step, the rest from some.
        gone = torch.cat(seen[:chunks]) == 0
        assert gone.all(0).any()
        assert (gone & ~gone.all(0)).any()
        assert not torch.equal(torch.get_rng_state(), state)
        gradients_of(model)
    model.eval(), embed.eval(), after.eval()
    assert torch.equal(
        value(model.rnn, tokens[:-1], tokens[1:], readout, embed=embed).loss,
        value(model.rnn, tokens[:-1], tokens[1:], readout, embed=embed).loss,
    )


@both
@pytest.mark.rule("GRAD-020")
def test_autocast_reaches_the_users_functions_alone(kind: Any, tokens: Tensor) -> None:
    model, weights = Model(kind), torch.linspace(-1, 1, 6)
    inputs = model.embed(tokens[:-1]).detach()
    results, dtypes = [], []

    def readout(outputs: Tensor, targets: Tensor) -> Tensor:
        dtypes.append(model.readout(outputs).dtype)
        return (outputs * weights).sum()

    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            streamed = value_and_grad(model.rnn, inputs, tokens[1:], readout, reduction="sum")
            results.append((streamed.state.h, gradients_of(model.rnn)))
            cross = LinearCrossEntropy(model.readout)
            assert value_and_grad(model.rnn, inputs, tokens[1:], cross).loss > 0
        model.zero_grad()
    assert set(dtypes) == {torch.float32, torch.bfloat16}
    assert torch.equal(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


@both
def test_value_is_the_loss_without_gradients(kind: Any, tokens: Tensor) -> None:
    model = Model(kind)
    arguments = (model.rnn, tokens[:-1], tokens[1:], model.loss)
    evaluated = value(*arguments, embed=model.embed, chunk_size=5)
    assert all(p.grad is None for p in model.parameters())
    trained = value_and_grad(*arguments, embed=model.embed, chunk_size=5)
    assert torch.allclose(evaluated.loss, trained.loss, rtol=1e-6)
    for a, b in zip(tensors_of(evaluated.state), tensors_of(trained.state), strict=True):
        assert torch.equal(a, b)
    summed = value(*arguments, embed=model.embed, chunk_size=1, reduction="sum")
    assert torch.allclose(summed.loss, STEPS * evaluated.loss, rtol=1e-5)
    gradients_of(model)
    scaled = value_and_grad(*arguments, embed=model.embed, loss_scale=8.0, chunk_size=5)
    assert torch.equal(scaled.loss, trained.loss)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "module": ({"module": nn.GRU(4, 6)}, "E_ARGUMENT"),
    "both ways": ({"module": RevGRU(4, 6, bidirectional=True)}, "E_UNSUPPORTED"),
    "inputs": ({"inputs": torch.zeros(3)}, "E_SHAPE"),
    "no steps": ({"inputs": torch.zeros(0, 2, 4)}, "E_SHAPE"),
    "reduction": ({"reduction": "max"}, "E_ARGUMENT"),
    "state": ({"state": torch.zeros(1, 2, 6)}, "E_ARGUMENT"),
    "features": ({"embed": lambda x: x[:, :, :3]}, "E_SHAPE"),
    "NaN": ({"embed": lambda x: x * float("nan")}, "E_NONFINITE"),
    "no scalar": ({"readout": lambda outputs, targets: outputs}, "E_SHAPE"),
    "chunk": ({"chunk_size": -1}, "E_ARGUMENT"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.rule("ERR-003", "ERR-004")
def test_bad_input_leaves_gradients_alone(case: str) -> None:
    changes, code = BAD[case]
    module = RevLSTM(4, 6)
    arguments: dict[str, Any] = {
        "module": module,
        "inputs": torch.zeros(3, 2, 4),
        "targets": torch.zeros(3, 2),
        "readout": lambda outputs, targets: outputs.sum(),
    }
    with pytest.raises(RevRNNError) as caught:
        value_and_grad(**arguments | changes)
    assert caught.value.code == code
    assert all(p.grad is None for p in module.parameters())
