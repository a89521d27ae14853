"""Training by chunks: the same states and gradients as the drop-in path, and nothing large."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_torch_modules import both, close, gradients_of, same, tensors_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from revrnn import Config, RevRNNError
from revrnn.evaluation import Implementation
from revrnn.torch_impl import (
    LinearCrossEntropy,
    LockedDropout,
    RevGRU,
    RevLSTM,
    encode,
    engine,
    plan,
    quantise_parameters,
    value,
    value_and_grad,
)
from revrnn.torch_impl.quantise import quantise

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
def test_streaming_equals_the_drop_in_path(
    kind: Any, settings: dict[str, Any], tokens: Tensor
) -> None:
    """States and the recurrent gradients bit for bit at one chunk size, all close at others."""
    model = Model(kind, **settings)
    state = model.rnn.initial_state(ROWS)
    torch.manual_seed(1)
    outputs, end = model.rnn(model.embed(tokens[:-1]), state)
    loss: Any = model.loss(outputs, tokens[1:])
    loss.backward()
    wanted = gradients_of(model)
    for chunk in (1, 2, 7, 14, 16):
        torch.manual_seed(1)
        found = value_and_grad(
            model.rnn,
            tokens[:-1],
            tokens[1:],
            model.loss,
            embed=model.embed,
            state=state,
            chunk_size=chunk,
        )
        assert torch.allclose(found.loss, loss, rtol=1e-5)
        for a, b in zip(tensors_of(found.state), tensors_of(end), strict=True):
            assert torch.equal(a, b)
        gradients = gradients_of(model)
        assert close(gradients, wanted)
        if chunk == 16:
            assert same(gradients, wanted)
    torch.manual_seed(1)
    again = value_and_grad(
        model.rnn, tokens[:-1], tokens[1:], model.loss, embed=model.embed, state=state
    )
    assert torch.equal(again.loss, found.loss)
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
    found = value_and_grad(*streaming, embed=model.embed, hx=hx)
    assert torch.allclose(found.loss, loss, rtol=1e-5)
    assert same(gradients_of(model), wanted)
    grads = (found.grad_hx,) if isinstance(found.grad_hx, Tensor) else found.grad_hx
    assert grads is not None
    for part, grad in zip(parts, grads, strict=True):
        assert part.grad is not None
        assert torch.equal(part.grad, grad)
    assert torch.equal(value(*streaming, embed=model.embed, hx=hx).loss, found.loss)
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
            found = value_and_grad(
                model.rnn,
                tokens[:-1],
                targets,
                read,
                embed=embed,
                reduction=reduction,
                chunk_size=4,
                loss_scale=2.0,
            )
            results.append((found.loss, gradients_of(model)))
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
    """Random inputs are the same on the way back: gradients are those of what was computed."""
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
            found = value_and_grad(model.rnn, inputs, tokens[1:], readout, reduction="sum")
            results.append((found.state.h, gradients_of(model.rnn)))
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
    found = value(*arguments, embed=model.embed, chunk_size=5)
    assert all(p.grad is None for p in model.parameters())
    trained = value_and_grad(*arguments, embed=model.embed, chunk_size=5)
    assert torch.allclose(found.loss, trained.loss, rtol=1e-6)
    for a, b in zip(tensors_of(found.state), tensors_of(trained.state), strict=True):
        assert torch.equal(a, b)
    summed = value(*arguments, embed=model.embed, chunk_size=1, reduction="sum")
    assert torch.allclose(summed.loss, STEPS * found.loss, rtol=1e-5)
    gradients_of(model)
    scaled = value_and_grad(*arguments, embed=model.embed, loss_scale=8.0, chunk_size=5)
    assert torch.equal(scaled.loss, trained.loss)


@both
@pytest.mark.rule("ACC-001", "ACC-002", "ACC-003", "ACC-004")
@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
def test_report_is_the_oracles_account(
    oracle: Implementation, kind: Any, buffer: str, tokens: Tensor
) -> None:
    model = Model(kind, num_layers=2, buffer=buffer, slice_size=1, max_forget_bits=5)
    mask = torch.arange(STEPS)[:, None] < torch.tensor([14, 6, 1])
    found = value_and_grad(
        model.rnn, tokens[:-1], tokens[1:], model.loss, embed=model.embed, mask=mask, report=True
    )
    config, report = model.rnn.config, found.report
    assert report is not None
    params = dict(model.rnn.named_parameters())
    arguments: dict[str, Any] = {
        name: v.numpy() for name, v in quantise_parameters(params, config).items()
    }
    start = model.rnn.initial_state(ROWS)
    x = model.embed(tokens[:-1]).detach()
    arguments |= {
        "config": config.as_dict(),
        "mask": mask.numpy(),
        "h": start.h.numpy(),
        "x": quantise("operand", x, config.formats).numpy(),
        "heads": start.heads.to(torch.int64).numpy(),
    }
    if start.c is not None:
        arguments["c"] = start.c.numpy()
    wanted = oracle.evaluate("sequence_storage", arguments)
    assert report.stored_bits == wanted["stored_bits"]
    assert report.plain_bits == wanted["plain_bits"]
    assert report.ideal_bits == pytest.approx(wanted["ideal_bits"])
    assert report.as_dict()["ideal_bits_l1"] == report.layers[1].ideal_bits
    assert sum(layer.ideal_bits for layer in report.layers) == pytest.approx(report.ideal_bits)
    assert report.bytes_kept > 0
    pieces = value_and_grad(
        model.rnn,
        tokens[:-1],
        tokens[1:],
        model.loss,
        embed=model.embed,
        mask=mask,
        report=True,
        chunk_size=4,
        checkpoint_every=8,
    ).report
    assert pieces is not None
    assert pieces.layers == report.layers  # whatever was let go on the way
    assert pieces.stored_bits == report.stored_bits
    assert "layer 1" in str(report)


@both
@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
def test_bytes_kept_are_the_words_and_the_checkpoints(
    kind: Any, buffer: str, tokens: Tensor
) -> None:
    """With checkpoints: the words of the last piece, and the states between pieces."""
    model = Model(kind, num_layers=2, buffer=buffer, slice_size=1, max_forget_bits=5)
    config, steps = model.rnn.config, 3 * STEPS
    long = tokens[:-1].repeat(3, 1)

    def run(begin: int, stop: int, state: Any = None, every: int | None = None) -> Any:
        part = long[begin:stop]
        return value_and_grad(
            model.rnn,
            part,
            part,
            model.loss,
            embed=model.embed,
            state=state,
            report=True,
            chunk_size=4,
            checkpoint_every=every,
        )

    whole = run(0, steps)
    wanted = whole.report.stored_bits
    wanted -= whole.state.heads.numel() * (32 if buffer == "stream" else 64)  # in the state
    wanted += 32 * ROWS * (-(-steps // 4) - 1)  # a chunk begins with the slice that ended the last
    if buffer == "wordlist":
        wanted += 7 * steps * config.operations_per_step  # a flag is one bit, kept as a byte
    assert 8 * whole.report.bytes_kept == wanted
    before = run(0, 32).state
    pieces = run(0, steps, every=16).report
    last = run(32, steps, before).report
    checkpoint = sum(t.numel() * t.element_size() for t in tensors_of(before))
    assert pieces.bytes_kept == last.bytes_kept + 2 * checkpoint < whole.report.bytes_kept


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        for part in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(part, Tensor):
                self.numel = max(self.numel, part.untyped_storage().nbytes() // 4)
        return found


@both
@pytest.mark.parametrize("every", [None, 32])
def test_nothing_of_the_length_of_the_sequence_exists(kind: Any, every: int | None) -> None:
    """No tensor grows with the steps; the drop-in path, which has outputs, is seen to."""
    largest = []
    for steps in (64, 256):
        torch.manual_seed(0)
        model = Model(kind)
        tokens = torch.randint(WORDS, (steps + 1, ROWS))
        with Largest() as mode, engine("eager"):  # all of whose memory is tensors
            value_and_grad(
                model.rnn,
                tokens[:-1],
                tokens[1:],
                model.loss,
                embed=model.embed,
                checkpoint_every=every,
            )
        largest.append(mode.numel)
    assert largest[0] == largest[1]
    with Largest() as mode:
        model.rnn(model.embed(tokens[:-1]))
    assert mode.numel >= 256 * ROWS * 6


@both
def test_streaming_encoder(kind: Any, tokens: Tensor) -> None:
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


def test_plan() -> None:
    """Bounds hold for what is stored, and the hybrid keeps less than either alone."""
    for kind, buffer in ((RevGRU, "stream"), (RevLSTM, "stream"), (RevGRU, "wordlist")):
        torch.manual_seed(0)
        model = Model(kind, buffer=buffer)
        tokens = torch.randint(WORDS, (201, ROWS))
        found = value_and_grad(
            model.rnn, tokens[:-1], tokens[1:], model.loss, embed=model.embed, report=True
        )
        assert found.report is not None
        config, report = model.rnn.config, found.report
        bits = report.ideal_bits / report.unit_steps
        planned = plan(config, 200, ROWS, expected_bits=bits)
        assert planned.plain * 8 == report.plain_bits
        assert report.stored_bits <= 8 * planned.buffer_worst
        if buffer == "stream":
            assert report.stored_bits == pytest.approx(8 * planned.buffer_expected, rel=0.25)
    config = Config("revgru", 1024, 1024, max_forget_bits=3)
    long = plan(config, 100_000, 8)
    assert long.crossover_steps is not None
    assert long.checkpoint_every is not None
    assert long.hybrid < long.checkpointing < long.buffer_expected < long.plain
    assert long.checkpoint_every % 16 == 0
    short = plan(config, 100, 8)
    assert short.checkpoint_every is None
    assert short.hybrid == short.buffer_expected < short.checkpointing
    assert "checkpoints every" in str(long)
    keeping = plan(Config("revlstm", 4, 4, forgetting=False), 10, 1)
    assert keeping.buffer_expected == keeping.buffer_worst == 0
    for bad in ({"steps": 0}, {"batch_size": True}, {"expected_bits": 4.0}, {"chunk_size": 0}):
        with pytest.raises(RevRNNError, match=next(iter(bad))):
            plan(config, **{"steps": 5, "batch_size": 2} | bad)
