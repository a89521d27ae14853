"""What does not fit is said at the door of a module, in the caller's own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from revrnn import Config, Formats, RevRNNError
from revrnn.torch_impl import (
    RevGRU,
    RevLSTM,
    State,
    engine_plan,
    plan,
    rev_rnn,
    set_engine,
    set_product_method,
)

X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
TRUE = torch.ones(5, 2, dtype=torch.bool)


ARRAY: Any = np.array([1, 2])
NOTHING: Any = None
CONFIG = Config("revgru", 3, 6, 2)
P = {name: torch.zeros(shape) for name, shape in CONFIG.parameter_shapes().items()}


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
        lambda: gru(batch_first=True)(X[:, 0, :2]),
        "E_SHAPE",
        "input",
        "(seq, input_size=3)",
    ),
    "features, batch first": (
        lambda: gru(batch_first=True)(X[:, :, :2]),
        "E_SHAPE",
        "input",
        "(batch, seq,",
    ),
    "axes": (lambda: gru()(X[None]), "E_SHAPE", "input", "(seq, input_size=3) or"),
    "device": (lambda: gru()(X.to("meta")), "E_ARGUMENT", "input", "of the parameters"),
    "nested": (
        lambda: gru()(torch.nested.nested_tensor([X[:, 0], X[:2, 0]], layout=torch.jagged)),
        "E_UNSUPPORTED",
        "input",
        "nested",
    ),
    "sparse": (lambda: gru()(X.to_sparse()), "E_UNSUPPORTED", "input", "sparse"),
    "NaN": (lambda: gru()(X / 0), "E_NONFINITE", "input", "NaN"),
    "NaN both ways": (lambda: gru(bidirectional=True)(X / 0), "E_NONFINITE", "input", "NaN"),
    "mask by rows": (
        lambda: gru(batch_first=True)(X, mask=TRUE.t()),
        "E_SHAPE",
        "mask",
        "(batch, seq) = [5, 2]",
    ),
    "mask of a row": (lambda: gru()(X[:, 0], mask=TRUE), "E_SHAPE", "mask", "(seq,) = [5]"),
    "mask of numbers": (lambda: gru()(X, mask=TRUE.long()), "E_DTYPE", "mask", "torch.bool"),
    "mask as a list": (lambda: gru()(X, mask=TRUE.tolist()), "E_DTYPE", "mask", "Tensor"),
    "resets": (lambda: gru()(X, resets=TRUE[:4]), "E_SHAPE", "resets", "(seq, batch) = [5, 2]"),
    "hx rows": (lambda: gru()(X, torch.zeros(2, 3, 6)), "E_SHAPE", "hx", "[2, 2, 6]"),
    "hx rows both ways": (
        lambda: gru(bidirectional=True)(X, torch.zeros(4, 3, 6)),
        "E_SHAPE",
        "hx",
        "(layers · directions, batch, hidden_size) = [4, 2, 6]",
    ),
    "hx layers both ways": (
        lambda: gru(bidirectional=True)(X, torch.zeros(2, 2, 6)),
        "E_SHAPE",
        "hx",
        "[4, 2, 6]",
    ),
    "hx with a batch": (
        lambda: gru()(X[:, 0], torch.zeros(2, 1, 6)),
        "E_SHAPE",
        "hx",
        "(layers, hidden_size)",
    ),
    "hx type": (lambda: gru()(X, torch.zeros(2, 2, 6).int()), "E_DTYPE", "hx", "int32"),
    "hx pair": (lambda: gru()(X, (X, X)), "E_ARGUMENT", "hx", "a tuple of 2"),
    "hx NaN": (lambda: gru()(X, torch.full((2, 2, 6), torch.nan)), "E_NONFINITE", "hx", "NaN"),
    "hx tensor": (lambda: RevLSTM(3, 6)(X, X), "E_ARGUMENT", "hx", "(h, c)"),
    "hx triple": (lambda: RevLSTM(3, 6)(X, (X, X, X)), "E_ARGUMENT", "hx", "a tuple of 3"),
    "hx of c": (
        lambda: RevLSTM(3, 6)(X, (torch.zeros(1, 2, 6), X)),
        "E_SHAPE",
        "hx[1]",
        "[1, 2, 6]",
    ),
    "hx and None": (
        lambda: RevLSTM(3, 6)(X, (torch.zeros(1, 2, 6), None)),
        "E_DTYPE",
        "hx[1]",
        "NoneType",
    ),
    "state of a cell": (
        lambda: gru()(X, state_of(RevLSTM)),
        "E_ARGUMENT",
        "hx.config.cell",
        "revlstm",
    ),
    "state of a limit": (
        lambda: gru()(X, state_of(max_forget_bits=5)),
        "E_ARGUMENT",
        "hx.config.max_forget_bits",
        "5",
    ),
    "state of a format": (
        lambda: gru()(X, state_of(formats=Formats(22))),
        "E_ARGUMENT",
        "hx.config.formats",
        "22",
    ),
    "state of a cap": (
        lambda: gru()(X, state_of(z_max=1000)),
        "E_ARGUMENT",
        "hx.config.z_max",
        "1000",
    ),
    "state of a layout": (
        lambda: gru()(X, state_of(buffer="wordlist")),
        "E_ARGUMENT",
        "hx.config.buffer",
        "wordlist",
    ),
    "state of rows": (
        lambda: gru()(X[:, :1], state_of()),
        "E_SHAPE",
        "hx.h",
        "(layers, batch, hidden_size)",
    ),
    "state on a device": (
        lambda: gru()(X, state_of().to("meta")),
        "E_ARGUMENT",
        "hx.h",
        "device cpu",
    ),
    "state with a c": (
        lambda: gru()(X, replace(state_of(RevLSTM), config=None)),
        "E_ARGUMENT",
        "hx.c",
        "None",
    ),
    "state both ways": (
        lambda: gru(bidirectional=True)(X, state_of()),
        "E_UNSUPPORTED",
        "hx",
        "bidirectional",
    ),
    "state rows": (lambda: gru().initial_state(0), "E_ARGUMENT", "batch_size", "at least 1"),
    "packed features": (
        lambda: gru()(pack_sequence([X[:, 0, :2]])),
        "E_SHAPE",
        "input.data",
        "input_size=3",
    ),
    "packed tokens": (
        lambda: gru()(pack_sequence([X[:, 0].long()])),
        "E_DTYPE",
        "input.data",
        "int64",
    ),
    "packed too few": (lambda: gru()(packed([2, 2])), "E_SHAPE", "input.batch_sizes", "5 in all"),
    "packed rising": (lambda: gru()(packed([2, 3])), "E_SHAPE", "input.batch_sizes", "fall"),
    "packed order": (
        lambda: gru()(packed([3, 2], torch.tensor([0, 0, 1]))),
        "E_RANGE",
        "input.sorted_indices",
        "order",
    ),
    "packed hx": (
        lambda: gru()(packed([3, 2]), torch.zeros(2, 2, 6)),
        "E_SHAPE",
        "hx",
        "[2, 3, 6]",
    ),
    "packed, encoded": (
        lambda: gru(slice_size=1).encode(packed([3, 2])),  # type: ignore[arg-type]
        "E_UNSUPPORTED",
        "x",
        "mask",
    ),
    "no Config": (lambda: rev_rnn(X, {}, {"cell": "revgru"}), "E_ARGUMENT", "config", "dict"),  # type: ignore[arg-type]
    "dtype": (lambda: gru(dtype=torch.int32), "E_DTYPE", "dtype", "int32"),
    "dtype of arrays": (lambda: gru(dtype=ARRAY), "E_DTYPE", "dtype", "array([1, 2])"),
    "proj_size of arrays": (lambda: gru(proj_size=ARRAY), "E_UNSUPPORTED", "proj_size", "0"),
    "no device": (lambda: gru(device=2**64), "E_ARGUMENT", "device", "available"),
    "device of a plan": (lambda: engine_plan(CONFIG, 2**64), "E_ARGUMENT", "device", "a device"),  # type: ignore[arg-type]
    "settings": (lambda: engine_plan(CONFIG, settings=3), "E_ARGUMENT", "settings", "int"),  # type: ignore[arg-type]
    "engine": (lambda: set_engine(ARRAY), "E_ARGUMENT", "name", "'eager'"),
    "product": (lambda: set_product_method(ARRAY), "E_ARGUMENT", "method", "'int8'"),
    "states": (lambda: rev_rnn(X, P, CONFIG, states=ARRAY), "E_ARGUMENT", "states", "'stored'"),
    "a fixed setting": (
        lambda: setattr(gru(), "hidden_size", ARRAY),
        "E_ARGUMENT",
        "hidden_size",
        "6",
    ),
    "gains": (lambda: rev_rnn(X, P, CONFIG, gains=lambda: X), "E_ARGUMENT", "gains", "number"),  # type: ignore[arg-type, misc]
    "steps": (lambda: plan(CONFIG, 10**400, 1), "E_ARGUMENT", "steps", "2^62"),
    "rows of no numbers": (
        lambda: state_of().index_select(torch.zeros(1, dtype=torch.long, device="meta")),
        "E_DTYPE",
        "rows",
        "meta",
    ),
    "no states": (lambda: State.cat(X[0, 0, 0]), "E_ARGUMENT", "states", "one State"),
    "states without h": (
        lambda: State.cat([State(NOTHING, None, None)]),
        "E_ARGUMENT",
        "states",
        "one",
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("case", CALLS)
def test_calls_are_refused_in_the_callers_words(case: str) -> None:
    call, code, argument, word = CALLS[case]
    with pytest.raises(RevRNNError) as caught:
        call()
    assert (caught.value.code, caught.value.argument) == (code, argument)
    assert word in str(caught.value)


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
