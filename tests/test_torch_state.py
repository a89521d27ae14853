"""An exact state is a value: moved, copied, compared, saved, cut into rows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, State, save_parameters, save_state

SETTINGS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (RevGRU, {}),
    (RevLSTM, {"buffer": "wordlist"}),
    (RevLSTM, {"forgetting": False}),
)


def made(number: int) -> tuple[Any, State]:
    torch.manual_seed(number)
    kind, settings = SETTINGS[number]
    module = kind(3, 6, 2, **settings)
    state: State = module(torch.randn(4, 3, 3), module.initial_state(3))[1]
    return module, state


every = pytest.mark.parametrize("number", range(len(SETTINGS)))


def saved(state: State) -> State:
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: State = torch.load(file, weights_only=True)
    return loaded


@every
@pytest.mark.rule("SEQ-006")
def test_copies_are_equal_and_go_on_the_same(number: int) -> None:
    module, state = made(number)
    x = torch.randn(3, 3, 3)
    wanted, end = module(x, state)
    leaves, spec = _pytree.tree_flatten(state)
    copies = [
        state.to("cpu"),
        state.cpu(),
        state.clone(),
        state.detach(),
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
        saved(state),
        State.from_dict(state.as_dict()),
        _pytree.tree_unflatten(leaves, spec),
        state.index_select([0, 1, 2]),
        State.cat([state]),
    ]
    assert len(leaves) == len(state.tensors())
    for other in copies:
        assert isinstance(other, State)
        assert other == state
        assert hash(other) == hash(state)
        assert other.config == module.config
        outputs, last = module(x, other)
        assert torch.equal(outputs, wanted)
        assert last == end
    assert state != end
    assert state != module.initial_state(3)
    assert state != 3
    assert state.clone().h.data_ptr() != state.h.data_ptr()
    assert state.to("meta").h.is_meta
    assert (state.batch_size, state.device) == (3, torch.device("cpu"))
    assert len(repr(state)) < 100


@every
@pytest.mark.rule("SEQ-002")
def test_rows_are_selected_and_joined(number: int) -> None:
    module, state = made(number)
    x = torch.randn(3, 3, 3)
    _, end = module(x, state)
    order = torch.tensor([2, 0])
    _, part = module(x[:, order], state.index_select(order))
    assert part == end.index_select(order)
    assert State.cat([end.index_select([0]), end.index_select([1, 2])]) == end


def test_what_does_not_fit_a_state_is_refused() -> None:
    _, state = made(0)
    _, other = made(1)
    bad: dict[str, Any] = {
        "rows": lambda: state.index_select([3]),
        "device": lambda: state.to(torch.float32),  # type: ignore[arg-type]
        "states": lambda: State.cat([state, other]),
        "mapping": lambda: State.from_dict({"c": None}),
    }
    for name, call in bad.items():
        with pytest.raises(RevRNNError) as caught:
            call()
        assert caught.value.argument == name
    for rows in ([], [0.5], [[0]], [-1]):
        with pytest.raises(RevRNNError, match="rows"):
            state.index_select(rows)  # type: ignore[arg-type]
    with pytest.raises(RevRNNError, match="device"):
        state.to("nowhere")


START = RevGRU(3, 6, 2).initial_state(2)
other: Any = "x"


STATES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a device that is not here": (lambda: START.to("hpu"), "E_ARGUMENT", "device"),
    "no device": (lambda: START.to(other), "E_ARGUMENT", "device"),
    "text for rows": (lambda: START.index_select(other), "E_DTYPE", "rows"),
    "a slice for rows": (lambda: START.index_select(slice(0, 1)), "E_DTYPE", "rows"),  # type: ignore[arg-type]
    "no rows": (lambda: START.index_select([]), "E_SHAPE", "rows"),
    "one for many": (lambda: State.cat(START), "E_ARGUMENT", "states"),  # type: ignore[arg-type]
    "no states": (lambda: State.cat(None), "E_ARGUMENT", "states"),  # type: ignore[arg-type]
    "numbers": (lambda: State.from_dict({"h": 1}), "E_DTYPE", "mapping.h"),
    "config": (
        lambda: State.from_dict({"h": START.h, "config": "x"}),
        "E_ARGUMENT",
        "mapping.config",
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_states_are_refused_in_the_callers_words(case: str) -> None:
    call, code, argument = STATES[case]
    with pytest.raises(RevRNNError) as caught:
        call()
    assert (caught.value.code, caught.value.argument) == (code, argument)


def test_nothing_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    zero = torch.zeros(2, 3, dtype=torch.int32)
    cases: list[tuple[Callable[[Path], Any], str]] = [
        (lambda path: save_state(path, replace(START, heads=zero)), "state.heads"),
        (lambda path: save_state(path, replace(START, config=other)), "state.config"),
        (lambda path: save_state(path, replace(START, h=other)), "state.h"),
        (lambda path: save_parameters(path, {1: zero}, RevGRU(3, 6).config), "params"),  # type: ignore[dict-item]
    ]
    for number, (write, name) in enumerate(cases):
        path = tmp_path / str(number)
        with pytest.raises(RevRNNError) as caught:
            write(path)
        assert caught.value.argument == name
        assert not path.exists()
