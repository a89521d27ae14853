"""Programs end without a traceback, wherever their output goes and whatever is asked of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from revrnn.archive import main as archive
from revrnn.command_line import CUT_OFF
from revrnn.conformance.__main__ import main as conformance
from revrnn.conformance.mismatch import main as mismatch
from revrnn.conformance.serve import main as serve
from revrnn.operations_text import main as operations_text

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


def ended(program: str, *shell: str, **surroundings: str) -> tuple[str, str, int]:
    """Return output, messages and status of a program, run with a shell's redirections."""
    command = [sys.executable, "-c", program]
    if shell:
        command = ["sh", "-c", f'exec "$0" "$@" {" ".join(shell)}', *command]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | surroundings
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
@pytest.mark.parametrize("closed", ["</dev/null >&-", "</dev/null 2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str) -> None:
    program = RUN.format("print(len(sys.stdin.read())) or sys.stderr.write('said') and 3")
    out, err, status = ended(program, closed)
    assert out == ("" if " >&-" in closed else "0\n")
    assert err == ("" if " 2>&-" in closed else "said")
    assert status == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output_for_which_there_is_no_room() -> None:
    for program in ("print('x')", "say('x')", "print('x' * 10**6)"):
        out, err, status = ended(RUN.format(program), ">/dev/full")
        assert (out, err.count("\n"), status) == ("", 1, 2)
        assert err.startswith("standard output: ")


def test_characters_that_an_encoding_lacks() -> None:
    out, err, status = ended(RUN.format("print('0 … 3')"), PYTHONIOENCODING="ascii")
    assert (out, err, status) == ("0 \\u2026 3\n", "", 0)


def test_an_interrupt_is_told_in_a_word() -> None:
    out, err, status = ended(RUN.format("[print('x'), (_ for _ in ()).throw(KeyboardInterrupt)]"))
    assert (out, err, status) == ("x\n", "interrupted\n", 130)


@pytest.mark.parametrize("name", ["rich", "matplotlib"])
def test_a_package_that_is_missing_is_named(name: str) -> None:
    program = (
        f"import runpy, sys; sys.modules['{name}'] = None; sys.argv[1:] = ['lm']; "
        "runpy.run_module('revrnn.experiments', run_name='__main__')"
    )
    out, err, status = ended(program)
    hint = "pip install 'revrnn[experiments]'"
    assert (out, status) == ("", 2)
    assert err == f"this needs {name}, which is not installed: {hint}\n"


POOL = """
import time
from revrnn.command_line import run_program
from revrnn.experiments.processes import Processes

def main():
    with Processes(2) as pool:
        calls = [pool.submit(time.sleep, 0 if number < 2 else 60) for number in range(6)]
        calls[0].result(), print("begun", flush=True), calls[-1].result()

if __name__ == "__main__":
    run_program(main)
"""


LAST = """
import atexit, gc
from revrnn.command_line import run_program
from revrnn.experiments.processes import Processes

# What was registered first is called last.
atexit.register(lambda: print(gc.get_freeze_count() > 0, flush=True))

def main():
    with Processes(1) as pool:
        pool.submit(int).result()

if __name__ == "__main__":
    run_program(main)
"""


def test_no_garbage_is_looked_for_at_the_end(tmp_path: Path) -> None:
    """Neither by a program nor by processes beside it."""
    (tmp_path / "last.py").write_text(LAST, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "last.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\nTrue\n"


@pytest.fixture
def heard() -> Iterator[None]:
    """Let programs hear an interruption, which those that a shell starts behind it do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
@pytest.mark.parametrize("whom", ["all", "the first alone"])
def test_processes_end_with_the_program_and_say_nothing(
    whom: str, tmp_path: Path, heard: None
) -> None:
    """Those at work, those that wait and those that are still beginning."""
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        (os.killpg if whom == "all" else os.kill)(program.pid, signal.SIGINT)
        _, err = program.communicate(timeout=30)
    assert (err, program.returncode) == ("interrupted\n", 130)


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
        (["--report", "long" * 100], "report"),
        (["--report", os.devnull], "report"),
        (["--report", "one.file", "--html", "one.file"], "html"),
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
        (["--command", ""], "command"),
        (["--command", "  "], "command"),
        (["--command", "'open"], "command"),
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
    port = [] if "--command" in words else ["--adapter", "numpy"]
    assert mismatch([*port, *words]) == 2
    assert f"] {argument}: got" in capsys.readouterr().err


def test_servers_name_an_unknown_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(["--adapter", "nothing"]) == 2
    assert "] adapter: got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (archive, ["--help"], "usage: python -m revrnn.archive"),
        (archive, ["--format", "tar"], "arguments"),
        (archive, ["nowhere/spec.zip"], "argument path: nowhere"),
        (archive, ["."], "argument path: ."),
        (operations_text, ["--help"], "usage: python -m revrnn.operations_text"),
        (operations_text, ["nowhere"], "argument folder: nowhere"),
        (operations_text, [__file__], f"argument folder: {__file__}"),
    ],
)
def test_files_of_the_law_are_written_where_they_can_be(
    main: Callable[[list[str]], None],
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == (0 if words == ["--help"] else 2)
    assert message in "".join(capsys.readouterr())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("2.md", b"<!-- operations.json: nothing -->\nx\n<!-- end -->\n", "has a table 'nothing'"),
        ("2.md", b"\xff", "cannot be read"),
        ("2.md/folder", b"", "cannot be read"),
    ],
)
def test_a_text_that_cannot_be_written_leaves_the_others(
    name: str, data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "<!-- operations.json: axes -->\nold\n<!-- end -->\n"
    (tmp_path / "1.md").write_text(text, encoding="utf-8")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SystemExit):
        operations_text([str(tmp_path)])
    assert f"{tmp_path / '2.md'} {message}" in capsys.readouterr().err
    assert (tmp_path / "1.md").read_text(encoding="utf-8") == text
