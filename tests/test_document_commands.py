"""Every command in the documents is one that its program's own parser takes."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("rich")

from test_documents import DOCUMENTS, ROOT

from revrnn.experiments.__main__ import COMMANDS

# Programs behind sessions that take words of a user's.
SESSIONS: Final = {
    "benchmarks": "benchmarks/step.py",
    "conformance": "ports/matrix.py",
    "demo": "revrnn.experiments.demo",
    "experiments": "revrnn.experiments",
    "figures": "revrnn.experiments.figures",
    "matrix": "tests/matrix.py",
    "mismatch": "revrnn.conformance.mismatch",
    "mutants": "tests/mutants.py",
    "release": "tests/release.py",
    "rule": "tests/rule.py",
    "soak": "tests/soak.py",
    "structure": "tests/structure.py",
}
# Where the documents say that corpora are.
DATA: Final = {"builtin", "data/ptb", "data/multi30k", "FOLDER"}
START: Final = re.compile(r"(?:python -m revrnn\S*|python \w+/\w+\.py|nox -s \w+)(?: .*)?$")
# A command of the experiments by itself, as in a table.
SHORT: Final = re.compile(rf"(?:{'|'.join(COMMANDS)})(?: .*)? --.*$")


def commands(text: str) -> list[str]:
    """Return the commands of a document: lines of code that are indented, and code in a line."""
    text = text.replace("\\\n", " ")
    lines = [line.strip() for line in re.findall(r"^    .*$", text, re.M)]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    short = [f"python -m revrnn.experiments {span}" for span in spans if SHORT.match(span)]
    # An option by itself, without the value that it wants, is its name.
    named = [span for span in spans + short if not re.search(r" --[\w-]+(?: …)?$", span)]
    return [line for line in lines + named if START.match(line)]


def program_of(command: str) -> tuple[str, list[str]]:
    """Return a command's program, a module or a file, and its words; braces as a shell does."""
    words: list[str] = []
    for word in shlex.split(command.partition("  #")[0]):
        parts = [part.split(",") for part in re.split(r"[{}]", word)]
        words += map("".join, product(*parts)) if "{" in word else [word]
    words = [word for word in words if word != "…"]
    if words[0] == "nox":
        return SESSIONS.get(words[2], ""), words[words.index("--") + 1 :] if "--" in words else []
    start = 2 if words[1] == "-m" else 1
    return words[start], words[start + 1 :]


class _Parsed(Exception):  # noqa: N818 - no error
    pass


def _asked() -> list[tuple[str, str, list[str]]]:
    """Return document, program and words of every command; programs by themselves are names."""
    asked = []
    for path in DOCUMENTS:
        for command in dict.fromkeys(commands(path.read_text(encoding="utf-8"))):
            program, words = program_of(command)
            if program and words and "COMMAND" not in words:
                asked.append((path.name, program, words))
    return asked


def run_as_main(program: str) -> None:
    """Run a module or a file of this repository, as Python's command line does."""
    if program.endswith(".py"):
        sys.path.insert(0, str((ROOT / program).parent))
        runpy.run_path(str(ROOT / program), run_name="__main__")
    else:
        # Not by runpy: pytest's import hook, which an installed plugin has, gives it no code.
        spec = find_spec(program)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{program}.__main__")
        assert spec is not None
        assert spec.origin is not None
        code = compile(Path(spec.origin).read_bytes(), spec.origin, "exec")
        names = {"__name__": "__main__", "__package__": spec.parent, "__file__": spec.origin}
        exec(code, names)


def test_the_documents_have_commands() -> None:
    asked = _asked()
    programs = {program for _, program, _ in asked}
    assert {"revrnn.experiments", "revrnn.conformance", "benchmarks/step.py"} <= programs
    assert len(asked) > 25
    given = program_of("python -m revrnn.experiments lm-sweep --only {a,b}-{1,2} c …  # all")
    assert given == ("revrnn.experiments", ["lm-sweep", "--only", "a-1", "a-2", "b-1", "b-2", "c"])


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("asked", _asked(), ids=lambda asked: " ".join([asked[0], *asked[2]]))
def test_a_command_is_one_that_its_program_takes(
    asked: tuple[str, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, program, words = asked
    parse = argparse.ArgumentParser.parse_known_args

    def parse_alone(self: argparse.ArgumentParser, *args: Any, **more: Any) -> Any:
        given, rest = parse(self, *args, **more)
        if self.prog.count(" ") > 2 and self.prog.split()[-1] in COMMANDS:
            return given, rest  # a part of the parser of the experiments
        if rest and program != "tests/rule.py":
            self.error(f"unknown: {rest}")
        raise _Parsed(given)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_alone)
    monkeypatch.setattr(sys, "argv", [program, *words])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(_Parsed) as caught:
        run_as_main(program)
    data = vars(caught.value.args[0]).get("data", "builtin")
    assert data in DATA, f"{data} is not where the documents say that corpora are"
