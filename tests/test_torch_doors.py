"""What does not fit is said at the door of a module, in the caller's own words."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.optim.swa_utils import AveragedModel

from revrnn import Formats, RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, State, initial_state, rev_rnn

X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
TRUE = torch.ones(5, 2, dtype=torch.bool)


def gru(**settings: Any) -> RevGRU:
    return RevGRU(3, 6, 2, **settings)


def state_of(kind: Any = RevGRU, **settings: Any) -> State:
    made: State = kind(3, 6, 2, **settings).initial_state(2)
    return made


def packed(sizes: list[int], indices: torch.Tensor | None = None) -> PackedSequence:
    return PackedSequence(torch.randn(5, 3), torch.tensor(sizes), indices, indices)


# What is called, the code, the argument as the caller wrote it, and a word of the message.
CALLS: dict[str, tuple[Callable[[], Any], str, str, str]] = {
    "list": (lambda: gru()([[1.0]]), "E_DTYPE", "input", "list"),
    "tokens": (lambda: gru()(X.long()), "E_DTYPE", "input", "int64"),
    "bool": (lambda: gru()(X > 0), "E_DTYPE", "input", "bool"),
    "complex": (lambda: gru()(X.to(torch.complex64)), "E_DTYPE", "input", "complex"),
    "features": (lambda: gru()(X[:, :, :2]), "E_SHAPE", "input", "(seq, batch, input_size=3)"),
    "features of a row": (
        lambda: gru(batch_first=True)(X[:, 0, :2]), "E_SHAPE", "input", "(seq, input_size=3)",
    ),
    "features, batch first": (
        lambda: gru(batch_first=True)(X[:, :, :2]), "E_SHAPE", "input", "(batch, seq,",
    ),
    "axes": (lambda: gru()(X[None]), "E_SHAPE", "input", "(seq, input_size=3) or"),
    "no rows": (lambda: gru()(X[:, :0]), "E_SHAPE", "input", "at least one row"),
    "no rows, batch first": (
        lambda: gru(batch_first=True)(X[:0]), "E_SHAPE", "input", "at least one row",
    ),
    "device": (lambda: gru()(X.to("meta")), "E_ARGUMENT", "input", "of the parameters"),
    "nested": (
        lambda: gru()(torch.nested.nested_tensor([X[:, 0], X[:2, 0]], layout=torch.jagged)),
        "E_UNSUPPORTED", "input", "nested",
    ),
    "sparse": (lambda: gru()(X.to_sparse()), "E_UNSUPPORTED", "input", "sparse"),
    "NaN": (lambda: gru()(X / 0), "E_NONFINITE", "input", "NaN"),
    "NaN both ways": (lambda: gru(bidirectional=True)(X / 0), "E_NONFINITE", "input", "NaN"),
    "mask by rows": (
        lambda: gru(batch_first=True)(X, mask=TRUE.t()), "E_SHAPE", "mask", "(batch, seq) = [5, 2]",
    ),
    "mask of a row": (lambda: gru()(X[:, 0], mask=TRUE), "E_SHAPE", "mask", "(seq,) = [5]"),
    "mask of numbers": (lambda: gru()(X, mask=TRUE.long()), "E_DTYPE", "mask", "torch.bool"),
    "mask as a list": (lambda: gru()(X, mask=TRUE.tolist()), "E_DTYPE", "mask", "Tensor"),
    "resets": (lambda: gru()(X, resets=TRUE[:4]), "E_SHAPE", "resets", "(seq, batch) = [5, 2]"),
    "hx rows": (lambda: gru()(X, torch.zeros(2, 3, 6)), "E_SHAPE", "hx", "[2, 2, 6]"),
    "hx rows both ways": (
        lambda: gru(bidirectional=True)(X, torch.zeros(4, 3, 6)),
        "E_SHAPE", "hx", "(layers · directions, batch, hidden_size) = [4, 2, 6]",
    ),
    "hx layers both ways": (
        lambda: gru(bidirectional=True)(X, torch.zeros(2, 2, 6)), "E_SHAPE", "hx", "[4, 2, 6]",
    ),
    "hx with a batch": (
        lambda: gru()(X[:, 0], torch.zeros(2, 1, 6)), "E_SHAPE", "hx", "(layers, hidden_size)",
    ),
    "hx type": (lambda: gru()(X, torch.zeros(2, 2, 6).int()), "E_DTYPE", "hx", "int32"),
    "hx pair": (lambda: gru()(X, (X, X)), "E_ARGUMENT", "hx", "a tuple of 2"),
    "hx NaN": (lambda: gru()(X, torch.full((2, 2, 6), torch.nan)), "E_NONFINITE", "hx", "NaN"),
    "hx tensor": (lambda: RevLSTM(3, 6)(X, X), "E_ARGUMENT", "hx", "(h, c)"),
    "hx triple": (lambda: RevLSTM(3, 6)(X, (X, X, X)), "E_ARGUMENT", "hx", "a tuple of 3"),
    "hx of c": (
        lambda: RevLSTM(3, 6)(X, (torch.zeros(1, 2, 6), X)), "E_SHAPE", "hx[1]", "[1, 2, 6]",
    ),
    "hx and None": (
        lambda: RevLSTM(3, 6)(X, (torch.zeros(1, 2, 6), None)), "E_DTYPE", "hx[1]", "NoneType",
    ),
    "state of a cell": (
        lambda: gru()(X, state_of(RevLSTM)), "E_ARGUMENT", "hx.config.cell", "revlstm",
    ),
    "state of a limit": (
        lambda: gru()(X, state_of(max_forget_bits=5)),
        "E_ARGUMENT", "hx.config.max_forget_bits", "5",
    ),
    "state of a format": (
        lambda: gru()(X, state_of(formats=Formats(22))), "E_ARGUMENT", "hx.config.formats", "22",
    ),
    "state of a cap": (
        lambda: gru()(X, state_of(z_max=1000)), "E_ARGUMENT", "hx.config.z_max", "1000",
    ),
    "state of a layout": (
        lambda: gru()(X, state_of(buffer="wordlist")), "E_ARGUMENT", "hx.config.buffer", "wordlist",
    ),
    "state of rows": (
        lambda: gru()(X[:, :1], state_of()), "E_SHAPE", "hx.h", "(layers, batch, hidden_size)",
    ),
    "state on a device": (
        lambda: gru()(X, state_of().to("meta")), "E_ARGUMENT", "hx.h", "device cpu",
    ),
    "state with a c": (
        lambda: gru()(X, replace(state_of(RevLSTM), config=None)), "E_ARGUMENT", "hx.c", "None",
    ),
    "state both ways": (
        lambda: gru(bidirectional=True)(X, state_of()), "E_UNSUPPORTED", "hx", "bidirectional",
    ),
    "state rows": (lambda: gru().initial_state(0), "E_ARGUMENT", "batch_size", "at least 1"),
    "packed features": (
        lambda: gru()(pack_sequence([X[:, 0, :2]])), "E_SHAPE", "input.data", "input_size=3",
    ),
    "packed tokens": (
        lambda: gru()(pack_sequence([X[:, 0].long()])), "E_DTYPE", "input.data", "int64",
    ),
    "packed too few": (lambda: gru()(packed([2, 2])), "E_SHAPE", "input.batch_sizes", "5 in all"),
    "packed rising": (lambda: gru()(packed([2, 3])), "E_SHAPE", "input.batch_sizes", "fall"),
    "packed order": (
        lambda: gru()(packed([3, 2], torch.tensor([0, 0, 1]))),
        "E_RANGE", "input.sorted_indices", "order",
    ),
    "packed hx": (
        lambda: gru()(packed([3, 2]), torch.zeros(2, 2, 6)), "E_SHAPE", "hx", "[2, 3, 6]",
    ),
    "packed, encoded": (
        lambda: gru(slice_size=1).encode(packed([3, 2])), "E_UNSUPPORTED", "x", "mask",
    ),
    "no Config": (lambda: rev_rnn(X, {}, {"cell": "revgru"}), "E_ARGUMENT", "config", "dict"),
    "dtype": (lambda: gru(dtype=torch.int32), "E_DTYPE", "dtype", "int32"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("case", CALLS)
def test_calls_are_refused_in_the_callers_words(case: str) -> None:
    call, code, argument, word = CALLS[case]
    with pytest.raises(RevRNNError) as caught:
        call()
    assert (caught.value.code, caught.value.argument) == (code, argument)
    assert word in str(caught.value)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "dropout": (lambda m: setattr(m, "dropout", 0.99), "dropout"),
    "dropout NaN": (lambda m: setattr(m, "dropout", float("nan")), "dropout"),
    "weight drop": (lambda m: setattr(m, "weight_drop", 2), "weight_drop"),
    "batch first": (lambda m: setattr(m, "batch_first", 1), "batch_first"),
    "chunk": (lambda m: setattr(m, "chunk_size", 0), "chunk_size"),
    "pieces": (lambda m: setattr(m, "checkpoint_every", 2.5), "checkpoint_every"),
    "offload": (lambda m: setattr(m, "offload", "yes"), "offload"),
    "directions": (lambda m: setattr(m, "bidirectional", True), "bidirectional"),
    "bias": (lambda m: setattr(m, "bias", False), "bias"),
    "layers": (lambda m: setattr(m, "num_layers", 3), "num_layers"),
    "width": (lambda m: setattr(m, "hidden_size", 8), "hidden_size"),
    "projection": (lambda m: setattr(m, "proj_size", 2), "proj_size"),
    "config": (lambda m: setattr(m, "config", replace(m.config, hidden_size=8)), "config"),
    "layout": (lambda m: setattr(m, "config", replace(m.config, buffer="bigint")), "buffer"),
    "shape": (lambda m: setattr(m, "weight_hh_l1", nn.Parameter(X)), "weight_hh_l1"),
    "type": (
        lambda m: setattr(m, "bias_l1", nn.Parameter(m.bias_l1.detach().double())), "bias_l1",
    ),
    "data": (lambda m: setattr(m.weight_hh_l0, "data", torch.ones(3)), "weight_hh_l0"),
    "NaN": (lambda m: nn.init.constant_(m.bias_l1, torch.nan), "bias_l1"),
    "none": (lambda m: setattr(m, "weight_ih_l1", None), "weight_ih_l1"),
    "deleted": (lambda m: delattr(m, "weight_hh_l0"), "weight_hh_l0"),
    "complex": (
        lambda m: setattr(m, "bias_l0", nn.Parameter(torch.zeros(18, dtype=torch.complex64))),
        "bias_l0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_changes_after_construction_are_refused(case: str) -> None:
    change, name = CHANGES[case]
    module = gru(dropout=0.5)

    def changed_and_called() -> None:
        change(module)
        module(X)

    with pytest.raises(RevRNNError) as caught:
        changed_and_called()
    assert caught.value.argument == name


@pytest.mark.parametrize("name", ["weight_hh_l1", "bias_l1_reverse"])
def test_parameters_have_the_callers_names_in_two_directions(name: str) -> None:
    module = gru(bidirectional=True)
    nn.init.constant_(getattr(module, name), torch.inf)
    with pytest.raises(RevRNNError, match=rf"E_NONFINITE\] {name}"):
        module(X)


def test_changes_that_fit_are_taken() -> None:
    module = gru()
    module.dropout, module.batch_first, module.bias = np.float32(0.25), True, True
    module.config = replace(module.config, max_forget_bits=5)
    module.chunk_size = np.int64(4)
    assert type(module.chunk_size) is int
    assert module(X.transpose(0, 1))[0].shape == (2, 5, 6)
    assert module.max_forget_bits == 5
    assert [w.shape for w in module.all_weights[0]] == [(18, 3), (18, 3), (18,)]
    replica = module._replicate_for_data_parallel()
    for key, value in module.named_parameters():
        setattr(replica, key, value.detach())
    assert replica(X.transpose(0, 1))[0].shape == (2, 5, 6)
    old = dict(module.__dict__)
    del old["offload"]
    bare = RevGRU.__new__(RevGRU)
    bare.__setstate__(old)
    assert bare.offload is False


def test_numpy_whole_numbers() -> None:
    sizes = {"input_size": 3, "hidden_size": 6, "num_layers": 2, "max_forget_bits": 2}
    module = RevGRU(**{name: np.int64(size) for name, size in sizes.items()})  # type: ignore[arg-type]
    assert module.config == RevGRU(**sizes).config  # type: ignore[arg-type]
    assert type(module.config.hidden_size) is int
    assert initial_state(module.config, np.int32(2)) == module.initial_state(2)
    with pytest.raises(RevRNNError, match="num_layers"):
        RevGRU(3, 6, np.bool_(True))  # type: ignore[arg-type]


INPUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "not contiguous": lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
    "wider": lambda x: torch.cat([x, x], 2)[:, :, :3],
    "double": torch.Tensor.double,
    "parameter": lambda x: nn.Parameter(x, requires_grad=False),
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs_of_any_kind_give_the_same(case: str) -> None:
    module = gru()
    wanted = module(X)[0]
    outputs, h = module(INPUTS[case](X))
    assert torch.equal(outputs, wanted)
    assert outputs.dtype == h.dtype == torch.float32  # the parameters' type
    low = gru().to(torch.bfloat16)
    assert low(X.to(torch.bfloat16))[0].dtype == torch.bfloat16


def test_expanded_inference_and_empty_inputs() -> None:
    module = gru()
    row = X[:, :1]
    assert torch.equal(module(row.expand(5, 2, 3))[0][:, 1], module(row)[0][:, 0])
    with torch.inference_mode():
        made = X + 0
        assert torch.equal(module(made)[0], module(X)[0])
    module(made)[0].sum().backward()  # nn.GRU cannot keep such a tensor
    assert module.weight_ih_l0.grad is not None
    none, h = module(X[:0], torch.ones(2, 2, 6))
    assert none.shape == (0, 2, 6)
    assert torch.equal(h, torch.ones(2, 2, 6))
    _, h = module(X, torch.ones(2, 2, 6), mask=~TRUE)
    assert torch.equal(h, torch.ones(2, 2, 6))
    lengths = torch.tensor([3, 5])
    given = pack_padded_sequence(X.transpose(0, 1), lengths, batch_first=True, enforce_sorted=False)
    assert module(given)[0].data.shape == (8, 6)


DIFFERENT: dict[str, Any] = {
    "max_forget_bits": 5,
    "buffer": "wordlist",
    "formats": Formats(22),
    "z_max": 1000,
    "forgetting": False,
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_weights_of_another_stack_are_refused(name: str) -> None:
    saved, other = gru().state_dict(), gru(**{name: DIFFERENT[name]})
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(RevRNNError, match=rf"state_dict.*{name}"):
        other.load_state_dict(saved)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())
    with pytest.raises(RuntimeError, match=name):
        nn.Sequential(other).load_state_dict(nn.Sequential(gru()).state_dict())
    if name != "forgetting":
        (report,) = other.load_state_dict(saved, strict=False).unexpected_keys
        assert name in report
        assert torch.equal(other.weight_ih_l0, saved["weight_ih_l0"])
    with pytest.raises(RevRNNError, match="revlstm"):
        gru().load_state_dict(RevLSTM(3, 6, 2).state_dict())


def test_saved_weights_come_back(tmp_path: Path) -> None:
    module = nn.Sequential(gru())
    file = BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert set(saved) == {f"0.{name}" for name, _ in gru().named_parameters()}
    for state in (saved, dict(saved)):
        other = nn.Sequential(gru())
        other.load_state_dict(state)
        assert torch.equal(other(X)[0], module(X)[0])
    save_model(module, str(tmp_path / "model"))
    other = nn.Sequential(gru())
    load_model(other, str(tmp_path / "model"))
    average = AveragedModel(module)
    average.update_parameters(module)
    plain = gru(bias=False)
    plain.load_state_dict({**plain.state_dict(), "bias_l0": torch.zeros(18)})
    with pytest.raises(RuntimeError, match="bias_l0"):
        plain.load_state_dict({**plain.state_dict(), "bias_l0": torch.ones(18)})
    for copied in (other, average, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied(X)[0], module(X)[0])


def test_parametrised_and_pruned_weights_are_used() -> None:
    module = gru()
    parametrizations.weight_norm(module, "weight_hh_l0")
    prune.l1_unstructured(module, "weight_ih_l1", 0.5)
    outputs, _ = module(X)
    outputs.sum().backward()
    weight = module.parametrizations["weight_hh_l0"].original1  # type: ignore[index]
    assert weight.grad.abs().sum() > 0
    plain = gru()
    plain.load_state_dict({n: v.detach() for n, v in module.named_weights().items()})
    assert torch.equal(plain(X)[0], outputs)
    assert (plain.weight_ih_l1 == 0).sum() >= 54
