"""The conformance suite as tests: a test for each vector, and for each random request.

pytest --pyargs revrnn.conformance.suite --revrnn-adapter package:factory
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import pytest

from revrnn.errors import RevRNNError
from revrnn.evaluation import Implementation, outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import Case
from revrnn.vectors import load as load_vectors

from .adapters import InProcess, Port, Question, find
from .checking import faults, first_step, left_out, reproduction
from .judge import ABSENT, judge_of, layouts_of, offers
from .life import PortError
from .limits import check_numbers, printable
from .process import ProcessPort
from .profiles import UNKNOWN_OPERATION, check_profiles
from .random_cases import RandomCases
from .report import NOTHING_CLAIMED
from .sizes import pool_for

# Options that a pasted program takes too.
NAMES: Final = ("adapter", "command", "judge")
NUMBERS: Final = ("examples", "seed", "timeout")


# What the options name, made once in a session.
_PORT: Final = pytest.StashKey[Port]()
_JUDGE: Final = pytest.StashKey[Implementation | None]()


def _made(config: pytest.Config) -> Port:
    """Return a port that the options name."""
    adapter, command = config.getoption("revrnn_adapter"), config.getoption("revrnn_command")
    if adapter is not None:
        return InProcess(find(adapter))
    timeout, seed = (config.getoption(f"revrnn_{name}") for name in ("timeout", "seed"))
    return ProcessPort(command, timeout, seed=seed)


def _port(config: pytest.Config) -> Port:
    """Return the port; if there is none, or options are wrong, collecting ends with one line."""
    if _PORT in config.stash:
        return config.stash[_PORT]
    given = {name: config.getoption(f"revrnn_{name}") for name in (*NAMES, *NUMBERS, "profile")}
    try:
        if (given["adapter"] is None) == (given["command"] is None):
            options = "--revrnn-adapter and --revrnn-command"
            raise RevRNNError("E_ARGUMENT", options, "both or none", "one of them")
        check_numbers({name: given[name] for name in NUMBERS})
        check_profiles(tuple(given["profile"] or ()))
        config.stash[_JUDGE] = judge_of(given["judge"])
        port = config.stash[_PORT] = _made(config)
        config.add_cleanup(port.close)
        if not port.profiles and given["profile"] is None:
            raise PortError(f"{port.name}: {NOTHING_CLAIMED}")
    except (RevRNNError, PortError) as error:
        raise pytest.Collector.CollectError(printable(str(error))) from None
    return port


@pytest.fixture(scope="session")
def port(request: pytest.FixtureRequest) -> Port:
    """The port that the options name."""
    return _port(request.config)


@pytest.fixture(scope="session")
def judge(request: pytest.FixtureRequest, port: Port) -> Implementation | None:
    """The judge of random requests, or ``None`` if it is not installed."""
    return request.config.stash[_JUDGE]


@pytest.fixture(scope="session")
def random_cases(request: pytest.FixtureRequest, port: Port, judge: Implementation | None) -> Any:
    """Give requests by seed and number, whichever tests are selected."""
    examples = request.config.getoption("revrnn_examples")
    seed = request.config.getoption("revrnn_seed")

    @cache
    def drawn(operation: str) -> list[Question]:
        if judge is None:
            pytest.skip(ABSENT)
        layouts = layouts_of(judge, port.layouts)
        cases = RandomCases(judge, seed, layouts, pool_for(examples))
        return cases.questions(operation, examples)

    return drawn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each case of the profiles that are judged."""
    config = metafunc.config
    port = _port(config)
    profiles = config.getoption("revrnn_profile") or port.profiles
    operations = [name for name in OPERATIONS if OPERATIONS[name].profile in profiles]
    if "case" in metafunc.fixturenames:
        cases = [c for name in (UNKNOWN_OPERATION, *operations) for c in load_vectors(name)]
        metafunc.parametrize("case", cases, ids=[case.id for case in cases])
    elif "number" in metafunc.fixturenames:
        numbers = range(2 * config.getoption("revrnn_examples"))  # the second half with faults
        asked = [(name, number) for name in operations for number in numbers]
        metafunc.parametrize(("operation", "number"), asked)


def _check(
    port: Port,
    judge: Implementation | None,
    question: Question,
    expected: Mapping[str, Any],
    config: pytest.Config,
) -> None:
    (answer,) = port.answers([question])
    if left_out(question, answer):
        pytest.skip("layout bigint is not offered")
    lines = faults(expected, answer)
    if lines:
        step = "" if judge is None else first_step(judge, port, question)
        lines = [*([f"first difference: {step}"] if step else []), *lines]
        options = {name: config.getoption(f"revrnn_{name}") for name in NAMES}
        names = {name: value for name, value in options.items() if value is not None}
        program = reproduction(question, names)
        pytest.fail("\n".join([*lines, "To repeat it:", program]), pytrace=False)


def test_vector(
    port: Port, judge: Implementation | None, case: Case, request: pytest.FixtureRequest
) -> None:
    """Ask what a vector asks."""
    expected = {"error": case.error} if case.out is None else case.out
    _check(port, judge, Question(case.operation, case.args), expected, request.config)


def test_end_of_input(request: pytest.FixtureRequest) -> None:
    """See whether the port ends with its input, with status 0 and no line more (CONF-003)."""
    asked = _made(request.config)
    list(asked.answers([Question(UNKNOWN_OPERATION, {})]))
    fault = asked.finish()
    if fault is not None:
        pytest.fail(str(fault), pytrace=False)


def test_random(
    port: Port,
    judge: Implementation | None,
    random_cases: Any,
    operation: str,
    number: int,
    request: pytest.FixtureRequest,
) -> None:
    """Ask what the judge answers too."""
    if judge is not None and not offers(judge, operation):
        pytest.skip(f"{judge.name} does not offer {operation}")
    question = random_cases(operation)[number]
    assert judge is not None
    expected = outcome(judge, question.operation, question.args)
    _check(port, judge, question, expected, request.config)
