"""Ports that nobody can trust: each ends in a named verdict, and the asker stays small."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from revrnn.conformance.__main__ import main
from revrnn.conformance.adapters import Fault, Question
from revrnn.conformance.life import PortError
from revrnn.conformance.limits import Means
from revrnn.conformance.process import ProcessPort
from revrnn.conformance.report import as_json
from revrnn.conformance.runner import Runner
from revrnn.evaluation import load

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
    'say(chr(0xFEFF) + \'{"id":%d,"error":"E_OP"}\' % n)': ("garbage", ""),
    "sys.stdout.reconfigure(encoding='utf-16-be'); out('\"y\":0')": ("garbage", ""),
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
    seconds = 1.5 if DEEDS[deed][0] == "hang" else 60  # on a busy machine others take their time
    port = ProcessPort(command_of(deed), timeout=seconds, means=Means(400 * 2**20, 20))
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


# What a verdict says of a port, beside its kind.
SAID = {
    "os.close(1); time.sleep(60)": "the process closed its output, and goes on",
    "os.fork() or time.sleep(60); os._exit(7)": "ended with status 7, and what it started holds",
    'say(\'{"id":%d,"out":null}\' % n)': "out is None instead of an object",
}


@pytest.mark.rule("CONF-005")
@pytest.mark.skipif(os.name != "posix", reason="forks")
@pytest.mark.parametrize("deed", SAID)
def test_a_verdict_says_what_happened(deed: str) -> None:
    port = ProcessPort(command_of(deed), timeout=1.5 if "fork" in deed else 60)
    (answer,) = port.answers([QUESTION])
    port.close()
    assert isinstance(answer, Fault)
    assert SAID[deed] in answer.detail


@pytest.mark.rule("CONF-006")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of processes")
def test_what_leaves_session_and_environment_ends_too(tmp_path: Path) -> None:
    place = tmp_path / "pid"
    start = "__import__('subprocess').Popen(['sleep', '600'], env={}, start_new_session=True)"
    deed = f"open({str(place)!r}, 'w').write(str({start}.pid)); time.sleep(2); os._exit(0)"
    port = ProcessPort(command_of(deed), timeout=15)
    list(port.answers([QUESTION]))
    port.close()
    assert not _lives(int(place.read_text()))


@pytest.mark.rule("CONF-005")
def test_an_answer_too_many_is_a_fault_of_the_next_case() -> None:
    deed = '[say(\'{"id":%d,"error":"E_OP"}\' % n) for _ in range(2)]'
    port = ProcessPort(command_of(deed), timeout=3)
    first, second = port.answers([QUESTION, QUESTION])
    port.close()
    assert first == {"error": "E_OP"}
    assert isinstance(second, Fault)
    told = re.search(r"id (\d+) instead of (\d+)", second.detail)
    assert told
    assert int(told[2]) == int(told[1]) + 1


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
        {"layouts": ["stream", "streams"]},
        {"profiles": ["gate"]},
        {"beside": 1},
    ],
    ids=lambda greeting: str(greeting)[:30],
)
def test_greetings_that_are_none(greeting: dict[str, object]) -> None:
    message = json.loads(HELLO)
    message |= greeting if "beside" in greeting else {"hello": message["hello"] | greeting}
    program = f"input(); print({json.dumps(message)!r})"
    with pytest.raises(PortError) as caught:
        ProcessPort([sys.executable, "-S", "-c", program], timeout=5)
    assert len(str(caught.value)) < 1200
    # What is wrong is named.
    assert re.search(rf"\b{next(iter(greeting)).removesuffix('s')}", str(caught.value))


PAINTER = """
import json, sys
for line in sys.stdin:
    n = json.loads(line).get("id")
    hello = {"name": "\\ud800\\x1b[2J", "layouts": ["stream"], "profiles": ["gates"]}
    hello["spec_version"] = "0.2"
    answer = {"hello": hello} if n is None else {"id": n, "out": {"\\ud800\\x1b[31m": 0}}
    print(json.dumps(answer), flush=True)
"""


def test_what_a_terminal_would_obey_is_shown_as_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = tmp_path / "painter.py"
    port.write_text(PAINTER, encoding="utf-8")
    page, report = tmp_path / "r.html", tmp_path / "r.json"
    words = ["--profile", "gates", "--examples", "0", "--html", str(page), "--report", str(report)]
    assert main(["--command", f"{sys.executable} -S {port}", *words]) == 1
    out = capsys.readouterr().out
    assert out.startswith("\\ud800\\u001b[2J, specification")
    assert "\x1b" not in out + page.read_text(encoding="utf-8")
    assert json.loads(report.read_text(encoding="utf-8"))["passed"] is False
    complaint = f"{sys.executable} -S -c \"import sys; sys.exit('\x1b[31mred')\""
    assert main(["--command", complaint]) == 2
    assert "\x1b" not in capsys.readouterr().err


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


@pytest.mark.rule("CONF-006")
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_no_port_outlives_a_run_that_is_told_to_end(tmp_path: Path) -> None:
    """As where a service that runs tests cuts them off."""
    place = tmp_path / "pid"
    deed = f"open({str(place)!r}, 'w').write(str(os.getpid())); time.sleep(99)"
    command = [sys.executable, "-m", "revrnn.conformance", "--examples", "0", "--quiet"]
    with subprocess.Popen([*command, "--command", shlex.join(command_of(deed))]) as run:
        while not place.exists() or not place.read_text():
            time.sleep(0.02)
        run.terminate()
        assert run.wait(30) == 143
    assert not _lives(int(place.read_text()))


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
