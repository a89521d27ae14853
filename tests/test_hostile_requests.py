"""Requests that are none: our own server and the checks of operations answer every one."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from fuzzing.targets import answer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import PAGE, REASONS, SITUATIONS, page, reason, table

from revrnn import RevRNNError
from revrnn.conformance.adapters import Fault, InProcess, Question, find
from revrnn.conformance.limits import LONGEST_TEXT, parsed
from revrnn.conformance.serve import answer_line, serve
from revrnn.evaluation import load, prepare
from revrnn.rules import rules
from revrnn.wire import encode

# --- what is sent to our own server, and to the checks behind it

ARGS = encode({"s": np.array([5]), "bits": 24})
BAD_LINES = [
    b"",
    b"\n",
    b"}{",
    b"\xff\xfe",
    b"[1]",
    b"5",
    b"null",
    b"[" * 100_000,
    b"9" * 10_000,
    b'{"id":0}',
    b'{"id":-1,"operation":"tanh","args":{}}',
    b'{"id":1e9,"args":{}}',
    b'{"id":0,"operation":"tanh","args":[]}',
    b'{"id":0,"operation":["tanh"],"args":{}}',
    b'{"id":0,"operation":{},"args":{}}',
    b'{"id":0,"args":{}}',
    b'{"id":0,"operation":null}',
    b'{"id":0,"operation":"tanh","args":{"s":[1],"bits":24}}',
    b'{"id":0,"operation":"tanh","args":{"s":{"data":[1],"dtype":[],"shape":[1]},"bits":24}}',
    b'{"id":0,"operation":"tanh","args":{"s":{"data":[1],"dtype":"i64"},"bits":24}}',
    b'{"id":0,"operation":"cell_forward","args":{"config":{"cell":{},"buffer":{}}}}',
    b'{"id":0,"operation":"cell_forward","args":{"config":7}}',
    b'{"id":0,"operation":"quantise","args":{"kind":{},"formats":true}}',
    b'{"id":0,"operation":"revmul","args":{"layout":{"f64":"nan"}}}',
]


@pytest.mark.rule("CONF-003", "ERR-002")
@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:60]))
def test_the_server_answers_what_is_no_request(line: bytes) -> None:
    good = json.dumps({"id": 3, "operation": "tanh", "args": ARGS}).encode() + b"\n"
    answers = io.BytesIO()
    serve(load("numpy"), io.BytesIO(line.rstrip(b"\n") + b"\n" + good), answers)
    first, second = map(json.loads, answers.getvalue().splitlines())
    assert first["error"].startswith("E_")
    assert len(first["message"]) < 700
    assert "out" in second


@pytest.mark.rule("ERR-002")
def test_the_server_answers_for_an_implementation_that_breaks() -> None:
    class Broken:
        name = "broken"
        layouts: tuple[str, ...] = ("stream",)

        def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            raise ZeroDivisionError("by nothing")

    line = json.dumps({"id": 3, "operation": "tanh", "args": ARGS}).encode() + b"\n"
    answered = io.BytesIO()
    serve(Broken(), io.BytesIO(line * 2), answered)
    for answer in map(json.loads, answered.getvalue().splitlines()):
        assert (answer["id"], answer["error"]) == (3, "E_UNSUPPORTED")
        assert "ZeroDivisionError" in answer["message"]
    assert len(answered.getvalue().splitlines()) == 2


@pytest.mark.parametrize("name", ["numpy", "naive", "torch"])
def test_operations_that_are_no_text_and_arrays_of_any_order(name: str) -> None:
    implementation = find(name)
    no_text: tuple[Any, ...] = (["tanh"], {}, None, 5, b"tanh")
    for bad in no_text:
        with pytest.raises(RevRNNError, match="E_OP"):
            implementation.evaluate(bad, {})
    with pytest.raises(RevRNNError, match="E_ARGUMENT"):
        implementation.evaluate("tanh", [("s", 1)])  # type: ignore[arg-type]
    (answer,) = InProcess(implementation).answers(
        [
            Question(
                "revmul",
                {
                    "layout": "stream",
                    "slice_size": 0,
                    "mask": np.ones(2, np.bool_)[::-1],
                    "h": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
                    "z": np.full((3, 2), 700, np.int32).T,
                    "heads": np.asfortranarray(np.arange(40000, 40006).reshape(2, 3)),
                    "words": np.broadcast_to(np.uint16(3), (2,)),
                    "flags": np.zeros(0, np.uint8),
                },
            )
        ]
    )
    assert not isinstance(answer, Fault), answer
    assert answer["heads"].tolist() == [
        [head * 1024 // 700 for head in range(40000, 40003)],
        [head * 1024 // 700 for head in range(40003, 40006)],
    ]


def test_the_table_of_situations_is_that_of_the_vectors() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python tests/situations.py"


def test_every_situation_without_a_vector_has_a_reason() -> None:
    cells = [(rule, *cell) for rule, row in table().items() for cell in row.items()]
    assert len(cells) == len(SITUATIONS) * len(rules()) > 600
    bare = [(rule, situation) for rule, situation, asked_by in cells if not asked_by]
    assert not [cell for cell in bare if reason(*cell) not in REASONS]


# --- fuzzing: more of it by ``nox -s fuzz``

EXAMPLES = int(os.environ.get("REVRNN_FUZZ", "60"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None)
WORDS = (
    "id",
    "operation",
    "args",
    "tanh",
    "s",
    "bits",
    "data",
    "dtype",
    "shape",
    "i64",
    "f64",
    "config",
    "cell",
    "revgru",
    "quantise",
    "kind",
    "x",
    "formats",
    "revmul",
    "heads",
    "layout",
    "stream",
    "0x1p3",
    "nan",
    "12",
    "bigint",
    "error",
    "out",
    "E_OP",
)
LEAVES = st.one_of(
    st.sampled_from(WORDS),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=20,
)
REQUESTS = st.fixed_dictionaries(
    {
        "id": st.just(0),
        "operation": st.sampled_from(("tanh", "quantise", "revmul", "cell_forward")),
        "args": st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6),
    }
).map(lambda request: json.dumps(request).encode())
LINES = st.one_of(st.binary(max_size=200), VALUES.map(lambda v: json.dumps(v).encode()), REQUESTS)


@FUZZ
@given(LINES)
def test_fuzz_the_server(line: bytes) -> None:
    """Every line gets an answer that is itself in the protocol."""
    answer = answer_line(load("numpy"), line)
    assert set(answer) in ({"id", "out"}, {"id", "error", "message"}, {"hello"})
    assert not str(answer.get("message", "")).startswith(("TypeError", "AttributeError"))


@FUZZ
@given(LINES)
def test_fuzz_answers(line: bytes) -> None:
    """Every line of a port is an object or a fault, and what it says is short."""
    value = parsed(line)
    assert isinstance(value, dict) or len(str(value)) < LONGEST_TEXT
    answer = answer_of(value)
    assert isinstance(answer, Fault | dict)
    assert len(str(answer)) < 2000


@FUZZ
@given(st.sampled_from(("tanh", "quantise", "revmul", "sequence_forward", "no")), VALUES)
def test_fuzz_the_door(operation: str, value: object) -> None:
    """Every argument of any kind is taken or refused by a named error."""
    for arguments in (value, {"config": value}, {"s": value, "bits": value}, {"kind": value}):
        with suppress(RevRNNError):
            prepare(operation, arguments)  # type: ignore[arg-type]
