"""The conformance suite as tests: a test for each vector, and for each random request.

pytest --pyargs revrnn.conformance.suite --revrnn-adapter package:factory
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from revrnn.evaluation import load, outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import Case
from revrnn.vectors import load as load_vectors

from .adapters import InProcess, Port, Question, find
from .checking import faults, first_step, left_out, reproduction
from .process import ProcessPort
from .profiles import UNKNOWN_OPERATION, check_profiles
from .random_cases import RandomCases


def _port(config: pytest.Config) -> Port:
    adapter, command = config.getoption("revrnn_adapter"), config.getoption("revrnn_command")
    if (adapter is None) == (command is None):
        raise pytest.UsageError("one of --revrnn-adapter and --revrnn-command must be given")
    if adapter is not None:
        return InProcess(find(adapter))
    return ProcessPort(command, config.getoption("revrnn_timeout"))


@pytest.fixture(scope="session")
def port(request: pytest.FixtureRequest) -> Iterator[Port]:
    """The port that the options name."""
    found = _port(request.config)
    yield found
    found.close()


@pytest.fixture(scope="session")
def random_cases(request: pytest.FixtureRequest) -> Any:
    """Give requests by seed and number, whichever tests are selected."""
    examples = request.config.getoption("revrnn_examples")
    seed = request.config.getoption("revrnn_seed")

    @cache
    def drawn(operation: str) -> list[Question]:
        cases = RandomCases(load("numpy"), seed, pool=max(2, min(8, examples // 4)))
        return [Question(operation, cases.draw(operation, n)) for n in range(examples)]

    return drawn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each case of the profiles that are judged."""
    config = metafunc.config
    profiles = config.getoption("revrnn_profile")
    if profiles is None:
        port = _port(config)
        profiles = port.profiles
        port.close()
    check_profiles(tuple(profiles))
    operations = [name for name in OPERATIONS if OPERATIONS[name].profile in profiles]
    if "case" in metafunc.fixturenames:
        cases = [c for name in (UNKNOWN_OPERATION, *operations) for c in load_vectors(name)]
        metafunc.parametrize("case", cases, ids=[case.id for case in cases])
    else:
        numbers = range(config.getoption("revrnn_examples"))
        asked = [(name, number) for name in operations for number in numbers]
        metafunc.parametrize(("operation", "number"), asked)


def _judge(port: Port, question: Question, expected: Any, config: pytest.Config) -> None:
    (answer,) = port.answers([question])
    if left_out(question, answer):
        pytest.skip("layout bigint is not offered")
    lines = faults(expected, answer)
    if lines:
        adapter, command = config.getoption("revrnn_adapter"), config.getoption("revrnn_command")
        step = first_step(load("numpy"), port, question)
        lines = [*([f"first difference: {step}"] if step else []), *lines]
        program = reproduction(question, adapter, command)
        pytest.fail("\n".join([*lines, "To repeat it:", program]), pytrace=False)


def test_vector(port: Port, case: Case, request: pytest.FixtureRequest) -> None:
    """Ask what a vector asks."""
    expected = {"error": case.error} if case.out is None else case.out
    _judge(port, Question(case.operation, case.args), expected, request.config)


def test_random(
    port: Port, random_cases: Any, operation: str, number: int, request: pytest.FixtureRequest
) -> None:
    """Ask what the oracle answers too."""
    question = random_cases(operation)[number]
    expected = outcome(load("numpy"), operation, question.args)
    _judge(port, question, expected, request.config)
