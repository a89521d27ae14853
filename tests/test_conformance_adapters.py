"""Python adapters that somebody wrote: what is none is named, and none can change the verdict."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from test_conformance import Wrong, run

from revrnn.conformance import suite
from revrnn.conformance.__main__ import main as conformance
from revrnn.conformance.adapters import InProcess
from revrnn.conformance.mismatch import main as mismatch
from revrnn.conformance.report import as_text
from revrnn.conformance.runner import Runner
from revrnn.conformance.serve import main as serve
from revrnn.evaluation import load

ORACLE = load("numpy")
MODULES = {
    "broken_syntax": "def f(:",
    "broken_import": "1 / 0",
    "broken_exit": "import sys; sys.exit(0)",
    "broken_factories": """
import sys
class Port:
    name, layouts = "port", ("stream",)
    def evaluate(self, operation, arguments): return {}
def made(**changed): return lambda: type("Made", (Port,), changed)()
def fails(): raise KeyError("what it wants")
def leaves(): sys.exit(0)
def wants(this): return Port()
nothing = made(name=None)
one_text = made(layouts="stream")
number = made(layouts=3)
misspelt = made(layouts=("streams",))
names = made(profiles=None)
no_threads = made(threads=0)
many_threads = made(threads=10**9)
claims_nothing = made(profiles=())
refuses_nothing = made()
class Panic(BaseException): pass
def panics(): raise Panic("in Rust")
no_method = made(evaluate=3)
evaluate_fails = made(evaluate=lambda self, operation, arguments: 1 / 0)
evaluate_leaves = made(evaluate=lambda self, operation, arguments: sys.exit(0))
evaluate_none = made(evaluate=lambda self, operation, arguments: None)
""",
}
REFUSED = {
    "broken_syntax:port": "SyntaxError",
    "broken_import:port": "ZeroDivisionError",
    "broken_exit:port": "SystemExit: 0",
    "../port:made": "TypeError",
    "broken_factories:fails": "KeyError: 'what it wants'",
    "broken_factories:leaves": "SystemExit: 0",
    "broken_factories:wants": "missing 1 required",
    "broken_factories:nothing": "name is None",
    "broken_factories:one_text": "layouts is 'stream'",
    "broken_factories:number": "layouts is 3",
    "broken_factories:misspelt": "with layout 'streams'; allowed: 'stream', 'wordlist'",
    "broken_factories:names": "profiles is None",
    "broken_factories:no_threads": "threads is 0",
    "broken_factories:many_threads": "threads is 1000000000",
    "broken_factories:panics": "Panic: in Rust",
    "broken_factories:no_method": "evaluate is 3",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_adapter_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As a port, as a judge and as what is served; the status is never that of a verdict."""
    for words, argument, main in (
        (["--adapter", name], "adapter", conformance),
        (["--adapter", "numpy", "--judge", name], "judge", conformance),
        (["--adapter", name], "adapter", serve),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert f"] {argument}: got" in error
        assert REFUSED[name] in error


@pytest.mark.parametrize("name", ["evaluate_fails", "evaluate_leaves", "evaluate_none"])
def test_a_judge_that_does_not_answer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--adapter", "numpy", "--judge", f"broken_factories:{name}", "--profile", "gates"]
    assert conformance([*words, "--examples", "1", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("judge port: quantise: ")
    assert mismatch([*words[:4], "--sequences", "1"]) == 2
    assert capsys.readouterr().err.startswith("judge port: ")


def test_a_judge_that_refuses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Requests with faults cannot be drawn with it; the run ends, and says so."""
    words = ["--adapter", "numpy", "--judge", "broken_factories:refuses_nothing", "--examples", "1"]
    assert conformance([*words, "--quiet"]) == 2
    told = r"judge port: quantise: none of \d+ requests with faults is refused"
    assert re.match(told, capsys.readouterr().err)


def test_a_port_that_claims_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance(["--adapter", "broken_factories:claims_nothing", "--quiet"]) == 1
    assert "it claims no profile (CONF-001)" in capsys.readouterr().out


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "neither": ("--revrnn-adapter and --revrnn-command", {"adapter": None}),
    "both": ("--revrnn-adapter and --revrnn-command", {"command": "x"}),
    "adapter": ("adapter: got 'nobody'", {"adapter": "nobody"}),
    "judge": ("judge: got 'nobody'", {"judge": "nobody"}),
    "profile": ("profile: got 'all'", {"profile": ["all"]}),
    "examples": ("examples: got -1", {"examples": -1}),
    "seed": ("seed: got -1", {"seed": -1}),
    "timeout": ("timeout: got nan", {"timeout": float("nan")}),
    "command": ("does not start", {"adapter": None, "command": "./no/such/port"}),
    "nothing": ("claims no profile", {"adapter": "broken_factories:claims_nothing"}),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options_of_the_plugin(what: str) -> None:
    """What is wrong ends collecting with one line, as in the command line."""
    told, changed = OPTIONS[what]
    given = {"adapter": "numpy", "examples": 2, "seed": 0, "timeout": 30.0} | changed
    config = mock.Mock(stash=pytest.Stash())
    config.getoption = lambda name: given.get(name.removeprefix("revrnn_"))
    with pytest.raises(pytest.Collector.CollectError, match=told):
        suite._port(config)


class _Port:
    """The oracle, between two deeds."""

    name, layouts, profiles = "port", ("stream",), ("gates",)

    def __init__(self, first: Callable[..., Any], last: Callable[..., Any]) -> None:
        self.first, self.last = first, last

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.first(arguments)
        try:
            results = ORACLE.evaluate(operation, arguments)
        finally:
            self.last(arguments)
        return results


def _spoil(arguments: Any) -> None:
    for value in arguments.values():
        if isinstance(value, np.ndarray):
            value[...] = 0


def _report(port: Any) -> Any:
    return Runner(InProcess(port), ORACLE, examples=5, names={"adapter": "its own"}).run()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.rule("CONF-002")
def test_a_port_that_leaves_python_is_wrong(threads: int) -> None:
    port: Any = _Port(lambda _: sys.exit(0), lambda _: None)
    port.threads = threads
    report = _report(port)
    assert not report.passed()
    assert "crash: SystemExit: 0" in as_text(report)


class _Panic(BaseException):
    """What a program in Rust raises in Python."""


class _Alike(np.ndarray[Any, Any]):
    """An array that says of itself that it equals everything."""

    def __eq__(self, other: object) -> Any:
        return np.ones(self.shape, bool)

    def __ne__(self, other: object) -> Any:
        return np.zeros(self.shape, bool)

    __hash__ = None  # as arrays


class _Failing(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("what it holds")


def _panic(_: Any) -> Any:
    raise _Panic("in Rust")


def _masked(results: Any) -> Any:
    return {n: np.ma.masked_array(v, mask=True) for n, v in results.items()}


ANSWERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "panic": (_panic, "_Panic: in Rust"),
    "mapping that fails": (_Failing, "KeyError: 'what it holds'"),
    "masked": (_masked, "is a masked array"),
    "equal to everything": (
        lambda results: {n: (np.asarray(v) + 1).view(_Alike) for n, v in results.items()},
        "expected",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.rule("CONF-002")
def test_an_answer_of_another_kind_is_wrong(name: str) -> None:
    change, said = ANSWERS[name]

    class Odd(_Port):
        def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Any:
            return change(super().evaluate(operation, arguments))

    report = _report(Odd(lambda _: None, lambda _: None))
    assert report.verdicts()["gates"] == "fail"
    assert said in as_text(report)


@pytest.mark.rule("CONF-002")
def test_a_port_may_write_into_what_it_is_given() -> None:
    """After its answer: nobody sees it. Before: the answer is that to another request."""
    nothing: Callable[..., Any] = lambda _: None  # noqa: E731
    assert _report(_Port(nothing, _spoil)).passed()
    report = _report(_Port(_spoil, nothing))
    assert all(tally.failed for tally in report.random.values())
    assert '"data":[0' not in next(f.program for f in report.failures if "random" in f.case)


@pytest.mark.rule("CONF-002")
def test_a_port_may_use_the_memory_of_an_answer_again() -> None:
    memory = np.zeros(2**16, np.int32)

    class Frugal(_Port):
        def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            results = super().evaluate(operation, arguments)
            if operation != "tanh":
                return results
            y = memory[: results["y"].size].reshape(results["y"].shape)
            y[...] = results["y"]
            return {"y": y}

    assert _report(Frugal(lambda _: None, lambda _: None)).passed()


def test_a_port_that_raises_is_reported() -> None:
    def crash(results: Any, arguments: Any) -> Any:
        raise KeyError("oops")

    report = run(Wrong("tanh", crash))
    assert report.verdicts()["gates"] == "fail"
    assert "oops" in report.failures[0].lines[0]
    assert report.suspects() == []
    report = run(Wrong("tanh", lambda results, arguments: 7))
    assert "garbage" in report.failures[0].lines[0]
