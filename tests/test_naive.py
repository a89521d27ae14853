"""The second opinion against the oracle with settings that JAX would compile one by one.

Two readings of one text must agree. All that is asked of every implementation is asked of the
second opinion too (``test_operations.py``, ``test_buffer.py``, ``test_sequences.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement import assert_agree
from revrnn import Config, RevRNNError
from revrnn.config import LAYOUTS
from revrnn.conformance.contents import (
    HEAD_STYLES,
    STATE_STYLES,
    WEIGHT_STYLES,
    Shape,
    contents,
    gradient_arguments,
    sequence_arguments,
)
from revrnn.evaluation import Implementation, load
from strategies import SEEDS, configs, forget_range_sums, revmul_arguments


@pytest.fixture(scope="module")
def naive() -> Implementation:
    return load("naive")


def sums(bits: int) -> st.SearchStrategy[Any]:
    values = st.lists(forget_range_sums(bits), max_size=8)
    return values.map(lambda drawn: np.array(drawn, np.int64))


@pytest.mark.rule("FMT-004")
@given(data=st.data())
def test_views(oracle: Implementation, naive: Implementation, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(SEEDS, label="seed"))
    arguments = {
        "h": contents(
            "state", generator, (3, 4), data.draw(st.sampled_from(STATE_STYLES), label="h")
        ),
        "state_bits": data.draw(st.integers(16, 24), label="state_bits"),
        "view_bits": data.draw(st.integers(6, 13), label="view_bits"),
    }
    assert_agree(oracle, naive, "view", arguments)


@pytest.mark.rule("ACT-002", "ACT-003", "ACT-004", "ACT-005")
@given(data=st.data())
def test_activations(oracle: Implementation, naive: Implementation, data: st.DataObject) -> None:
    bits = data.draw(st.integers(8, 26), label="bits")
    arguments: dict[str, Any] = {"s": data.draw(sums(bits), label="s"), "bits": bits}
    assert_agree(oracle, naive, "sigmoid", arguments)
    assert_agree(oracle, naive, "tanh", arguments | {"bits": bits + 1})
    limit = data.draw(st.one_of(st.none(), st.integers(1, 10)), label="max_forget_bits")
    z_max = data.draw(st.integers(512, 1024), label="z_max")
    gate = arguments | {"max_forget_bits": limit, "z_max": z_max}
    assert_agree(oracle, naive, "forget_gate", gate)


@pytest.mark.rule("BUF-001", "BUF-002", "BUF-003", "MUL-001", "MUL-003")
@settings(max_examples=100)
@given(data=st.data())
def test_revmul_and_back(
    oracle: Implementation, naive: Implementation, data: st.DataObject
) -> None:
    """Several operations, then their inverses: each step of both must be the same."""
    rows, units = (data.draw(st.integers(1, 3), label="length") for _ in range(2))
    first = data.draw(revmul_arguments(LAYOUTS, rows, units))
    history = [first]
    for _ in range(data.draw(st.integers(1, 6), label="operations")):
        assert_agree(oracle, naive, "revmul", history[-1])
        history.append(history[-1] | naive.evaluate("revmul", history[-1]))
    width = first["slice_size"]
    state = history.pop()
    while history:
        before = history.pop()
        state = state | {"restore": before["h"][:, :width].copy()}
        assert_agree(oracle, naive, "revmul_inverse", state)
        state = state | naive.evaluate("revmul_inverse", state)
        for name in ("h", "heads", "words", "flags"):
            assert state[name].tolist() == before[name].tolist(), name


@pytest.mark.rule("CELL-040", "BUF-023", "BUF-024", "BUF-032", "EVAL-007")
@settings(max_examples=60)
@given(data=st.data())
def test_cells(oracle: Implementation, naive: Implementation, data: st.DataObject) -> None:
    """One step and back."""
    drawn = data.draw(configs(LAYOUTS)).as_dict() | {"num_layers": 1, "slice_size": 0}
    rows = data.draw(st.integers(1, 3), label="B")
    arguments = cell_arguments(drawn, rows, data)
    assert_agree(oracle, naive, "cell_forward", arguments)
    after = arguments | naive.evaluate("cell_forward", arguments)
    assert_agree(oracle, naive, "cell_reverse", after)
    back = naive.evaluate("cell_reverse", after)
    assert all(back[name].tolist() == arguments[name].tolist() for name in back)


def cell_arguments(config: dict[str, Any], rows: int, data: st.DataObject) -> dict[str, Any]:
    """Draw the arguments of ``cell_forward`` on an empty store."""
    one = Config.from_dict(config)
    generator = np.random.default_rng(data.draw(SEEDS, label="seed"))
    choices = {"weights": WEIGHT_STYLES, "inputs": WEIGHT_STYLES}
    choices |= {"states": STATE_STYLES, "heads": HEAD_STYLES}
    styles = {name: data.draw(st.sampled_from(of), label=name) for name, of in choices.items()}
    return sequence_arguments(one, Shape(1, rows), generator, operation="cell_forward", **styles)


@pytest.mark.rule("ERR-002")
def test_gradients_are_not_offered(naive: Implementation) -> None:
    """The request is checked first: a fault in it comes before what is not offered."""
    generator = np.random.default_rng(0)
    arguments = sequence_arguments(Config("revgru", 1, 2), Shape(2, 1), generator)
    arguments = gradient_arguments(arguments, generator) | {"states": "stored"}
    with pytest.raises(RevRNNError) as caught:
        naive.evaluate("sequence_gradient", arguments)
    assert caught.value.code == "E_UNSUPPORTED"
    with pytest.raises(RevRNNError) as caught:
        naive.evaluate("sequence_gradient", arguments | {"x": arguments["x"].astype(np.int32)})
    assert caught.value.code == "E_DTYPE"
