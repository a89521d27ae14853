"""The helpers that other tests rely on can fail, and fail readably."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement import assert_agree, assert_law, assert_sequences_agree, equal_bits
from check_types import verdict
from revrnn import Config, rules
from revrnn.comparison import close, differences, literal, reproduction, tolerance_of
from revrnn.conformance.contents import (
    HEAD_STYLES,
    MASK_STYLES,
    STATE_STYLES,
    WEIGHT_STYLES,
    sequence_arguments,
)
from revrnn.digest import digest
from revrnn.evaluation import Implementation, prepare
from strategies import FIXED, configs, name_of, sequences, shapes


class Broken:
    """An implementation that flips one bit of one result."""

    layouts: tuple[str, ...] = ("stream", "wordlist", "bigint")

    def __init__(self, oracle: Implementation, result: str) -> None:
        self.name, self.oracle, self.result = "broken", oracle, result

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        results = dict(self.oracle.evaluate(operation, arguments))
        if self.result in results and np.size(results[self.result]):
            value = np.array(results[self.result])
            value.flat[-1] = value.flat[-1] ^ 1
            results[self.result] = value
        return results


@pytest.mark.rule("EVAL-009", "EVAL-010")
@pytest.mark.parametrize("result", ["h_steps", "heads_steps", "words", "outputs", "h", "heads"])
def test_one_flipped_bit_is_reported(oracle: Implementation, result: str) -> None:
    config, shape = FIXED[1]
    arguments = sequence_arguments(config, shape, np.random.default_rng(3), "large")
    request = arguments | {"trace": True}
    with pytest.raises(AssertionError, match="broken differs from numpy") as caught:
        assert_agree(oracle, Broken(oracle, result), "sequence_forward", request)
    assert "To repeat it:" in str(caught.value)
    if result.endswith("_steps"):
        assert f"first difference: step {shape.steps - 1}" in str(caught.value)


def test_an_answer_that_was_given_is_compared(oracle: Implementation) -> None:
    arguments = sequence_arguments(*FIXED[1], np.random.default_rng(3))
    broken = Broken(oracle, "h")
    right, wrong = (one.evaluate("sequence_forward", arguments) for one in (oracle, broken))
    assert_agree(oracle, oracle, "sequence_forward", arguments, right)
    for one, pattern in ((broken, "broken differs from numpy"), (oracle, "only when asked again")):
        with pytest.raises(AssertionError, match=pattern):
            assert_agree(oracle, one, "sequence_forward", arguments, wrong)


@pytest.mark.rule("BUF-003")
def test_law_helper_notices_a_state_that_did_not_return(oracle: Implementation) -> None:
    arguments = sequence_arguments(*FIXED[1], np.random.default_rng(3))
    forward = oracle.evaluate("sequence_forward", arguments)
    assert_law(oracle, arguments, forward)
    for result in ("h", "heads"):
        with pytest.raises(AssertionError, match="did not return"):
            assert_law(Broken(oracle, result), arguments, forward)


class BrokenWithoutTrace(Broken):
    """An implementation whose way back is wrong where nobody asks for its steps."""

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "sequence_reverse" and not arguments.get("trace"):
            return super().evaluate(operation, arguments)
        return dict(self.oracle.evaluate(operation, arguments))


@pytest.mark.rule("BUF-003")
def test_sequences_agree_only_if_the_law_holds(oracle: Implementation) -> None:
    arguments = sequence_arguments(*FIXED[1], np.random.default_rng(3))
    assert_sequences_agree(oracle, oracle, arguments)
    with pytest.raises(AssertionError, match="did not return"):
        assert_sequences_agree(oracle, BrokenWithoutTrace(oracle, "h"), arguments)


def test_reproduction_is_a_program_that_runs(oracle: Implementation) -> None:
    arguments = sequence_arguments(*FIXED[2], np.random.default_rng(3))
    program = reproduction(oracle, "sequence_forward", arguments)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    assert out.getvalue() == "\n"


@given(st.lists(st.floats(width=32), max_size=4))
def test_literals_evaluate_to_themselves(values: list[float]) -> None:
    array = np.array(values, np.float32)
    again = eval(literal(array), {"np": np, "array": np.array})
    assert again.dtype == array.dtype
    assert np.array_equal(again, array, equal_nan=True)


@pytest.mark.rule("GRAD-021", "GEN-001")
def test_differences_sees_types_shapes_values_and_tolerances() -> None:
    a = np.arange(4, dtype=np.int32)
    assert not differences({"h": a}, {"h": a.copy()})
    assert differences({"h": a}, {"h": a.astype(np.int64)})
    assert differences({"h": a}, {"h": a.reshape(2, 2)})
    assert differences({"h": a}, {"h": a + 1})
    assert differences({"h": a}, {"error": "E_SHAPE"})
    assert differences({"wraps": 0}, {"wraps": 1})
    g = np.array([1000.0, 1e-9])
    tolerance = tolerance_of("grad_h")
    assert tolerance is not None
    assert close(g, g + 0.09, tolerance)
    assert not close(g, g + 0.11, tolerance)
    assert not close(g, g * np.nan, tolerance)
    assert tolerance_of("grad_weight_ih_l12") == tolerance
    assert tolerance_of("heads") is None
    assert not equal_bits({"g": np.array([0.0])}, {"g": np.array([-0.0])})


@pytest.mark.rule("EVAL-010")
@pytest.mark.rule("EVAL-010")
def test_digest_of_the_texts_example() -> None:
    state: dict[str, Any] = {"h": np.array([[[1, -1]]], np.int32), "heads": np.array([[2**15]])}
    state |= {"words": np.zeros(0, np.uint16), "flags": np.zeros(0, np.uint8)}
    assert digest(state) in rules.text("EVAL-010")


def test_digest_depends_on_everything() -> None:
    base: dict[str, Any] = {"h": np.zeros((1, 2, 4), np.int32), "words": np.zeros(2, np.uint16)}
    others = [
        base | {"h": np.zeros((1, 4, 2), np.int32)},
        base | {"h": np.zeros((1, 2, 4), np.int64)},
        base | {"words": np.zeros(3, np.uint16)},
        base | {"words": np.array([0, 1], np.uint16)},
        {"h": base["h"]},
    ]
    assert len({digest(state) for state in [base, *others]}) == 6
    # The format, written out once by hand: a change of the serialisation must be seen.
    import hashlib

    by_hand = b"h i32 1x1x2\n" + bytes([1, 0, 0, 0, 255, 255, 255, 255])
    by_hand += b"heads bigint 1x1\n5\n"
    state = {"heads": np.array([[5]], object), "h": np.array([[[1, -1]]], np.int32)}
    assert digest(state) == hashlib.sha256(by_hand).hexdigest()


@settings(max_examples=60)
@given(data=st.data())
def test_strategies_draw_valid_requests(data: st.DataObject) -> None:
    config = data.draw(configs(("stream", "wordlist", "bigint")))
    arguments = data.draw(sequences(config, data.draw(shapes())))
    request = prepare("sequence_forward", arguments)
    assert request.config == config


def test_styles_reach_the_edges() -> None:
    """What is called extreme is: limits of int32, of operands and of heads do occur."""
    config, shape = Config("revlstm", 8, 16), FIXED[1][1]
    generator = np.random.default_rng(0)
    a = sequence_arguments(
        config, shape, generator, "saturated", "saturated", "extreme", "random", "edges"
    )
    assert {a["h"].min(), a["h"].max()} == {-(2**31), 2**31 - 1}
    assert {a["x"].min(), a["x"].max()} == {-32512, 32512}
    assert {a["heads"].min(), a["heads"].max()} == {2**15, 2**31 - 1}
    assert len({name_of(setup) for setup in FIXED}) == len(FIXED)
    assert all((WEIGHT_STYLES, STATE_STYLES, MASK_STYLES, HEAD_STYLES))


@pytest.mark.parametrize(
    ("status", "output", "expected", "wanted"),
    [
        (0, "Success: no issues found in 7 source files", 7, 0),
        (0, "Success: no issues found in 6 source files", 7, 1),
        (0, "", 7, 1),
        (1, "Found 1 error in 1 file (checked 7 source files)", 7, 1),
        (2, "Can't find package 'revrnn'", 7, 2),
    ],
)
def test_type_check_does_not_pass_on_nothing(
    status: int, output: str, expected: int, wanted: int
) -> None:
    assert verdict(status, output, expected) == wanted
