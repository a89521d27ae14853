"""Where does a mismatch begin? The first step, quantity, rule and unit in which a port is wrong.

A sequence is asked of both with its trace (EVAL-009), forward and back. In the first step that
differs, every quantity is asked of both from the same inputs (:mod:`.walk`). Exit status 0: no
mismatch; 1: there is one; 2: a port cannot be asked.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from revrnn.command_line import run_program
from revrnn.comparison import differences
from revrnn.config import Config
from revrnn.digest import NAMES, state_after
from revrnn.errors import RevRNNError, shown
from revrnn.evaluation import Implementation, outcome
from revrnn.operations import OPERATIONS
from revrnn.rules import rules
from revrnn.vectors import load as load_vectors
from revrnn.wire import decode

from .adapters import InProcess, Port, Question, find
from .asking import Mismatch, Parted, ask
from .contents import reversal_arguments
from .guard import leave_when_told
from .judge import USUAL, NamedJudge
from .life import PortError
from .limits import printable
from .process import ProcessPort
from .random_cases import RandomCases
from .walk import Walk, parts_of_state

_SEQUENCES = ("sequence_forward", "sequence_reverse", "sequence_gradient", "sequence_storage")


def first_mismatch(judge: Implementation, port: Port, question: Question) -> Mismatch | None:
    """Return where a port first differs from the judge, or ``None``.

    Args:
        judge: who is right.
        port: who is asked.
        question: any operation; sequences are walked step by step.
    """
    if question.operation in ("sequence_forward", "sequence_reverse"):
        return _in_sequence(judge, port, question, back=question.operation == "sequence_reverse")
    expected = outcome(judge, question.operation, question.args)
    got = ask(port, question.operation, question.args)
    lines = differences(expected, got)
    if not lines:
        return None
    if question.operation in _SEQUENCES and "error" not in expected:
        names = {"outputs", "states", *(name for name in question.args if name.startswith("grad_"))}
        args = {name: value for name, value in question.args.items() if name not in names}
        inner = first_mismatch(judge, port, Question("sequence_forward", args))
        if inner is not None:
            return inner
    return Mismatch("whole call", question.operation, _rule_of(question.operation), lines[0])


def _rule_of(operation: str) -> str:
    return OPERATIONS[operation].rules[0] if operation in OPERATIONS else "EVAL-001"


def _in_sequence(
    judge: Implementation, port: Port, question: Question, back: bool
) -> Mismatch | None:
    operation, args = question.operation, question.args
    traced = {**args, "trace": True}
    expected, got = outcome(judge, operation, traced), ask(port, operation, traced)
    lines = differences(expected, got)
    if not lines:
        return None
    if "h_steps" not in expected or set(expected) != set(got):
        return Mismatch("whole call", operation, _rule_of(operation), lines[0])
    config = Config.of(args["config"])
    steps = range(len(args["x"]))
    for step in reversed(steps) if back else steps:
        due, given = (_state(config, args, side, step, back) for side in (expected, got))
        if differences(due, given):
            before = step + 1 if back else step - 1
            start = (
                _state(config, args, expected, before, back) if before in steps else _start(args)
            )
            return _in_step(judge, port, args, step, start, due, given, back)
    return Mismatch("after all steps", operation, _rule_of(operation), lines[0])


def _in_step(
    judge: Implementation,
    port: Port,
    args: Mapping[str, Any],
    step: int,
    start: Mapping[str, Any],
    due: Mapping[str, Any],
    given: Mapping[str, Any],
    back: bool,
) -> Mismatch:
    """Return the first mismatch in a step after which the states differ."""
    config = Config.of(args["config"])
    walk = Walk(judge, port, config, args, dict(start))
    try:
        walk.back(step) if back else walk.forward(step)
    except Parted as parted:
        return parted.mismatch
    direction = "back" if back else "forward"
    for place, name, rule, a, b in parts_of_state(config, due, given, back):
        lines = differences({name: a}, {name: b})
        if lines:
            where = f"step {step}, {place}, {direction}"
            said = f"{lines[0]} (every quantity of the step agrees where it is asked alone)"
            return Mismatch(where, name, rule, said)
    raise AssertionError("states differ and no part of them does")


def _start(args: Mapping[str, Any]) -> dict[str, Any]:
    return {name: args[name] for name in NAMES if name in args}


def _state(
    config: Config, args: Mapping[str, Any], results: Mapping[str, Any], step: int, back: bool
) -> dict[str, Any]:
    """Return the state after a step was done, or undone."""
    if not back:
        return state_after(config, results, step)
    state = {"h": results["h_steps"][step]}
    if config.has_cell_state:
        state["c"] = results["c_steps"][step]
    if config.forgetting:
        state["heads"] = results["heads_steps"][step]
        # What is left of the store is what it held before: its lower part.
        count = int(results["words_steps"][step])
        state["words"] = args["words"][:count]
        flags = len(args["flags"]) - (len(args["x"]) - step) * config.operations_per_step
        state["flags"] = args["flags"][: max(flags, 0)]
    return state


# --- the command


def _read(path: Path) -> Question:
    """Return the request of a file, or raise ``E_ARGUMENT``."""
    try:
        asked = json.loads(path.read_text(encoding="utf-8"))
        operation, args = asked["operation"], decode(dict(asked["args"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        given = f"{path}: {error}"
        allowed = "a file with operation and args, as a report gives them"
        raise RevRNNError("E_ARGUMENT", "request", given, allowed) from error
    return Question(operation, args)


def questions(options: argparse.Namespace, judge: Implementation) -> Iterator[tuple[str, Question]]:
    """Give what is to be asked: a vector, a request from a file, or random sequences."""
    if options.case is not None:
        operation = options.case.rpartition("-")[0]
        try:
            cases = {case.id: case for case in load_vectors(operation)}
            yield options.case, Question(operation, cases[options.case].args)
        except KeyError:
            allowed = "the identifier of a vector"
            raise RevRNNError("E_ARGUMENT", "case", shown(options.case), allowed) from None
        return
    if options.request is not None:
        yield str(options.request), _read(options.request)
        return
    cases_of = RandomCases(judge, options.seed)
    for number in range(options.sequences):
        args = cases_of.draw("sequence_forward", number)
        name = f"sequence {number} of seed {options.seed}"
        yield name, Question("sequence_forward", args)
        forward = outcome(judge, "sequence_forward", args)
        if "error" not in forward:
            back = reversal_arguments(args, forward)
            yield f"{name}, back", Question("sequence_reverse", back)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = argparse.ArgumentParser(
        prog="python -m revrnn.conformance.mismatch", description=__doc__
    )
    port = line.add_mutually_exclusive_group(required=True)
    port.add_argument("--adapter", help="package:factory, an entry point, numpy, torch or jax")
    port.add_argument("--command", help="a program that speaks CONF-003")
    line.add_argument("--judge", default=USUAL, help="who is right; as --adapter")
    asked = line.add_mutually_exclusive_group()
    asked.add_argument("--case", help="the identifier of a vector")
    asked.add_argument("--request", type=Path, help="a file with one request, as a report gives it")
    asked.add_argument("--sequences", type=int, default=20, help="random sequences at most")
    line.add_argument("--seed", type=int, default=None, help="of the random sequences")
    return line


def main(arguments: list[str] | None = None) -> int:
    """Print the first mismatch and return the exit status."""
    options = parser().parse_args(arguments)
    if options.seed is None:
        options.seed = secrets.randbits(32)
    try:
        for name, low in (("seed", 0), ("sequences", 1)):
            if getattr(options, name) < low:
                raise RevRNNError("E_ARGUMENT", name, getattr(options, name), f"at least {low}")
        judge = NamedJudge(find(options.judge, "judge"))
        port: Port = (
            InProcess(find(options.adapter))
            if options.command is None
            else ProcessPort(options.command)
        )
    except (RevRNNError, PortError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    try:
        asked = 0
        for name, question in questions(options, judge):
            mismatch, asked = first_mismatch(judge, port, question), asked + 1
            if mismatch is not None:
                print(printable(told(name, mismatch, judge.name, port.name)))
                return 1
    except BrokenPipeError:
        raise
    except (RevRNNError, PortError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    except (KeyError, OSError, ValueError) as error:
        print(f"cannot be asked: {error!r}", file=sys.stderr)
        return 2
    finally:
        port.close()
    print(printable(f"{asked} asked, no mismatch between {judge.name} and {port.name}"))
    return 0


def told(name: str, mismatch: Mismatch, judge: str, port: str) -> str:
    """Return a mismatch in words, with the title of its rule."""
    lines = [
        f"{port} differs from {judge} in {name}",
        f"  where     {mismatch.place}",
        f"  quantity  {mismatch.quantity}",
        f"  rule      {mismatch.rule} {rules().get(mismatch.rule, '')}".rstrip(),
        f"  element   {mismatch.difference}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    leave_when_told()
    run_program(main)
