"""An exact state is a value: moved, copied, compared, saved, cut into rows."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO
from typing import Any

import pytest
import torch
from torch.utils import _pytree

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, State

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
    found: State = torch.load(file, weights_only=True)
    return found


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
