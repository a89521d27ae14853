"""Programs whose output nobody reads to its end, as before ``| head``, end without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from revrnn.command_line import CUT_OFF
from revrnn.conformance.__main__ import main as conformance
from revrnn.conformance.mismatch import main as mismatch
from revrnn.conformance.serve import main as serve

GATES = ("-m", "revrnn.conformance", "--adapter=numpy", "--profile=gates", "--examples=0")
RUN = "import sys; from revrnn.command_line import run_program, say; run_program(lambda: {})"
# Words after ``python``, and the status: what was done before the pipe broke keeps its own.
PROGRAMS = {
    "conformance": (
        ("-m", "revrnn.conformance", "--adapter=numpy", "--profile=buffer", "--examples=0"),
        0,
    ),
    "conformance, help": (("-m", "revrnn.conformance", "--help"), 0),
    "serve": (("-m", "revrnn.conformance.serve", "--help"), 0),
    "mismatch": (("-m", "revrnn.conformance.mismatch", "--help"), 0),
    "vector_maker": (("-m", "revrnn.vector_maker", "--help"), 0),
    "experiments": (("-m", "revrnn.experiments", "lm", "--help"), 0),
    "done before": (("-c", RUN.format("print('one line') or 3")), 3),
    "cut off": (("-c", RUN.format("[print(n) for n in range(10**6)] and 3")), CUT_OFF),
    "goes on": (("-c", RUN.format("say('x' * 10**6) or say('y' * 10**6) or 4")), 4),
    "exits": (("-c", RUN.format("print('x') or sys.exit(5)")), 5),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_nobody_reads_the_output(name: str) -> None:
    words, status = PROGRAMS[name]
    reads, writes = os.pipe()
    os.close(reads)
    # Without a buffer what is written fails at once, and nothing is done before.
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run(
            [sys.executable, *words],
            stdout=writes,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=surroundings,
        )
    finally:
        os.close(writes)
    assert (done.stderr, done.returncode) == ("", status)


def test_the_status_of_a_program_that_is_read() -> None:
    for ending, status in (("None", 0), ("1", 1), ("sys.exit('a message')", 1)):
        done = subprocess.run(
            [sys.executable, "-c", RUN.format(ending)], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.returncode) == ("", status)
        assert done.stderr == ("a message\n" if "message" in ending else "")


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["--time", "nan"], "time"),
        (["--timeout", "inf"], "timeout"),
        (["--timeout", "1e300"], "timeout"),
        (["--memory", "9" * 30], "memory"),
        (["--processes", "0"], "processes"),
        (["--examples", "-1"], "examples"),
        (["--seed", "-1"], "seed"),
        (["--report", "/"], "report"),
        (["--html", "/dev/null/page.html"], "html"),
    ],
)
def test_limits_that_cannot_be(
    words: list[str], argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are said before a port is asked."""
    assert conformance(["--adapter", "numpy", *words]) == 2
    assert f"] {argument}: got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["--seed", "-1"], "seed"),
        (["--sequences", "0"], "sequences"),
        (["--case", "nothing"], "case"),
        (["--case", "tanh-999999"], "case"),
        (["--request", "missing"], "request"),
        (["--request", "list.json"], "request"),
        (["--request", "args.json"], "request"),
        (["--request", "bytes.json"], "request"),
    ],
)
def test_mismatches_that_cannot_be_asked_for(
    words: list[str],
    argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "args.json").write_text('{"operation": "tanh", "args": 3}')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    assert mismatch(["--adapter", "numpy", *words]) == 2
    assert f"] {argument}: got" in capsys.readouterr().err


def test_servers_name_an_unknown_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(["--adapter", "nothing"]) == 2
    assert "] adapter: got" in capsys.readouterr().err
