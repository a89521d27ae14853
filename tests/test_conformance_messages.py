"""Messages, written in every way that is allowed, after others; what depends on that is told."""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import pytest

from revrnn.conformance.adapters import Answer, Fault, Question
from revrnn.conformance.life import Life, PortError
from revrnn.conformance.messages import ESCAPED, MINUS, NOTE, SPACES, UNESCAPED, written
from revrnn.conformance.process import RESTARTS, ProcessPort
from revrnn.conformance.report import as_text
from revrnn.conformance.runner import Runner
from revrnn.evaluation import load

ORDERED = """
import json, re, sys
from revrnn.conformance.serve import answer
from revrnn.evaluation import load
oracle = load("numpy")
for line in sys.stdin:
    request = json.loads(line)
    args = request.get("args", {{}})
    if {deed}:
        args = {{}}
    print(json.dumps(answer(oracle, request | {{"args": args}})), flush=True)
"""
# What only a port does that is asked in one order alone.
DEPENDENCE = {
    "takes names in alphabetical order": "list(args) != sorted(args)",
    "takes an array's members by their places": "any(list(a)[0] != 'data' for a in args.values() "
    "if isinstance(a, dict) and 'data' in a)",
    "takes the request's members by their places": "list(request)[0] != 'id' and args",
    "wants no white space": "'\t' in line and args",
    "wants no white space within brackets": "re.search(r'[{\\[]\\s', line) and args",
    "takes no carriage return for white space": "':\\r' in line and args",
    "knows no escapes": "'\\\\u00' in line and args",
    "knows no escaped solidus": "'\\\\/' in line and args",
    "knows no escaped tab": "'\\\\t' in line and args",
    "knows no capital digits": "re.search(r'\\\\u00[67][A-F]', line) and args",
    "nests 15 deep at most": "line.count('\"of\"') > 14 and args",
    "refuses members that it does not know": "'note' in request and args",
    "reads ASCII alone": "not line.isascii() and args",
    "knows no zero with a sign": "re.search(r'[^\\w\"-]-0[^\\w.]', line) and args",
    "has identifiers of 16 bits": "request.get('id', 0) > 2**16 and args",
}


@pytest.mark.rule("CONF-003", "CONF-005")
@pytest.mark.parametrize("what", DEPENDENCE)
def test_order_and_white_space_that_tell_nothing_are_drawn(what: str) -> None:
    program = [sys.executable, "-c", ORDERED.format(deed=DEPENDENCE[what])]
    port = ProcessPort(program, timeout=60, seed=1)
    report = Runner(port, load("numpy"), examples=0, profiles=("gates",)).run()
    port.close()
    assert not report.passed(), what
    # Where how one message is written decides, the report says it.
    ways = {
        "wants no": SPACES,
        "return": SPACES,
        "u00": ESCAPED,
        "note": NOTE,
        "solidus": NOTE,
        "tab": NOTE,
        "deep": NOTE,
        "isascii": UNESCAPED,
        "-0": MINUS,
    }
    wanted = [way for sign, way in ways.items() if sign in what + DEPENDENCE[what]]
    lines = {failure.lines[-1] for failure in report.failures}
    assert all(any(way in line for line in lines) for way in wanted), lines


@pytest.mark.rule("CONF-003")
def test_requests_made_smaller_are_told_of_too() -> None:
    """They are not those that the first answer was due to."""
    program = [sys.executable, "-c", ORDERED.format(deed=DEPENDENCE["wants no white space"])]
    port = ProcessPort(program, timeout=60, seed=1)
    report = Runner(port, load("numpy"), examples=6, profiles=("buffer",)).run()
    port.close()
    drawn = [failure for failure in report.failures if failure.case.startswith("random")]
    assert drawn
    assert {failure.lines[-1] for failure in drawn} == {
        f"wrong where it is written {SPACES} (CONF-003)"
    }


def test_long_messages_are_short() -> None:
    """White space between a million elements tells no more than between ten."""
    array = {"data": [0] * 2**17, "dtype": "i16", "shape": [1, 2**17]}
    message = {"id": 1, "operation": "product", "args": {"a": array, "w": {"data": 5}}}
    for seed in range(9):
        assert len(written(message, random.Random(seed))) < 2.1 * 2**17


CRASHING = """
import json, sys
print(json.dumps({"hello": {"name": "x", "layouts": [], "profiles": [], "spec_version": "0.2"}}))
sys.stdout.flush()
next(sys.stdin), next(sys.stdin)
"""


@pytest.mark.rule("CONF-005")
def test_looking_for_what_matters_does_not_use_up_the_patience() -> None:
    port = ProcessPort([sys.executable, "-S", "-c", CRASHING], timeout=60)
    question = Question("view", {})
    for _ in range(RESTARTS + 1):
        assert isinstance(port.asked(question, ()), Fault)
    for asked in (*[True] * (RESTARTS + 1), False):
        (answer,) = port.answers([question])
        assert ("not asked" not in str(answer)) is asked
    port.close()


KEEPING = """
import json, sys
from revrnn.conformance.serve import answer
from revrnn.evaluation import load
oracle, views, before = load("numpy"), 0, ""
for line in sys.stdin:
    request = json.loads(line)
    views += request.get("operation") == "view"
    if request.get("operation") == "view" and {condition}:
        request = request | {{"args": {{}}}}
    before = request.get("operation")
    print(json.dumps(answer(oracle, request)), flush=True)
"""
KEPT = {
    "before != 'view'": "asked once more it is right",
    "views > 1": "in a new process it is right",
    "views % 4 == 0": "asked once more it is right",  # however it is written, by coincidence
    "True": "",
}


@pytest.mark.rule("CONF-005")
@pytest.mark.parametrize("condition", KEPT)
def test_what_is_kept_from_other_requests_is_told(condition: str) -> None:
    program = [sys.executable, "-c", KEEPING.format(condition=condition)]
    port = ProcessPort(program, timeout=60)
    report = Runner(port, load("numpy"), examples=1, profiles=("gates",)).run()
    port.close()
    text = as_text(report)
    said = (
        KEPT[condition] and f"  {KEPT[condition]}: of what is kept from other requests (CONF-005)"
    )
    assert ("CONF-005" in text) is bool(said)
    assert said in text
    assert {failure.operation for failure in report.failures} == {"view"}
    assert ", random requests judged by numpy (" in text


@pytest.mark.rule("CONF-003")
def test_a_port_that_ends_at_its_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was greeted with is told, and what it said, once, however late it is heard."""
    listen = Life._listen

    def late(life: Life) -> None:
        time.sleep(0.2)
        listen(life)

    monkeypatch.setattr(Life, "_listen", late)
    program = "import sys; sys.exit('no such version')"
    told = r"greeted with version '.*': crash: .*no such version"
    with pytest.raises(PortError, match=told) as at:
        ProcessPort([sys.executable, "-c", program], timeout=60)
    assert str(at.value.fault).count("crash") == 1


PAIRED = """
import json, sys
from revrnn.conformance.serve import answer
from revrnn.evaluation import load
oracle, kept = load("numpy"), []
for number, line in enumerate(sys.stdin):
    kept.append(json.dumps(answer(oracle, json.loads(line))))
    if number == 0 or len(kept) == 2:
        print(*reversed(kept), sep=chr(10), flush=True)
        kept = []
"""


@pytest.mark.rule("CONF-003")
def test_a_port_that_hangs_where_it_is_asked_alone_is_asked_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = ProcessPort([sys.executable, "-c", PAIRED], timeout=1.5)
    answers: list[Answer] = []

    def asked(*words: Any) -> Answer:
        answers.append(ProcessPort.asked(port, *words))
        return answers[-1]

    monkeypatch.setattr(port, "asked", asked)
    report = Runner(port, load("numpy"), examples=0, profiles=("buffer",)).run()
    port.close()
    assert not report.passed()
    assert sum(isinstance(one, Fault) and one.kind == "hang" for one in answers) == 1
