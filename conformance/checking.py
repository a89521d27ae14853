"""Judging answers (CONF-002), and saying where a wrong one first went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from revrnn.comparison import differences
from revrnn.config import Config
from revrnn.digest import first_difference
from revrnn.errors import RevRNNError
from revrnn.evaluation import Implementation, outcome
from revrnn.wire import decode, dump, encode

from .adapters import Answer, Fault, InProcess, Port, Question, find
from .judge import ABSENT, judge_of
from .limits import SHOWN_LINES, shortened
from .process import ProcessPort

# Elements of a request beyond which no program to paste is given.
_PASTED: Final = 2**19
# Answers longer than this are not shown whole.
_LONG = 2000


def left_out(question: Question, answer: Answer) -> bool:
    """Say whether an answer is one that is not judged: ``bigint`` is not offered (BUF-037)."""
    if isinstance(answer, Fault) or dict(answer) != {"error": "E_UNSUPPORTED"}:
        return False
    config = question.args.get("config")
    layout = config.get("buffer") if isinstance(config, Mapping) else question.args.get("layout")
    return layout == "bigint"


def faults(expected: Mapping[str, Any], answer: Answer) -> list[str]:
    """Describe how an answer differs from what is due, a line each; none means that it is right."""
    if isinstance(answer, Fault):
        return [shortened(str(answer))]
    try:
        lines = differences(expected, answer)
    except Exception as error:  # an answer may hold anything
        lines = [f"garbage: results that cannot be compared ({type(error).__name__}: {error})"]
    return [shortened(line) for line in lines[:SHOWN_LINES]]


def first_step(judge: Implementation, port: Port, question: Question) -> str:
    """Return the first step, array and element in which a traced sequence differs, or ``""``."""
    if question.operation != "sequence_forward":
        return ""
    traced = Question(question.operation, {**question.args, "trace": True})
    expected = outcome(judge, traced.operation, traced.args)
    (answer,) = port.answers([traced])
    if isinstance(answer, Fault) or "h_steps" not in expected or "h_steps" not in answer:
        return ""
    config = Config.of(question.args["config"])
    try:
        return shortened(first_difference(config, expected, answer) or "")
    except Exception:  # an answer may hold anything
        return ""


def request(question: Question) -> str:
    """Return a question as the JSON that :func:`again` takes."""
    args = {
        name: value.as_dict() if isinstance(value, Config) else value
        for name, value in question.args.items()
    }
    return dump({"operation": question.operation, "args": encode(args)})


def reproduction(question: Question, names: Mapping[str, str]) -> str:
    """Return a Python program that asks a port once more and prints what differs.

    Args:
        question: what is asked.
        names: how :func:`again` gets the port, and perhaps the judge.
    """
    given = "".join(f", {name}={value!r}" for name, value in names.items())
    if sum(v.size for v in question.args.values() if isinstance(v, np.ndarray)) > _PASTED:
        return f"# {question.operation}: too long to paste; the run's seed draws it again"
    return f"from revrnn.conformance.checking import again\nagain({request(question)!r}{given})"


def again(
    text: str, adapter: str | None = None, command: str | None = None, judge: str | None = None
) -> list[str]:
    """Ask a port and the judge one question; print both answers and what differs.

    Args:
        text: the question, as a report gives it.
        adapter: the port in this process, as ``--adapter`` takes it; or
        command: the port as a program, as ``--command`` takes it.
        judge: who is right, as ``--judge`` takes it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` without exactly one of ``adapter`` and ``command``.
    """
    if (adapter is None) == (command is None):
        raise RevRNNError("E_ARGUMENT", "adapter and command", "both or none", "one of them")
    asked = json.loads(text)
    question = Question(asked["operation"], decode(asked["args"]))
    judged_by = judge_of(judge)
    port: Port = InProcess(find(adapter)) if adapter is not None else ProcessPort(command or "")
    try:
        (answer,) = port.answers([question])
        shown = answer if isinstance(answer, Fault) else dict(answer)
        if judged_by is None:
            print(ABSENT)
            print("got:     ", _cut(str(shown)))
            return []
        expected = outcome(judged_by, question.operation, question.args)
        if expected == {"error": "E_UNSUPPORTED"}:
            print(f"{judged_by.name} does not offer this")
            print("got:     ", _cut(str(shown)))
            return []
        print("expected:", _cut(str(dict(expected))))
        print("got:     ", _cut(str(shown)))
        lines = faults(expected, answer)
        step = first_step(judged_by, port, question)
        report = [*([f"first difference: {step}"] if step else []), *lines]
        print("\n".join(report) or "no difference")
        return lines
    finally:
        port.close()


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
