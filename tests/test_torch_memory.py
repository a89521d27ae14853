"""What streaming keeps in memory: the report, the bytes kept, the largest tensor, the plan."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_torch_streaming import ROWS, STEPS, WORDS, Model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_results import both, tensors_of

from revrnn import Config, RevRNNError
from revrnn.evaluation import Implementation
from revrnn.plan import even_chunks
from revrnn.torch_impl import (
    RevGRU,
    RevLSTM,
    engine,
    plan,
    quantise_parameters,
    rev_rnn,
    value_and_grad,
)
from revrnn.torch_impl.bptt import Bptt
from revrnn.torch_impl.quantise import quantise


@pytest.fixture
def tokens() -> Tensor:
    """Give tokens for inputs and targets."""
    torch.manual_seed(0)
    return torch.randint(WORDS, (STEPS + 1, ROWS))


@both
@pytest.mark.rule("ACC-001", "ACC-002", "ACC-003", "ACC-004")
@pytest.mark.parametrize("buffer", ["stream", "wordlist"])
def test_report_is_the_oracles_account(
    oracle: Implementation, kind: Any, buffer: str, tokens: Tensor
) -> None:
    model = Model(kind, num_layers=2, buffer=buffer, slice_size=1, max_forget_bits=5)
    mask = torch.arange(STEPS)[:, None] < torch.tensor([14, 6, 1])
    streamed = value_and_grad(
        model.rnn, tokens[:-1], tokens[1:], model.loss, embed=model.embed, mask=mask, report=True
    )
    config, report = model.rnn.config, streamed.report
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
    assert pieces.layers == report.layers  # although words of pieces were dropped
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
        made = function(*args, **(kwargs or {}))
        for part in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(part, Tensor):
                self.numel = max(self.numel, part.untyped_storage().nbytes() // 4)
        return made


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


def test_plan() -> None:
    """Bounds hold for what is stored, and the hybrid keeps less than either alone."""
    for kind, buffer in ((RevGRU, "stream"), (RevLSTM, "stream"), (RevGRU, "wordlist")):
        torch.manual_seed(0)
        model = Model(kind, buffer=buffer)
        tokens = torch.randint(WORDS, (201, ROWS))
        streamed = value_and_grad(
            model.rnn, tokens[:-1], tokens[1:], model.loss, embed=model.embed, report=True
        )
        assert streamed.report is not None
        config, report = model.rnn.config, streamed.report
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


def test_chunks_are_even_and_of_some_16_steps() -> None:
    lengths = {n: even_chunks(n) for n in range(4000)}
    assert [lengths[n] for n in (0, 1, 16, 23, 35, 70, 512)] == [1, 1, 16, 23, 18, 18, 16]
    assert all(11 <= size <= 23 for n, size in lengths.items() if n > 10)
    # Of up to ten chunks the last one is not much shorter; never are there more than by 16 steps.
    rests = {n: n - (math.ceil(n / size) - 1) * size for n, size in lengths.items() if n}
    assert all(2 * rest >= lengths[n] for n, rest in rests.items() if n <= 160)
    assert all(math.ceil(n / size) <= math.ceil(n / 16) for n, size in lengths.items())


def test_a_module_takes_even_chunks_unless_told_otherwise(monkeypatch: Any) -> None:
    seen: list[int] = []

    class Watched(Bptt):
        def forward(self, *args: Any, **options: Any) -> Any:
            seen.append(self.settings.chunk_size)
            return super().forward(*args, **options)

    monkeypatch.setattr("revrnn.torch_impl.call.Bptt", Watched)
    rnn, x = RevGRU(3, 4), torch.zeros(35, 2, 3)
    rnn(x)
    rev_rnn(x, dict(rnn.named_parameters()), rnn.config)
    RevGRU(3, 4, chunk_size=5)(x)
    assert seen == [18, 18, 5]
    steps: set[int] = set()

    def readout(h: Tensor, _: Tensor) -> Tensor:
        steps.add(h.numel() // 8)  # len() would have more steps tried
        return h.sum()

    value_and_grad(rnn, x, torch.zeros(35, 2), readout)
    assert {18, 17} <= steps <= {*range(19)}
