"""The mutation of implementations (``nox -s mutants``): its changes, its table of survivors."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mutation import ask_python, changes_c, changes_python, record
from mutation.asking import Asking
from mutation.ports import files, jobs
from mutation.reach import IMPORT, Functions, Request, function_at, functions_run
from mutation.record import Record
from mutation.survivors import justified

from folders import ROOT
from revrnn.evaluation import load

C = """int f(int a, const int *b)
{
    if (a < 2 && !b[a])
        a += 3;
    return a;
}
"""


def test_every_operator_constant_index_and_statement_of_c_is_changed() -> None:
    names = {mutant.name.partition(" -> ")[2] for mutant in changes_c.mutants(C)}
    assert names == {
        "if (a <= 2 && !b[a])",
        "if (a < 3 && !b[a])",
        "if (a < 1 && !b[a])",
        "if (a < 2 || !b[a])",
        "if (a < 2 && b[a])",
        "if (a < 2 && !b[1 + (a)])",
        "a -= 3;",
        "a += 4;",
        "a += 2;",
        ";",
    }


def test_declarations_of_c_are_left_alone() -> None:
    source = "static int64_t *g(struct stack *stack)\n{\n    int64_t *items[4];\n}\n"
    assert {mutant.line for mutant in changes_c.mutants(source)} == {3}
    assert all("*items[" in mutant.name for mutant in changes_c.mutants(source))


def test_numbers_of_python_are_named_with_what_they_stand_in() -> None:
    names = [mutant.name for mutant in changes_python.mutants("def f(x):\n    return x >> 3\n")]
    assert "f: x >> 3 -> x >> 4" in names
    assert "f: x >> 3 -> x << 3" in names
    twice = [mutant.name for mutant in changes_python.mutants("a = x + y\nb = x + y\n")]
    assert twice == ["module: x + y -> x - y", "module: x + y -> x - y (number 2)"]


def test_each_mutant_of_python_has_one_change() -> None:
    made = changes_python.mutants("def f(x):\n    return not x >> 3\n\ny: int = f(1)\n")
    bodies = [mutant.source.partition("return ")[2].split("\ny: int = ") for mutant in made]
    assert sorted(bodies) == [
        *(["not not x >> 3", "f(1)"], ["not x << 3", "f(1)"], ["not x >> 2", "f(1)"]),
        *(["not x >> 3", "f(0)"], ["not x >> 3", "f(2)"], ["not x >> 4", "f(1)"]),
    ]


@pytest.mark.parametrize("port", ["c", "jax", "law", "naive", "native", "numpy", "torch"])
def test_every_survivor_with_a_reason_is_a_mutant_that_there_is(port: str) -> None:
    reasons = justified(port)
    made = {job.name for file in files(port) for job in jobs(port, file)}
    assert set(reasons.mutants) <= made
    assert set(reasons.functions) <= {name.partition(":")[0] for name in made}


def test_every_file_of_the_native_kernels_is_changed_or_left_out_for_a_reason() -> None:
    there = {path.stem for path in (ROOT / "native").glob("[!_]*.py")}
    assert len(there) == len(files("native")) + len(ask_python.LEFT_OUT)
    assert there == {*files("native"), *ask_python.LEFT_OUT}


def test_what_was_tried_is_kept_and_survivors_are_asked_anew_with_other_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, survivor, untried = jobs("c", "product.c")[:3]
    Record(tmp_path, "c").add(noticed, "vectors")
    Record(tmp_path, "c").add(survivor, "")
    again = Record(tmp_path, "c")
    assert again[noticed] == "vectors"
    assert again[survivor] == ""
    assert untried not in again
    monkeypatch.setattr(again, "_asked", "other vectors")
    assert noticed in again
    assert survivor not in again
    monkeypatch.setattr(record, "text", lambda port, file: "another text")
    assert noticed not in again


RUN = """
from functools import cache

@cache
def table(n, more=len("default")):
    return [i for i in range(n)]

def entry(n):
    return max(table(n), key=lambda i: -i)

def other():
    return 0
"""


def test_what_a_request_runs_is_known_and_what_was_kept_before_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run_of_a_test.py"
    path.write_text(RUN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    run = import_module("run_of_a_test")
    lines = {name: RUN.splitlines().index(text) + 1 for name, text in HEADS.items()}
    for _ in range(2):
        ran = functions_run(lambda: run.entry(3), {str(path): RUN})
        assert ran == {(str(path), lines["table"]), (str(path), lines["entry"])}
    assert functions_run(run.other, {str(path): RUN}) == {(str(path), lines["other"])}
    for name, line in lines.items():
        assert function_at(RUN, line + 1) == line, name
        assert function_at(RUN, line) == IMPORT, name


HEADS = {
    "table": 'def table(n, more=len("default")):',
    "entry": "def entry(n):",
    "other": "def other():",
}


class Halves:
    """Answers rightly, but for one operation; keeps what it was asked."""

    name = "halves"
    layouts: tuple[str, ...] = ("stream",)

    def __init__(self, wrong: str) -> None:
        self.wrong, self.asked = wrong, list[str]()

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(operation)
        if operation == self.wrong:
            raise ValueError
        return load("numpy").evaluate(operation, arguments)


def test_a_vector_that_noticed_a_mutant_is_put_to_the_next_one_first() -> None:
    asking = Asking(("gates",))
    first, second = Halves("sigmoid"), Halves("sigmoid")
    assert asking.verdict("product", asking.noticed([first], "product")) == "vectors"
    assert first.asked[0] == "product"
    asking.noticed([second], "product")
    assert second.asked == ["sigmoid"]


def test_requests_that_do_not_run_the_changed_function_are_left_out() -> None:
    asking = Asking(("gates",))
    activations: Any = sys.modules["revrnn.numpy_ref.activations"]
    path, text = activations.__file__, Path(activations.__file__).read_text(encoding="utf-8")
    runs: dict[Request, Functions] = {}

    def note(request: Request, ask: Callable[[], object]) -> None:
        runs[request] = functions_run(ask, {path: text})

    assert asking.learn([load("numpy")], note)
    sigmoid = path, inspect.getsourcelines(activations.sigmoid)[1]
    mutant = Halves("product")
    assert asking.noticed([mutant], "activations", lambda request: sigmoid in runs[request]) == -1
    assert set(mutant.asked) == {"sigmoid", "forget_gate"}
    assert asking.noticed([mutant], "activations") > 0


# A process of its own: JAX warns of a fork in one where it has been at work.
WAITING = """
import sys, time
sys.path.insert(0, sys.argv[1])
from mutation import ask_python

def waits(given):
    time.sleep(1.5)
    return -1

def works(given):
    while True:
        pass

given = ask_python.Given("numpy", "product", "")
print([ask_python._forked(what, given, 1) for what in (waits, works)])
"""


def test_a_mutant_that_waits_is_no_mutant_that_does_not_end() -> None:
    command = [sys.executable, "-c", WAITING, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['', 'time']\n"
