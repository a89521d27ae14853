"""The flags of the test vectors are true: each named mistake is made, and its cases see it.

A mistake is a change of source text in the second opinion (or, for gradients, in the oracle).
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from test_vectors import faults

from mistakes import GRADIENT_MISTAKES, MISTAKES
from revrnn.evaluation import Implementation, outcome
from revrnn.evaluation import load as implementation_of
from revrnn.numpy_ref import evaluate
from revrnn.vectors import Case, flags, load, operations

# The files of the second opinion, each after those that it imports.
SECOND_OPINION = ("numbers", "buffer", "cells", "arrays", "sequences", "evaluate")

# Faults of requests are found by one function for all implementations (ERR-002).
OF_REQUESTS = {"unchecked_name", "unchecked_value", "unchecked_array", "error_order"}

CASES = [case for operation in operations() for case in load(operation)]


def changed(name: str, changes: tuple[tuple[str, str], ...]) -> tuple[types.ModuleType, set[str]]:
    """Return a module run from changed text, and those of the texts to change that it has."""
    original = import_module(name)
    assert original.__file__
    text = Path(original.__file__).read_text(encoding="utf-8")
    present = {old for old, _ in changes if old in text}
    for old, new in changes:
        text = text.replace(old, new)
    made = types.ModuleType(original.__name__)
    made.__package__ = original.__package__
    with placed(made):
        exec(compile(text, f"changed {name}", "exec"), made.__dict__)
    return made, present


@contextmanager
def placed(module: types.ModuleType) -> Iterator[None]:
    """Let imports find a module in the place of the one of its name."""
    original = sys.modules[module.__name__]
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        sys.modules[module.__name__] = original


def second_opinion(changes: tuple[tuple[str, str], ...]) -> Implementation:
    """Return the second opinion with changes of its text."""
    present: set[str] = set()
    with ExitStack() as stack:
        for file in SECOND_OPINION:
            made, here = changed(f"revrnn.second_opinion.{file}", changes)
            stack.enter_context(placed(made))
            present |= here
    assert present == {old for old, _ in changes}, "a text to change is no longer there"
    implementation: Implementation = made.IMPLEMENTATION
    return implementation


def sees(case: Case, implementation: Implementation) -> bool:
    """Say whether a case notices that an implementation is wrong."""
    try:
        got: dict[str, Any] = outcome(implementation, case.operation, case.args)
    except Exception:
        return True
    return bool(faults(case, got))


def test_every_flag_has_a_mistake() -> None:
    assert set(MISTAKES) | set(GRADIENT_MISTAKES) | OF_REQUESTS == set(flags())


@pytest.mark.parametrize("flag", MISTAKES)
def test_cases_see_the_mistakes_they_name(flag: str) -> None:
    implementation = second_opinion(MISTAKES[flag])
    blind = [c for c in CASES if flag in c.catches and not sees(c, implementation)]
    assert not blind, f"{flag} is not seen by {[c.id for c in blind]}"


@pytest.mark.parametrize("flag", GRADIENT_MISTAKES)
def test_cases_see_the_mistakes_in_gradients(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, present = changed("revrnn.numpy_ref.gradients", GRADIENT_MISTAKES[flag])
    assert len(present) == len(GRADIENT_MISTAKES[flag])
    monkeypatch.setattr(evaluate, "sequence_gradient", gradients.sequence_gradient)
    implementation = implementation_of("numpy")
    blind = [c for c in CASES if flag in c.catches and not sees(c, implementation)]
    assert not blind, f"{flag} is not seen by {[c.id for c in blind]}"


def test_faults_of_requests_are_errors() -> None:
    for case in CASES:
        if OF_REQUESTS & set(case.catches):
            assert case.error


def test_no_mistake_is_no_fault() -> None:
    naive = second_opinion(())
    wrong = [
        case.id for case in CASES if case.operation != "sequence_gradient" and sees(case, naive)
    ]
    assert not wrong
