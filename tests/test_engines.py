"""The engines of PyTorch: the same bits from each, and reasons from those that refuse."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agreement import assert_agree, assert_law, equal_bits
from revrnn import Config, RevRNNError
from revrnn.conformance.contents import (
    Shape,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.evaluation import Implementation, load
from revrnn.torch_impl import (
    RevGRU,
    RevLSTM,
    TorchImplementation,
    compiled_steps,
    engine,
    engine_plan,
    product_method,
    rev_rnn,
    set_engine,
    value_and_grad,
)
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
    assert_agree(oracle, NATIVE, "sequence_forward", arguments | {"trace": trace})
    forward = NATIVE.evaluate("sequence_forward", arguments)
    back = reversal_arguments(arguments, forward)
    assert_agree(oracle, NATIVE, "sequence_reverse", back | {"trace": trace})
    assert_law(NATIVE, arguments, forward)
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
    both = [
        other.evaluate("sequence_gradient", request | {"states": states})
        for states in ("reversed", "stored")
    ]
    assert equal_bits(*both)
    assert_agree(oracle, other, "sequence_gradient", request | {"states": "reversed"})


@pytest.mark.rule("PROD-001", "PROD-003", "FMT-003")
@pytest.mark.parametrize("style", ["usual", "saturated"])
@pytest.mark.parametrize("sizes", [(70, 90, 3), (601, 34, 1), (3, 1300, 13)], ids=str)
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_large_stacks(
    oracle: Implementation, cell: str, sizes: tuple[int, int, int], style: str
) -> None:
    """Long sums, whole and broken tiles, sums in int32 and in int64."""
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
    found, other = trained(kind, "native")
    assert torch.equal(wanted["outputs"], found["outputs"])
    assert state == other
    for name, value in wanted.items():
        assert torch.allclose(value, found[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.rule("GEN-001", "BUF-036")
@kinds
def test_threads_change_nothing(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows go together: states and gradients are the same bits."""
    from revrnn.torch_impl.native import threads

    wanted, state = trained(kind, "native")
    monkeypatch.setattr(threads, "_WORTH", 1)
    for count in (2, 3, 40):
        found, other = trained(kind, "native", count)
        assert state == other
        for name, value in wanted.items():
            assert torch.equal(value, found[name]), (count, name)


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


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "wordlist": ({"buffer": "wordlist"}, "wordlist"),
    "wordlist, two layers": ({"buffer": "wordlist", "num_layers": 2}, "wordlist"),
}
TAKEN: dict[str, dict[str, Any]] = {
    "usual": {},
    "layers": {"num_layers": 3},
    "no limit": {"max_forget_bits": None},
    "limit": {"max_forget_bits": 7},
    "slices": {"slice_size": 2},
    "non-forgetting": {"forgetting": False},
    "non-forgetting wordlist": {"forgetting": False, "buffer": "wordlist"},
    "cap": {"z_max": 700},
    "formats": {"formats": {"state_bits": 20, "operand_bits": 9, "lstm_view_bits": 7}},
}


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
@pytest.mark.parametrize("case", TAKEN)
def test_what_the_native_engine_takes(cell: str, case: str) -> None:
    config = Config.from_dict({"cell": cell, "input_size": 3, "hidden_size": 8} | TAKEN[case])
    with engine("native"):
        found = engine_plan(config)
    assert found.engine == "native"
    assert "int16" in found.product
    assert not found.refused


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_native_engine_refuses(case: str) -> None:
    """Chosen, it is an error that says why; not chosen, the eager engine goes on and says so."""
    changes, reason = REFUSALS[case]
    config = Config("revgru", 3, 4, **changes)
    found = engine_plan(config)
    assert found.engine == "eager"
    assert reason in found.refused["native"]
    assert reason in str(found)
    params = {n: torch.zeros(s) for n, s in config.parameter_shapes().items()}
    with engine("native"):
        with pytest.raises(RevRNNError, match=f"E_UNSUPPORTED. engine: .*{reason}"):
            engine_plan(config)
        with pytest.raises(RevRNNError, match=f"E_UNSUPPORTED. engine: .*{reason}"):
            rev_rnn(torch.zeros(2, 1, 3), params, config)


def test_what_else_was_chosen_is_kept() -> None:
    """Compiled steps and named products are the eager engine's."""
    config = Config("revgru", 3, 4)
    with compiled_steps():
        assert engine_plan(config).engine == "eager"
    with product_method("float64"):
        found = engine_plan(config)
        assert (found.engine, found.product) == ("eager", "float64 (inputs), float64 (recurrent)")
        with engine("native"), pytest.raises(RevRNNError, match="product_method 'float64'"):
            engine_plan(config)


def test_engines_are_chosen_by_name() -> None:
    config = Config("revgru", 3, 4)
    assert engine_plan(config).engine == "native"
    with engine("eager"):
        assert engine_plan(config).engine == "eager"
        with engine("auto"):
            assert engine_plan(config).engine == "native"
    for wrong in ("fast", None, 1, ["native"]):
        with pytest.raises(RevRNNError, match=r"E_ARGUMENT. name: "):
            set_engine(wrong)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError), engine("eager"):
        raise ZeroDivisionError
    assert engine_plan(config).engine == "native"


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import torch
from revrnn.torch_impl import RevGRU, engine, engine_plan
module = RevGRU(3, 4)
plan = engine_plan(module.config)
assert plan.engine == "eager" and "numba" in plan.refused["native"], plan
module(torch.randn(3, 2, 3))[0].sum().backward()
try:
    with engine("native"):
        module(torch.randn(3, 2, 3))
except Exception as error:
    assert "E_UNSUPPORTED" in str(error) and "numba" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_without_numba_the_eager_engine_goes_on() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], check=True)


def test_numba_is_imported_only_when_it_is_needed() -> None:
    program = "import sys, revrnn.torch_impl; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
