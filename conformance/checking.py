"""Judging answers (CONF-002), and saying where a wrong one first went wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from revrnn.comparison import differences
from revrnn.config import Config
from revrnn.digest import first_difference
from revrnn.evaluation import Implementation, outcome
from revrnn.wire import decode, dump, encode

from .adapters import Answer, Fault, InProcess, Port, Question, find
from .limits import SHOWN_LINES, shortened
from .process import ProcessPort

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


def first_step(oracle: Implementation, port: Port, question: Question) -> str:
    """Return the first step, array and element in which a traced sequence differs, or ``""``."""
    if question.operation != "sequence_forward":
        return ""
    traced = Question(question.operation, {**question.args, "trace": True})
    expected = outcome(oracle, traced.operation, traced.args)
    (answer,) = port.answers([traced])
    if isinstance(answer, Fault) or "h_steps" not in expected or "h_steps" not in answer:
        return ""
    config = question.args["config"]
    config = config if isinstance(config, Config) else Config.from_dict(config)
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


def reproduction(question: Question, adapter: str | None, command: str | None) -> str:
    """Return a Python program that asks a port once more and prints what differs."""
    port = f"command={command!r}" if adapter is None else f"adapter={adapter!r}"
    return f"from revrnn.conformance.checking import again\nagain({request(question)!r}, {port})"


def again(text: str, adapter: str | None = None, command: str | None = None) -> list[str]:
    """Ask a port and the oracle one question; print both answers and what differs.

    Args:
        text: the question, as a report gives it.
        adapter: the port in this process, as ``--adapter`` takes it; or
        command: the port as a program, as ``--command`` takes it.
    """
    from revrnn.evaluation import load

    asked = json.loads(text)
    question = Question(asked["operation"], decode(asked["args"]))
    port: Port = InProcess(find(adapter)) if adapter else ProcessPort(command or "")
    expected = outcome(load("numpy"), question.operation, question.args)
    (answer,) = port.answers([question])
    lines = faults(expected, answer)
    shown = answer if isinstance(answer, Fault) else dict(answer)
    print("expected:", _cut(str(dict(expected))))
    print("got:     ", _cut(str(shown)))
    step = first_step(load("numpy"), port, question)
    print("\n".join([*([f"first difference: {step}"] if step else []), *lines]) or "no difference")
    port.close()
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
