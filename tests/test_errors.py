"""Bad input: the code that the specification names, the same in every implementation."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from error_requests import CASES, CONFIG, configured, forward, revmul
from revrnn import Config, Formats, RevRNNError
from revrnn.conformance.contents import Arguments
from revrnn.errors import CODES
from revrnn.evaluation import Implementation, fresh_heads, load, outcome


def snapshot(arguments: Arguments) -> bytes:
    return pickle.dumps(arguments)


@pytest.mark.rule(
    "ERR-001",
    "ERR-003",
    "EVAL-001",
    "EVAL-002",
    "EVAL-004",
    "EVAL-005",
    "EVAL-006",
    "QNT-004",
    "PROD-002",
    "BUF-023",
    "BUF-024",
    "BUF-032",
    "BUF-037",
    "CELL-001",
    "ACT-006",
    "FMT-002",
    "FMT-005",
    "SEQ-007",
    "BUF-001",
)
@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "_"))
def test_code(implementation: Implementation, case: str) -> None:
    operation, make, code = CASES[case]
    arguments = make()
    if implementation.name == "naive" and operation == "sequence_gradient":
        pytest.skip("naive computes no gradients")
    before = snapshot(arguments)
    assert outcome(implementation, operation, arguments) == {"error": code}
    assert snapshot(arguments) == before


@pytest.mark.parametrize("name", ["Numpy", "tensorflow", "", None, ["numpy"], "revrnn.numpy_ref"])
def test_an_implementation_that_there_is_not_is_named(name: Any) -> None:
    with pytest.raises(RevRNNError, match=r"^\[E_ARGUMENT\] name: got .*'numpy', 'naive', 'torch'"):
        load(name)


@pytest.mark.rule("ERR-001")
def test_every_code_has_a_case_or_a_reason() -> None:
    # E_OVERFLOW and E_REVERSAL do not arise from a request; their implementations test them.
    # E_UNSUPPORTED is below.
    reasons = {"E_OVERFLOW", "E_REVERSAL", "E_UNSUPPORTED"}
    assert {code for _, _, code in CASES.values()} | reasons == set(CODES)


@pytest.mark.rule("EVAL-002")
def test_bigint_heads_are_whole_numbers(oracle: Implementation) -> None:
    heads = fresh_heads("bigint", 2, 3)
    heads[1, 2] = 1.5
    arguments = revmul(layout="bigint", heads=heads)
    assert outcome(oracle, "revmul", arguments) == {"error": "E_DTYPE"}


@pytest.mark.rule("BUF-037")
@pytest.mark.rule("ERR-003")
@pytest.mark.parametrize("hidden", [False, True, [True, False]])
def test_masks_are_not_lost_in_silence(implementation: Implementation, hidden: Any) -> None:
    values = np.ma.masked_invalid(np.array([np.nan, 1], np.float32))
    values.mask = hidden
    with pytest.raises(RevRNNError, match="masked array") as caught:
        implementation.evaluate("quantise", {"x": values, "kind": "operand"})
    assert (caught.value.code, caught.value.argument) == ("E_DTYPE", "x")


@pytest.mark.parametrize("operation", ["revmul", "sequence_forward"])
def test_layouts_not_offered_are_unsupported(
    implementation: Implementation, operation: str
) -> None:
    arguments = revmul(layout="bigint")
    if operation == "sequence_forward":
        arguments = configured(buffer="bigint") | {"heads": fresh_heads("bigint", 2, 2)}
    got = outcome(implementation, operation, arguments)
    assert ("error" not in got) == ("bigint" in implementation.layouts)
    if "error" in got:
        assert got == {"error": "E_UNSUPPORTED"}


@pytest.mark.rule("ERR-002")
def test_order_of_codes(implementation: Implementation) -> None:
    """With several faults at once the first in the order of ERR-002 is reported."""
    arguments = forward()
    faults: list[tuple[str, Any]] = [
        ("E_RANGE", {"x": np.full((3, 2, 3), 32767, np.int16)}),
        ("E_SHAPE", {"h": np.zeros((2, 3, 4), np.int32)}),
        ("E_DTYPE", {"mask": np.ones((3, 2), np.int8)}),
        ("E_ARGUMENT", {"trace": "yes"}),
    ]
    for code, fault in faults:
        arguments = arguments | fault
        assert outcome(implementation, "sequence_forward", arguments) == {"error": code}
    config = arguments["config"]
    for code, change in (
        ("E_SLICE", {"slice_size": 9}),
        ("E_FORGET_BITS", {"max_forget_bits": 0}),
        ("E_HIDDEN_SIZE", {"hidden_size": 3}),
        ("E_ARGUMENT", {"cell": "gru"}),
    ):
        config = config | change
        got = outcome(implementation, "sequence_forward", arguments | {"config": config})
        assert got == {"error": code}


@pytest.mark.rule("ERR-004")
@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "_"))
def test_message_names_argument_given_and_allowed(oracle: Implementation, case: str) -> None:
    operation, make, code = CASES[case]
    with pytest.raises(RevRNNError) as caught:
        oracle.evaluate(operation, make())
    error = caught.value
    assert str(error) == f"[{code}] {error.argument}: got {error.given}; allowed: {error.allowed}"
    assert error.argument
    assert error.allowed
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, str(again)) == (code, str(error))


@pytest.mark.rule("ERR-004")
def test_messages_are_one_short_line_whatever_was_given() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    given: list[Any] = [10**5000, "a\nb\x1b[2J\udc80", np.zeros((99, 99)), ["x"] * 10**5, Broken()]
    for value in given:
        with pytest.raises(RevRNNError) as caught:
            Config("revgru", value, 2)
        text = str(caught.value)
        assert text.isprintable()
        assert len(text) < 700
        assert text.endswith("at least 1")
        assert str(pickle.loads(pickle.dumps(caught.value))) == text


@pytest.mark.rule("FMT-002")
def test_formats_are_values() -> None:
    assert Formats() == Formats(23, 12, 10, 12)
    assert hash(Config("revgru", 1, 2)) == hash(Config("revgru", 1, 2))
    assert Config.from_dict(CONFIG.as_dict()) == CONFIG
