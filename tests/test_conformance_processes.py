"""Ports in processes of their own, the command line, the plugin, and values on the wire."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from revrnn.conformance import __main__ as command_line
from revrnn.conformance.adapters import Fault, Question
from revrnn.conformance.checking import faults
from revrnn.conformance.life import PortError
from revrnn.conformance.process import ProcessPort
from revrnn.conformance.report import as_html, as_text
from revrnn.conformance.runner import Runner
from revrnn.evaluation import load, outcome
from revrnn.wire import decode, encode

SERVE = f"{sys.executable} -m revrnn.conformance.serve --adapter"
DOCUMENT = Path(__file__).parents[1] / "docs" / "conformance-of-a-port.md"


@pytest.mark.rule("CONF-003", "CONF-004")
def test_a_port_in_its_own_process() -> None:
    port = ProcessPort(f"{SERVE} naive", timeout=60)
    assert (port.name, port.profiles) == ("naive", load("naive").profiles)  # type: ignore[attr-defined]
    report = Runner(port, load("numpy"), examples=2, profiles=("gates", "buffer")).run()
    port.close()
    assert report.passed(), as_text(report)


MISBEHAVIOUR = {
    "time.sleep(60)": "hang",
    "sys.exit(3)": "crash",
    "print('}{ garbage')": "garbage",
    "print('[1, 2]')": "garbage",
    "say({'id': 77, 'out': {}})": "garbage",
    "say({'id': request['id']})": "garbage",
    "say({'id': request['id'], 'error': 'E_WHATEVER'})": "garbage",
    "say({'id': request['id'], 'out': {'y': 1.5}})": "garbage",
    "print('{\"id\": %d, \"out\": {\"y\": %s}}' % (request['id'], '9' * 5000))": "garbage",
    "print('[' * 100000)": "garbage",
    "say({'id': request['id'], 'out': {'y': {'data': [10**30], 'dtype': 'i32', "
    "'shape': [1]}}})": "garbage",
}

PROGRAM = """
import json, sys, time
from revrnn.conformance.serve import answer
from revrnn.evaluation import load
oracle = load("numpy")
def say(message):
    print(json.dumps(message))
for line in sys.stdin:
    request = json.loads(line)
    if request.get("operation") == "tanh" and request["args"]["bits"] == 24:
        {deed}
    else:
        say(answer(oracle, request))
    sys.stdout.flush()
"""


@pytest.mark.rule("CONF-005")
@pytest.mark.parametrize("deed", MISBEHAVIOUR)
def test_misbehaviour_is_a_fault_of_one_case(deed: str) -> None:
    """The port hangs, ends or answers nonsense once: that case fails, the others do not."""
    port = ProcessPort([sys.executable, "-c", PROGRAM.format(deed=deed)], timeout=5)
    s = np.array([-(1 << 23)])
    asked = [Question("tanh", {"s": s, "bits": bits}) for bits in (23, 24, 25)]
    before, bad, after = list(port.answers(asked))
    port.close()
    assert isinstance(bad, Fault)
    assert bad.kind == MISBEHAVIOUR[deed]
    for question, answer in ((asked[0], before), (asked[2], after)):
        assert faults(outcome(load("numpy"), "tanh", question.args), answer) == []


@pytest.mark.rule("CONF-005")
def test_a_run_over_a_port_that_always_ends_ends_too() -> None:
    deed = "sys.exit(3)\n    elif 'operation' in request:\n        sys.exit(4)"
    port = ProcessPort([sys.executable, "-c", PROGRAM.format(deed=deed)], timeout=5)
    report = Runner(port, load("numpy"), profiles=("gates",), examples=2).run()
    port.close()
    assert not report.passed()
    assert all(not tally.passed for tally in report.vectors.values())
    assert "status" in report.failures[0].lines[0]


@pytest.mark.parametrize("command", ["/no/such/program", "pass", "print(1)", "print('{}')"])
def test_ports_that_do_not_start(command: str) -> None:
    if not command.startswith("/"):
        command = f'{sys.executable} -c "{command}"'
    with pytest.raises(PortError):
        ProcessPort(command, timeout=10)
    assert command_line.main(["--command", command]) == 2


ECHO = """
import json, sys
for line in sys.stdin:
    hello = json.loads(line)["hello"]
    mine = {"name": "echo", "layouts": [], "profiles": ["gates"]}
    print(json.dumps({"hello": mine | hello}))
    sys.stdout.flush()
"""


@pytest.mark.rule("CONF-003")
def test_a_port_that_echoes_the_version_is_named() -> None:
    for seed in range(3):
        with pytest.raises(PortError, match="because it was greeted with it"):
            ProcessPort([sys.executable, "-c", ECHO], timeout=60, seed=seed)


SERVING = "from revrnn.conformance.serve import main; main(['--adapter', 'numpy'])"
ENDS = {
    "3": ("raise SystemExit(3)", "crash: at the end of its input"),
    "never": ("import time; time.sleep(99)", "hang: it goes on 5 s"),
    "0": ("pass", ""),
    "0, but what it started goes on": ("import os, time; os.fork() or time.sleep(99)", ""),
    "an answer more": ("print({})", "garbage: a line more than it was asked for, at the end"),
    "garbage": ("import sys; sys.stdout.write('}')", "garbage: a line more"),
}


@pytest.mark.rule("CONF-003")
@pytest.mark.parametrize("ending", ENDS)
def test_a_port_ends_with_its_input(ending: str) -> None:
    """After the last answer its input is closed: it ends, with status 0, and says no more."""
    deed, told = ENDS[ending]
    port = ProcessPort([sys.executable, "-c", f"{SERVING}; {deed}"], timeout=5)
    report = Runner(port, load("numpy"), profiles=("buffer",), examples=0).run()
    port.close()
    assert report.passed() == (not told)
    assert report.ending.startswith(told)
    assert report.seconds < 4 or ending == "never"
    for text in (as_text(report), as_html(report)):
        assert ("does not end with its input" in text) == bool(told)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--adapter", "no.such:thing"],
        ["--adapter", "nobody"],
        ["--adapter", "revrnn:nothing"],
        ["--command", ""],
        ["--command", "'"],
        ["--adapter", "numpy", "--profile", "everything"],
        ["--adapter", "numpy", "--examples", "-1"],
        ["--adapter", "revrnn:SPEC_VERSION"],
        ["--adapter", "numpy", "--judge", "nobody"],
        ["--adapter", "numpy", "--judge", "no.such:thing"],
        ["--adapter", "numpy", "--judge", "decimal:Context"],
        ["--adapter", "decimal:Context"],
    ],
    ids=" ".join,
)
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(arguments) == 2
    assert "E_ARGUMENT" in capsys.readouterr().err


def test_random_requests_need_a_judge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for them is not told that a port passes what it was never asked."""
    monkeypatch.setattr(command_line, "judge_of", lambda name: None)
    arguments = ["--adapter", "numpy", "--profile", "buffer", "--quiet"]
    assert command_line.main([*arguments, "--examples", "9"]) == 2
    assert (
        "[E_ARGUMENT] examples: got 9; allowed: 0 without a judge (--judge)"
        in capsys.readouterr().err
    )
    for none in ([], ["--examples", "0"]):
        assert command_line.main([*arguments, *none]) == 0
        assert "PASS, the vectors alone" in capsys.readouterr().out


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--report={tmp_path / 'a' / 'r.json'}", f"--html={tmp_path / 'r.html'}"]
    arguments = ["--adapter", "numpy", "--profile", "gates", "--examples", "1", "--seed", "5"]
    assert command_line.main([*arguments, *files]) == 0
    assert "PASS" in capsys.readouterr().out
    assert json.loads((tmp_path / "a" / "r.json").read_text())["passed"] is True
    assert "passes" in (tmp_path / "r.html").read_text()
    reader, writer = os.pipe()  # no file to be written whole
    assert command_line.main([*arguments, "--report", f"/dev/fd/{writer}"]) == 2
    assert "] report: got" in capsys.readouterr().err
    os.close(reader)
    os.close(writer)


def test_pytest_plugin() -> None:
    """A test for each case: all pass for a right port, and options are checked."""
    base = [sys.executable, "-m", "pytest", "-q", "--pyargs", "revrnn.conformance.suite"]
    options = ["-p", "no:cacheprovider", "--revrnn-profile=buffer", "--revrnn-examples=2"]
    done = subprocess.run(
        [*base, *options, "--revrnn-adapter=torch"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed, 18 skipped", done.stdout)
    done = subprocess.run([*base, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--revrnn-adapter" in done.stdout
    assert "suite.py:" not in done.stdout  # no traceback
    command = shlex.join([sys.executable, "-c", f"{SERVING}; {ENDS['3'][0]}"])
    ending = [f"--revrnn-command={command}", "-k", "end_of_input"]
    done = subprocess.run([*base, *options, *ending], capture_output=True, text=True, check=False)
    assert "ended with status 3" in done.stdout
    assert "1 failed" in done.stdout


@pytest.mark.rule("CONF-004")
def test_values_survive_the_wire() -> None:
    values = {
        "a": np.array([[-(2**63), 2**63 - 1]]),
        "b": np.array([np.nan, -np.inf, 1e-40], np.float32),
        "c": np.zeros((2, 0), np.bool_),
        "d": np.array([2**200, -1], object),
        "e": 2.5,
        "f": None,
        "g": {"x": True, "y": "text"},
    }
    text = json.dumps(encode(values))
    assert json.dumps(encode(decode(json.loads(text)))) == text
    for bad in (
        {"data": [1], "dtype": "i99", "shape": [1]},
        {"data": [1], "dtype": "u8", "shape": [2]},
        {"data": [256], "dtype": "u8", "shape": [1]},
        {"data": [1], "dtype": "i64", "shape": [1]},
        {"data": [True], "dtype": "i16", "shape": [1]},
        {"data": [1], "dtype": "bool", "shape": [1]},
        {"data": ["1.5"], "dtype": "f32", "shape": [1]},
        {"data": [], "dtype": "u8", "shape": [-1]},
        {"data": ["0x1.00000001p0"], "dtype": "f32", "shape": [1]},
        {"f64": 1},
        {"f64": "0x1.00000000000001p0"},
        {"f64": "0x1p-1075"},
        {"data": ["0x1p-99999999999999999999"], "dtype": "f32", "shape": [1]},
        {"f64": "+0x1p0"},
        {"f64": "0x.8p0"},
        {"f64": "Infinity"},
        {"data": ["-0"], "dtype": "i64", "shape": [1]},
        [1],
        1.5,
        {"data": ["9" * 9999], "dtype": "i64", "shape": [1]},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            decode(bad)
    same = ("0x1.8p+1", "0X1.8P1", "0x3", "0x3.", "0x0006p-1", "0xC00000000000000000p-70")
    assert {decode({"f64": text}) for text in same} == {3.0}
    assert decode({"f64": "-0x0.00000000000000000p-5000"}).hex() == "-0x0.0p+0"
    assert decode({"f64": "0x1p-1074"}) == 2.0**-1074


@pytest.mark.rule("CONF-003")
def test_the_documented_conversation_is_right() -> None:
    """What the page shows is what the oracle answers."""
    lines = re.findall(r"^([<>]) (\{.*\})$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    asked = [json.loads(text) for mark, text in lines if mark == ">"]
    answered = [json.loads(text) for mark, text in lines if mark == "<"]
    assert len(asked) == len(answered) == 4
    for number, (sent, got) in enumerate(zip(asked[1:], answered[1:], strict=True)):
        assert sent["id"] == got["id"] == number
        args = {name: decode(value) for name, value in sent["args"].items()}
        expected = outcome(load("numpy"), sent["operation"], args)
        shown = {"error": got["error"]} if "error" in got else decode(got["out"])
        assert faults(expected, shown) == []
