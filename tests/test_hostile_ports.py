"""Ports that nobody can trust: each ends in a named verdict, and the asker stays small."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revrnn import RevRNNError
from revrnn.conformance.adapters import Fault, InProcess, Question, find
from revrnn.conformance.limits import LONGEST_TEXT, Means, parsed
from revrnn.conformance.process import PortError, ProcessPort
from revrnn.conformance.report import as_json
from revrnn.conformance.runner import Runner
from revrnn.conformance.serve import answer_line, serve
from revrnn.evaluation import load, prepare
from revrnn.vectors import load as load_vectors
from revrnn.wire import encode

HELLO = json.dumps(
    {
        "hello": {
            "name": "hostile",
            "layouts": ["stream"],
            "profiles": ["gates"],
            "spec_version": "0.2",
        }
    }
)

PROGRAM = """
import json, os, signal, sys, time
say = lambda text: (sys.stdout.write(text + chr(10)), sys.stdout.flush())
sys.stdin.readline(); say({hello!r})
for line in sys.stdin:
    n = json.loads(line)["id"]
    out = lambda text: say('{{"id":%d,"out":{{%s}}}}' % (n, text))
    {deed}
"""

# What a port does when asked, its verdict and the limit that it goes beyond.
DEEDS = {
    "sys.stdout.write('x' * 60_000_000)": ("garbage", "line"),
    "out('\"y\":\"' + 'x' * 60_000_000 + '\"')": ("garbage", "line"),
    "out('\"y\":\"' + 'x' * 100_000 + '\"')": ("garbage", "text"),
    "out(','.join('\"n%d\":0' % i for i in range(200_000)))": ("garbage", ""),
    "out('\"y\":[' + '0,' * 3_000_000 + '0]')": ("garbage", "answer"),
    "out('\"y\":[' + '{},' * 100_000 + '{}]')": ("garbage", "answer"),
    "out('\"y\":' + '[' * 100_000)": ("garbage", "nesting"),
    "out('\"y\":' + '{\"a\":' * 100_000)": ("garbage", "nesting"),
    "out('\"y\":' + '9' * 1_000_000)": ("garbage", ""),
    "out('\"y\":NaN')": ("garbage", ""),
    "out('\"y\":-Infinity')": ("garbage", ""),
    "out('\"y\":1e400')": ("garbage", ""),
    'out(\'"y":0,"y":0\')': ("garbage", ""),
    'out(\'"y":{"data":[[1]],"dtype":"i32","shape":[1]}\')': ("garbage", ""),
    'out(\'"y":{"data":[1.0],"dtype":"i32","shape":[1]}\')': ("garbage", ""),
    'out(\'"y":{"data":[1],"dtype":[],"shape":[1]}\')': ("garbage", ""),
    "say('{\"id\":\"' + 'i' * 9000 + '\",\"out\":{}}')": ("garbage", ""),
    'say(\'{"id":true,"out":{}}\')': ("garbage", ""),
    'say(\'{"id":%d,"error":["E_OP"]}\' % n)': ("garbage", ""),
    'say(\'{"id":%d,"error":"E_OP","message":5}\' % n)': ("garbage", ""),
    'say(\'{"id":%d,"error":"E_OP","message":"%s"}\' % (n, \'m\' * 50_000))': ("garbage", "text"),
    "sys.stdout.buffer.write(bytes([255, 254, 0, 10])); sys.stdout.flush()": ("garbage", ""),
    "sys.stdout.write('{\"id\":%d' % n); sys.stdout.flush(); sys.exit(0)": ("garbage", ""),
    "os.close(1); time.sleep(60)": ("crash", ""),
    "os._exit(5)": ("crash", ""),
    "time.sleep(60)": ("hang", ""),
    "signal.signal(15, signal.SIG_IGN); time.sleep(60)": ("hang", ""),
    "os.fork() or time.sleep(60); os._exit(0)": ("hang", ""),
    "[sys.stderr.write('e' * 10_000) for _ in range(10_000)]": ("garbage", "messages"),
    "b = [bytearray(20_000_000) for _ in range(60)]; time.sleep(60)": ("memory", "memory"),
    "[os.fork() for _ in range(9)]; time.sleep(60)": ("children", "processes"),
    "[os.fork() or os.setsid() for _ in range(9)]; time.sleep(60)": ("children", "processes"),
}
QUESTION = Question("tanh", {"s": np.array([5]), "bits": 24})


def command_of(deed: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", PROGRAM.format(hello=HELLO, deed=deed)]


@pytest.mark.rule("CONF-005", "CONF-006")
@pytest.mark.parametrize("deed", DEEDS)
def test_each_has_its_verdict_and_leaves_nothing(deed: str) -> None:
    port = ProcessPort(command_of(deed), timeout=1.5, means=Means(400 * 2**20, 20))
    assert port._process is not None
    guard = port._process.guard
    (answer,) = port.answers([QUESTION])
    port.close()
    assert isinstance(answer, Fault)
    assert (answer.kind, answer.limit) == DEEDS[deed], answer
    assert len(str(answer)) < 700
    if sys.platform == "linux":
        guard._own.clear()
        assert [pid for pid in guard.members() if _lives(pid)] == []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.rule("CONF-005")
def test_an_answer_too_many_is_a_fault_of_the_next_case() -> None:
    deed = '[say(\'{"id":%d,"error":"E_OP"}\' % n) for _ in range(2)]'
    port = ProcessPort(command_of(deed), timeout=3)
    first, second = port.answers([QUESTION, QUESTION])
    port.close()
    assert first == {"error": "E_OP"}
    assert isinstance(second, Fault)
    assert "id 0 instead of 1" in second.detail


@pytest.mark.parametrize(
    "greeting",
    [
        {"name": "n" * 9000},
        {"name": 5},
        {"layouts": "stream"},
        {"layouts": ["x"] * 99},
        {"profiles": [["gates"]]},
        {"profiles": None},
        {"spec_version": 0.2},
        {"more": 1},
    ],
    ids=lambda greeting: str(greeting)[:30],
)
def test_greetings_that_are_none(greeting: dict[str, object]) -> None:
    hello = json.loads(HELLO)["hello"] | greeting
    program = f"input(); print({json.dumps({'hello': hello})!r})"
    with pytest.raises(PortError) as caught:
        ProcessPort([sys.executable, "-S", "-c", program], timeout=5)
    assert len(str(caught.value)) < 1200


@pytest.mark.rule("CONF-006")
def test_a_run_ends_within_its_time_and_says_so() -> None:
    begin = time.monotonic()
    port = ProcessPort(command_of("time.sleep(60)"), timeout=0.5)
    report = Runner(port, load("numpy"), examples=2, seconds=2).run()
    port.close()
    assert not report.passed()
    assert time.monotonic() - begin < 15
    text = as_json(report)
    assert "limit time" in text
    assert len(text) < 200_000


MEASURED = """
import sys
from revrnn.conformance.judge import judge_of
from revrnn.conformance.process import ProcessPort
from revrnn.conformance.report import as_html, as_json, as_text
from revrnn.conformance.runner import Runner
port = ProcessPort(sys.argv[1:], timeout=3)
report = Runner(port, judge_of(), examples=1, seconds=3).run()
port.close()
sizes = [len(make(report)) for make in (as_html, as_json, as_text)]
# Not ru_maxrss, which begins with what the process was forked from.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024, *sizes)
"""


@pytest.mark.rule("CONF-006")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone says what was the peak")
@pytest.mark.parametrize(
    "deed",
    [
        "out('\"y\":[' + '0,' * 400_000 + '0]')",
        "out(','.join('\"%s%d\":0' % ('n' * 7000, i) for i in range(900)))",
        'say(\'{"id":%d,"error":"E_OP","message":"%s"}\' % (n, \'m\' * 9000))',
    ],
)
def test_a_run_stays_small(deed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command_of(deed)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    memory, *sizes = map(int, done.stdout.split())
    assert memory < 500
    assert max(sizes) < 1_000_000


# --- what is sent to our own server, and to the doors behind it

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


def test_the_table_of_situations_names_vectors_that_there_are() -> None:
    """Every cell of docs/rules-and-situations.md has a vector of that operation and rule."""
    page = Path(__file__).parents[1] / "docs" / "rules-and-situations.md"
    rows = re.findall(r"^\| ([A-Z]+-\d{3}) \|(.*)\|$", page.read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 10
    for rule, cells in rows:
        for operation in re.findall(r"`(\w+)`", cells):
            assert any(rule in case.rules for case in load_vectors(operation)), (rule, operation)


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
    port = ProcessPort.__new__(ProcessPort)
    port.timeout = 1.0

    class Line:
        def receive(self, seconds: float) -> object:
            return value

    answer = port._answer(Line(), 0)  # type: ignore[arg-type]
    assert isinstance(answer, Fault | dict)
    assert len(str(answer)) < 2000


@FUZZ
@given(st.sampled_from(("tanh", "quantise", "revmul", "sequence_forward", "no")), VALUES)
def test_fuzz_the_door(operation: str, value: object) -> None:
    """Every argument of any kind is taken or refused by a named error."""
    for arguments in (value, {"config": value}, {"s": value, "bits": value}, {"kind": value}):
        with suppress(RevRNNError):
            prepare(operation, arguments)  # type: ignore[arg-type]
