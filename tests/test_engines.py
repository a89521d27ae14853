"""The engines of PyTorch: the same bits from each, and reasons from those that refuse."""

from __future__ import annotations

import threading
import tracemalloc
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agreement import assert_agree, assert_sequences_agree, both_gradients, equal_bits
from revrnn import Config
from revrnn.conformance.contents import Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import Implementation, load
from revrnn.torch_impl import RevGRU, RevLSTM, TorchImplementation, engine, value_and_grad
from revrnn.torch_impl.quantise import dequantise, quantise
from strategies import FIXED, SEEDS, configs, name_of, sequences, shapes

NATIVE = load("torch-native")
streams = [s for s in FIXED if not s[0].forgetting or s[0].buffer == "stream"]
fixed = pytest.mark.parametrize("setup", streams, ids=name_of)
kinds = pytest.mark.parametrize("kind", [RevGRU, RevLSTM])


@pytest.mark.rule("GEN-001", "CELL-040", "SEQ-007", "SEQ-011", "SEQ-012", "BUF-031", "BUF-032")
@given(data=st.data())
def test_random_sequences(oracle: Implementation, data: st.DataObject) -> None:
    """Outputs, states, heads, words, slices and wraps, step by step and as a whole, and back."""
    config = data.draw(configs(("stream",)), label="config")
    arguments = data.draw(sequences(config, data.draw(shapes(), label="shape")), label="arguments")
    trace = data.draw(st.booleans(), label="trace")
    assert_sequences_agree(oracle, NATIVE, arguments, trace)
    assert_agree(oracle, NATIVE, "sequence_storage", arguments)


@pytest.mark.rule("GRAD-020", "GRAD-012", "GRAD-013", "GRAD-015", "GRAD-016")
@given(data=st.data())
def test_random_gradients(oracle: Implementation, data: st.DataObject) -> None:
    """From recovered and from stored states the same bits; close to the oracle's."""
    config = data.draw(configs(("stream",)), label="config")
    arguments = data.draw(sequences(config, data.draw(shapes(), label="shape")), label="arguments")
    generator = np.random.default_rng(data.draw(SEEDS, label="gradients"))
    request = gradient_arguments(arguments, generator)
    other = TorchImplementation(chunk_size=data.draw(st.sampled_from((16, 3))), engine="native")
    assert equal_bits(*both_gradients(other, request))
    assert_agree(oracle, other, "sequence_gradient", request | {"states": "reversed"})


@pytest.mark.rule("PROD-001", "PROD-003", "FMT-003")
@pytest.mark.parametrize("style", ["usual", "saturated"])
@pytest.mark.parametrize("sizes", [(70, 90, 3), (601, 34, 1), (3, 1300, 13), (2, 6, 90)], ids=str)
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_large_stacks(
    oracle: Implementation, cell: str, sizes: tuple[int, int, int], style: str
) -> None:
    """Long sums, whole and broken tiles, many rows, sums in int32 and in int64."""
    inputs, hidden, rows = sizes
    config = Config(cell, inputs, hidden, max_forget_bits=3)
    generator = np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(3, rows), generator, style, style, "extreme")
    assert_agree(oracle, NATIVE, "sequence_forward", arguments)
    request = gradient_arguments(arguments, generator)
    eager = TorchImplementation().evaluate("sequence_gradient", request | {"states": "reversed"})
    native = NATIVE.evaluate("sequence_gradient", request | {"states": "reversed"})
    for name, gradient in eager.items():
        scale = np.abs(gradient).max() + 1e-6
        assert np.abs(native[name] - gradient).max() <= 1e-4 * scale, name


@pytest.mark.rule("GRAD-016")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_gradients_through_wide_layers(oracle: Implementation, cell: str) -> None:
    """What a layer has from below, and gives there, has more columns than go together."""
    config = Config(cell, 150, 140, num_layers=2, max_forget_bits=3)
    generator = np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(1, 2), generator)
    request = gradient_arguments(arguments, generator) | {"states": "reversed"}
    wanted, native = (one.evaluate("sequence_gradient", request) for one in (oracle, NATIVE))
    for name, gradient in wanted.items():
        scale = np.abs(gradient).max() + 1e-6
        assert np.abs(native[name] - gradient).max() <= 1e-4 * scale, name


@pytest.mark.rule("PROD-001", "PROD-004")
@pytest.mark.parametrize("bias", [0, 2**27, 2**31 - 1], ids=["sums", "both", "bias"])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_sums_at_the_edge_of_int32(oracle: Implementation, cell: str, bias: int) -> None:
    """Input sums, recurrent sums and biases fit int32 one by one, and not together."""
    config = Config(cell, 2, 34, max_forget_bits=3)
    arguments = sequence_arguments(config, Shape(3, 2), np.random.default_rng(0))
    for name, value in (("x", 32512), ("weight_ih_l0", 31000), ("weight_hh_l0", 4000)):
        arguments[name][...] = value
    arguments["bias_l0"][...] = bias
    arguments["h"][...] = 2**24
    assert_agree(oracle, NATIVE, "sequence_forward", arguments)
    arguments["x"][...] = -32512
    assert_agree(oracle, NATIVE, "sequence_forward", arguments)


@pytest.mark.rule("ACT-002", "ACT-003", "ACT-004")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_biases_alone(oracle: Implementation, cell: str) -> None:
    """Pre-activations of every magnitude, whose last bits are those of no shifted sum."""
    config, generator = Config(cell, 1, 800, max_forget_bits=3), np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(1, 1), generator)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        arguments[name][...] = 0
    bias = arguments["bias_l0"]
    numbers = generator.integers(-(2**31) + 1, 2**31, bias.shape)
    bias[...] = numbers >> generator.integers(0, 24, bias.shape)
    assert_agree(oracle, NATIVE, "sequence_forward", arguments)


def trained(
    kind: Any, name: str, threads: int = 1, **changes: Any
) -> tuple[dict[str, torch.Tensor], Any]:
    """Return all that a module gives, and its state, by an engine on so many threads."""
    torch.manual_seed(0)
    module = kind(5, 12, 2, dropout=0.3, max_forget_bits=3)
    x = torch.randn(21, 9, 5, requires_grad=True)
    mask = torch.arange(21)[:, None] < torch.randint(1, 22, (9,))
    resets = torch.rand(21, 9) < 0.2
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with engine(name):
            torch.manual_seed(1)
            outputs, state = module(x, module.initial_state(9), mask=mask, resets=resets, **changes)
            outputs.square().sum().backward()
    finally:
        torch.set_num_threads(before)
    assert x.grad is not None
    given: dict[str, Any] = {name: p.grad for name, p in module.named_parameters()}
    return {"outputs": outputs.detach(), "x": x.grad, **given}, state


@pytest.mark.rule("SEQ-002", "SEQ-012", "SEQ-013", "GEN-001")
@kinds
def test_modules_agree_with_the_eager_engine(kind: Any) -> None:
    """Masks, resets and dropout between layers at once."""
    wanted, state = trained(kind, "eager")
    native, other = trained(kind, "native")
    assert torch.equal(wanted["outputs"], native["outputs"])
    assert state == other
    for name, value in wanted.items():
        assert torch.allclose(value, native[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.rule("GRAD-012", "GRAD-013")
@kinds
def test_gradients_of_the_last_state_alone(kind: Any) -> None:
    """Outputs that nobody uses have no gradients."""
    torch.manual_seed(0)
    module, x, given = kind(3, 4, 2, max_forget_bits=3), torch.randn(5, 2, 3), []
    for name in ("eager", "native"):
        with engine(name):
            _, last = module(x)
            last = torch.cat(last) if isinstance(last, tuple) else last
            given.append(torch.autograd.grad(last.square().sum(), [*module.parameters()]))
    for wanted, native in zip(*given, strict=True):
        assert wanted.abs().sum() > 0
        assert torch.allclose(wanted, native, rtol=1e-4, atol=1e-6)


@pytest.mark.rule("GEN-001", "BUF-036")
@pytest.mark.parametrize("whose", ["PyTorch's", "helpers", "Python's"])
@kinds
def test_threads_change_nothing(kind: Any, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows go together, on whose threads: states and gradients are the same bits."""
    from revrnn.torch_impl.native import threads

    wanted, state = trained(kind, "native")
    monkeypatch.setattr(threads, "_WORTH", 1)
    if whose != "PyTorch's":
        monkeypatch.setattr(threads, "_region", lambda: 0)
    if whose == "Python's":  # as where the system has no POSIX threads
        monkeypatch.setattr(threads, "POSIX", False)
    for count in (2, 3, 40):
        native, other = trained(kind, "native", count)
        assert state == other
        for name, value in wanted.items():
            assert torch.equal(value, native[name]), (count, name)


def test_a_thread_that_does_not_come_is_not_waited_for() -> None:
    """On a busy machine the calling thread does all tasks rather than wait for another's start."""
    from revrnn.torch_impl.native import threads

    busy, done = threading.Event(), list[int]()
    held = threads._pool(1).submit(busy.wait, 20)
    threads.run([partial(done.append, n) for n in range(5)], 2)
    assert not held.done()
    busy.set()
    assert sorted(done) == list(range(5))


@pytest.mark.rule("QNT-001", "QNT-006")
@pytest.mark.parametrize("count", [1, 2])
def test_large_tensors_are_handled_in_pieces(count: int) -> None:
    """Ties, ends of the range, tensors that are not contiguous: what the whole gives."""
    formats, shape = Config("revgru", 1, 2).formats, (3, 350, 300)
    halves = torch.randint(-70_000, 70_000, shape) / 2.0 ** (formats.operand_bits + 1)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        for x in (halves, halves.transpose(0, 1), halves[:, :, ::2], halves.double()):
            scaled = np.rint(x.double().numpy() * 2.0**formats.operand_bits)
            wanted = scaled.clip(-32512, 32512).astype(np.int16)
            assert np.array_equal(quantise("operand", x, formats).numpy(), wanted)
        numbers = torch.randint(-(2**31), 2**31 - 1, shape, dtype=torch.int32)
        for q in (numbers, numbers.transpose(0, 1)):
            real = q.numpy().astype(np.float32) * np.float32(2.0**-20)
            out = torch.empty(q.shape)
            assert dequantise(q, 20, out) is out
            assert np.array_equal(out.numpy(), real)
    finally:
        torch.set_num_threads(before)


@kinds
def test_nothing_of_the_length_of_the_sequence_exists(kind: Any) -> None:
    """NumPy's memory, which is this engine's, grows by the words kept and little else."""
    most = []
    for steps in (256, 1024):
        module, tokens = kind(4, 64, max_forget_bits=1), torch.zeros(steps, 8, dtype=torch.int64)
        embed = torch.nn.Embedding(3, 4)
        for _ in range(2):
            tracemalloc.start()
            with engine("native"):
                value_and_grad(module, tokens, tokens, lambda y, _: y.square().mean(), embed=embed)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        most.append(peak)
    assert most[1] - most[0] < (1024 - 256) * 8 * 64 * 4 / 4


@pytest.mark.rule("GRAD-020", "SEQ-013")
@kinds
def test_streaming_by_each_engine(kind: Any) -> None:
    """Pieces run again, a carried state, reports: the same from each engine."""
    results = []
    for name in ("eager", "native"):
        torch.manual_seed(0)
        module, data = kind(4, 8, 2, max_forget_bits=2), torch.randn(40, 3, 4)
        with engine(name):
            step = value_and_grad(
                module,
                data,
                data[..., :1],
                lambda y, t: (y * t).mean(),
                checkpoint_every=16,
                report=True,
            )
        assert step.report is not None
        parts = {n: p.grad for n, p in module.named_parameters()}
        results.append((step, parts))
    (a, first), (b, second) = results
    assert a.state == b.state
    assert torch.equal(a.loss, b.loss)
    assert a.report is not None
    assert b.report is not None
    assert a.report.ideal_bits == b.report.ideal_bits
    assert a.report.layers == b.report.layers
    assert (a.report.engine, b.report.engine) == ("eager", "native")
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=1e-4, atol=1e-6), name
