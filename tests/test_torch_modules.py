"""RevGRU and RevLSTM as modules: what users of nn.GRU and nn.LSTM do with them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, unpack_sequence
from torch_results import both, tensors_of

from revrnn import Config, RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, State, rev_rnn

PAIRS: tuple[tuple[Any, Any], ...] = ((RevGRU, nn.GRU), (RevLSTM, nn.LSTM))
X = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers": {"num_layers": 2, "dropout": 0.3},
    "batch first": {"batch_first": True, "bias": False},
    "both ways": {"num_layers": 2, "bidirectional": True, "dropout": 0.3},
}


@pytest.mark.parametrize("kinds", PAIRS, ids=["gru", "lstm"])
@pytest.mark.parametrize("name", SETTINGS)
def test_shapes_are_those_of_the_module_it_replaces(kinds: tuple[Any, Any], name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = (kind(3, 6, **SETTINGS[name]) for kind in kinds)
    directions, layers = 1 + ours.bidirectional, ours.num_layers
    inputs: list[Any] = [torch.randn(5, 2, 3), torch.randn(4, 3)]
    inputs.append(pack_sequence([torch.randn(n, 3) for n in (2, 4, 1)], enforce_sorted=False))
    for x in inputs:
        rows = 3 if isinstance(x, PackedSequence) else x.shape[0 if ours.batch_first else 1]
        axes: tuple[int, ...] = (directions * layers, rows, 6)
        if isinstance(x, Tensor) and x.dim() == 2:
            axes = (directions * layers, 6)
        h = torch.randn(axes)
        for hx in (None, (h, h) if kinds[0] is RevLSTM else h):
            given, wanted = ours(x, hx), theirs(x, hx)
            flat = [[r[0].data if isinstance(x, PackedSequence) else r[0]] for r in (given, wanted)]
            flat = [f + tensors_of(r[1]) for f, r in zip(flat, (given, wanted), strict=True)]
            assert [t.shape for t in flat[0]] == [t.shape for t in flat[1]]
            assert [t.dtype for t in flat[0]] == [t.dtype for t in flat[1]]
            flat[0][0].sum().backward()
    assert all(p.grad is not None for p in ours.parameters())
    prefixes = {n.replace("bias_ih", "bias") for n in theirs.state_dict() if "bias_hh" not in n}
    assert set(ours.state_dict()) == prefixes


@pytest.mark.parametrize("kinds", PAIRS, ids=["gru", "lstm"])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_may_have_no_rows(kinds: tuple[Any, Any], name: str) -> None:
    """As the last share of a filtered batch may: empty outputs, gradients of zero."""
    results = []
    for kind in kinds:
        module = kind(3, 6, **SETTINGS[name])
        x = X[:0] if module.batch_first else X[:, :0]
        hx = torch.zeros((1 + module.bidirectional) * module.num_layers, 0, 6)
        x, hx = x.clone().requires_grad_(), hx.requires_grad_()
        outputs, last = module(x, (hx, hx) if kind in PAIRS[1] else hx)
        (outputs.sum() + sum(t.sum() for t in tensors_of(last))).backward()
        assert all(p.grad is not None and not p.grad.any() for p in module.parameters())
        results.append([t.shape for t in (outputs, *tensors_of(last), x.grad, hx.grad)])
    assert results[0] == results[1]


@both
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.rule("SEQ-002")
def test_packed_rows_are_as_if_alone(kind: Any, name: str) -> None:
    torch.manual_seed(1)
    module = kind(3, 6, **SETTINGS[name]).eval()
    rows = [torch.randn(n, 3) for n in (2, 5, 1, 5)]
    h = torch.randn((1 + module.bidirectional) * module.num_layers, 4, 6)
    hx: Any = (h, h / 2) if kind is RevLSTM else h
    outputs, last = module(pack_sequence(rows, enforce_sorted=False), hx)
    for b, (row, row_outputs) in enumerate(zip(rows, unpack_sequence(outputs), strict=True)):
        own = (h[:, b], h[:, b] / 2) if kind is RevLSTM else h[:, b]
        wanted, wanted_last = module(row, own)
        assert torch.equal(row_outputs, wanted)
        for a, w in zip(tensors_of(last), tensors_of(wanted_last), strict=True):
            assert torch.equal(a[:, b], w)


@both
@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.rule("SEQ-006")
def test_packed_rows_go_on_from_exact_states(kind: Any, sort: bool) -> None:
    torch.manual_seed(2)
    module = kind(3, 6, 2)
    rows = [torch.randn(n, 3) for n in ((5, 5, 2) if sort else (2, 5, 5))]
    _, state = module(torch.randn(4, 3, 3), module.initial_state(3))
    outputs, last = module(pack_sequence(rows, enforce_sorted=sort), state)
    for b, (row, row_outputs) in enumerate(zip(rows, unpack_sequence(outputs), strict=True)):
        wanted, wanted_last = module(row, state.index_select([b]))
        assert torch.equal(row_outputs, wanted)
        assert last.index_select([b]) == wanted_last


@both
@pytest.mark.rule("SEQ-002", "SEQ-013")
def test_masked_and_reset_rows_in_two_directions_are_as_if_alone(kind: Any) -> None:
    torch.manual_seed(3)
    module = kind(3, 6, 2, bidirectional=True, batch_first=True)
    lengths, x = torch.tensor([4, 6, 1]), torch.randn(3, 6, 3)
    mask = torch.arange(6) < lengths[:, None]
    outputs, last = module(x, mask=mask)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    wanted, wanted_last = module(packed)
    for a, w in zip(unpack_sequence(wanted), outputs, strict=True):
        assert torch.equal(a, w[: len(a)])
    for a, w in zip(tensors_of(last), tensors_of(wanted_last), strict=True):
        assert torch.equal(a, w)
    resets = torch.zeros(3, 6, dtype=torch.bool)
    resets[0, [0, 2, 5]] = True
    outputs, _ = module(x, resets=resets)
    alone, _ = module(x[1:])
    assert torch.equal(outputs[1:], alone)
    outputs.sum().backward()
    # A part begins in heads that the one before left, so the lowest bits are others than alone.
    for part in (slice(2), slice(2, 5), slice(5, 6)):
        alone, _ = module(x[:1, part])
        assert torch.allclose(outputs[:1, part], alone, atol=1e-2)
        assert not torch.allclose(module(x[:1])[0][:, part], alone, atol=1e-2)


@both
@pytest.mark.parametrize("locked", [False, True])
def test_dropout_in_two_directions_is_that_of_outputs(kind: Any, locked: bool) -> None:
    torch.manual_seed(4)
    module, x = kind(3, 6, 2, bidirectional=True, dropout=0.5, locked_dropout=locked), X
    layers = kind(3, 6, bidirectional=True), kind(12, 6, bidirectional=True)
    for number, layer in enumerate(layers):
        named = {n: getattr(module, n.replace("l0", f"l{number}")) for n in layer.state_dict()}
        layer.load_state_dict(named)
    torch.manual_seed(5)
    outputs, _ = module(x)
    torch.manual_seed(5)
    between = layers[0](x)[0]
    between = between * nn.functional.dropout(torch.ones_like(between[: 1 if locked else None]))
    assert torch.equal(outputs, layers[1](between)[0])


@both
@pytest.mark.rule("SEQ-006", "SEQ-008")
def test_exact_state_carries_segments(kind: Any) -> None:
    """States go in and out as integers; gradients are those of one long sequence's segments."""
    torch.manual_seed(2)
    module, x = kind(3, 6, 2), torch.randn(11, 2, 3)
    whole, end = module(x, module.initial_state(2))
    floats, _ = module(x)
    assert torch.equal(whole, floats)
    state, parts = module.initial_state(2), []
    for segment in torch.split(x, 4):
        outputs, state = module(segment, state)
        assert isinstance(state, State)
        parts.append(outputs)
    assert torch.equal(torch.cat(parts), whole)
    for a, b in zip(tensors_of(state), tensors_of(end), strict=True):
        assert torch.equal(a, b)


@both
@pytest.mark.rule("SEQ-010")
def test_evaluation_has_the_same_bits_and_keeps_nothing(kind: Any) -> None:
    torch.manual_seed(3)
    module, x = kind(3, 6, 2), torch.randn(40, 2, 3)
    outputs, last = module(x)
    assert outputs.grad_fn.next_functions  # there is a backward pass
    module.eval()
    with torch.no_grad():
        again, last_again = module(x)
    assert torch.equal(outputs, again)
    for a, b in zip(tensors_of(last), tensors_of(last_again), strict=True):
        assert torch.equal(a, b)
    trained = rev_rnn(x, dict(module.named_parameters()), module.config)
    node: Any = trained.outputs.grad_fn
    assert node.call.bptt.bytes_kept > 0
    with torch.no_grad():
        bare = rev_rnn(x, dict(module.named_parameters()), module.config)
    assert bare.outputs.grad_fn is None


@both
def test_copies_and_conversions(kind: Any) -> None:
    torch.manual_seed(4)
    module, x = kind(3, 6, 2, max_forget_bits=2, buffer="wordlist"), torch.randn(5, 2, 3)
    wanted, _ = module(x)
    other = kind(3, 6, 2, max_forget_bits=2, buffer="wordlist")
    other.load_state_dict(module.state_dict(), strict=False)  # of another layout, too
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), other):
        assert torch.equal(copied(x)[0], wanted)
    wide = copy.deepcopy(module).double()
    outputs, _ = wide(x.double())
    assert outputs.dtype == torch.float64
    assert torch.equal(outputs.float(), wanted)  # the exact part does not depend on the type
    outputs.sum().backward()
    assert all(p.grad.dtype == torch.float64 for p in wide.parameters())
    text = repr(module)
    assert text.startswith(kind.__name__)
    assert all(part in text for part in ("num_layers=2", "max_forget_bits=2", "wordlist"))
    replaced = {name: p.detach() * 0 for name, p in module.named_parameters()}
    silent, _ = torch.func.functional_call(module, replaced, (x,))
    assert not torch.equal(silent, wanted)


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "proj_size": ({"proj_size": 2}, "E_UNSUPPORTED", "proj_size"),
    "odd hidden size": ({"hidden_size": 5}, "E_HIDDEN_SIZE", "hidden_size"),
    "forget bits": ({"max_forget_bits": 11}, "E_FORGET_BITS", "max_forget_bits"),
    "dropout above one": ({"dropout": 1.5}, "E_ARGUMENT", "dropout"),
    "dropout beyond the gains": ({"dropout": 0.95}, "E_ARGUMENT", "dropout"),
    "weight drop": ({"weight_drop": -0.1}, "E_ARGUMENT", "weight_drop"),
    "buffer": ({"buffer": "bigint"}, "E_UNSUPPORTED", "buffer"),
    "slices both ways": ({"slice_size": 1, "bidirectional": True}, "E_UNSUPPORTED", "slice_size"),
    "flag": ({"batch_first": 1}, "E_ARGUMENT", "batch_first"),
    "chunk": ({"chunk_size": 0}, "E_ARGUMENT", "chunk_size"),
    "pieces": ({"checkpoint_every": 0}, "E_ARGUMENT", "checkpoint_every"),
    "layers": ({"num_layers": 0}, "E_ARGUMENT", "num_layers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    changes, code, name = BAD[case]
    with pytest.raises(RevRNNError) as caught:
        RevGRU(**{"input_size": 3, "hidden_size": 6} | changes)
    assert caught.value.code == code
    assert name in str(caught.value)


def test_dropout_of_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r"dropout=0\.5.*num_layers=1") as told:
        RevGRU(3, 4, dropout=0.5)
    assert [warning.filename for warning in told] == [__file__]


BAD_CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no tensor": (lambda m: m([1.0]), "E_DTYPE"),
    "one axis": (lambda m: m(torch.zeros(3)), "E_SHAPE"),
    "features": (lambda m: m(torch.zeros(2, 2, 4)), "E_SHAPE"),
    "integers": (lambda m: m(torch.zeros(2, 2, 3, dtype=torch.int64)), "E_DTYPE"),
    "state of other rows": (lambda m: m(torch.zeros(2, 2, 3), m.initial_state(3)), "E_SHAPE"),
    "h of other rows": (lambda m: m(torch.zeros(2, 2, 3), torch.zeros(1, 3, 6)), "E_SHAPE"),
    "mask type": (lambda m: m(torch.zeros(2, 2, 3), mask=torch.ones(2, 2)), "E_DTYPE"),
    "resets shape": (lambda m: m(torch.zeros(2, 2, 3), resets=torch.ones(1, 2) > 0), "E_SHAPE"),
    "NaN": (lambda m: m(torch.full((2, 2, 3), torch.nan)), "E_NONFINITE"),
    "no slices": (lambda m: m.encode(torch.zeros(2, 2, 3)), "E_ARGUMENT"),
    "mask and packed": (
        lambda m: m(pack_sequence([torch.zeros(2, 3)]), mask=torch.ones(2, 1) > 0),
        "E_ARGUMENT",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
@pytest.mark.rule("ERR-004")
def test_bad_calls(case: str) -> None:
    call, code = BAD_CALLS[case]
    module = RevGRU(3, 6)
    with pytest.raises(RevRNNError) as caught:
        call(module)
    assert caught.value.code == code
    assert all(p.grad is None for p in module.parameters())


@both
def test_both_directions(kind: Any) -> None:
    """The second direction is a stack of its own over the steps from last to first."""
    torch.manual_seed(9)
    module, x = kind(3, 6, bidirectional=True), torch.randn(7, 2, 3)
    outputs, last = module(x)
    for suffix, given in (("", x), ("_reverse", x.flip(0))):
        params = {name: getattr(module, name + suffix) for name in module.config.parameter_shapes()}
        out = rev_rnn(given, params, module.config)
        own = outputs[:, :, 6:].flip(0) if suffix else outputs[:, :, :6]
        assert torch.equal(own, out.outputs)
        assert torch.equal(tensors_of(last)[0][1 if suffix else 0], out.h_n[0])


def test_wrong_configurations_do_not_share_a_stack() -> None:
    """A module keeps no state between calls: parameters changed in place are seen."""
    module, x = RevGRU(2, 4), torch.randn(3, 1, 2)
    first, _ = module(x)
    with torch.no_grad():
        module.weight_ih_l0.add_(1)
    assert not torch.equal(module(x)[0], first)
    assert isinstance(module.config, Config)
