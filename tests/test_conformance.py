"""The conformance kit: right ports pass, wrong ones are told where, and no port can stop a run."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from revrnn import RevRNNError
from revrnn.conformance.adapters import InProcess, Question, find
from revrnn.conformance.checking import again, faults, left_out, request
from revrnn.conformance.findings import Report
from revrnn.conformance.judge import judge_of
from revrnn.conformance.profiles import PROFILES, operations_of
from revrnn.conformance.random_cases import RandomCases
from revrnn.conformance.report import as_html, as_json, as_text
from revrnn.conformance.runner import Runner
from revrnn.conformance.shrink import shrink
from revrnn.evaluation import Implementation, load, outcome
from revrnn.operations import OPERATIONS
from revrnn.wire import decode


class Wrong:
    """The oracle, with one answer changed."""

    name = "wrong"
    layouts: tuple[str, ...] = ("stream", "wordlist", "bigint")
    profiles: tuple[str, ...] = ("gates", "buffer", "cell", "sequence")

    def __init__(self, operation: str, change: Any) -> None:
        self.operation, self.change, self.oracle = operation, change, load("numpy")

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        results = self.oracle.evaluate(operation, arguments)
        if operation == self.operation:
            results = self.change(results, arguments)
        return results


def run(implementation: Any, **changes: Any) -> Report:
    options: dict[str, Any] = {"examples": 4, "seed": 3, "names": {"adapter": "its own"}}
    return Runner(InProcess(implementation), load("numpy"), **options | changes).run()


@pytest.mark.rule("CONF-001", "CONF-002")
@pytest.mark.parametrize("name", ["numpy", "naive", "torch"])
def test_our_implementations_pass(name: str) -> None:
    report = run(find(name), examples=8)
    assert report.passed(), as_text(report)
    assert set(report.verdicts().values()) <= {"pass", "not claimed"}
    asked = sum(tally.passed + tally.left_out for tally in report.random.values())
    assert asked == 16 * sum(len(operations_of(profile)) for profile in report.claimed)
    assert {name for profile in PROFILES for name in operations_of(profile)} == set(OPERATIONS)


@pytest.mark.rule("CONF-002")
def test_a_broken_rule_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The threshold of BUF-031 off by one: the report names it, and the program shows it."""

    def late(results: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        exactly = arguments["heads"] == arguments["z"].astype(np.int64) << 21
        if arguments["layout"] == "stream" and exactly.any():
            return results | {"words": results["words"][:-1]}
        return results

    report = run(Wrong("revmul", late))
    assert not report.passed()
    assert report.verdicts() == {
        "gates": "pass",
        "buffer": "fail",
        "cell": "pass",
        "sequence": "pass",
        "gradient": "not claimed",
    }
    text = as_text(report)
    assert "push_threshold: BUF-031" in text.split("Most likely")[1].splitlines()[1]
    failure = report.failures[0]
    assert failure.operation == "revmul"
    assert "words: uint16" in failure.lines[0]
    data = json.loads(as_json(report))
    assert data["verdicts"]["buffer"] == "fail"
    assert data["failures"][0]["program"] == failure.program
    seen: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attrs: seen.append(tag)  # type: ignore[method-assign]
    parser.feed(as_html(report))
    assert seen.count("section") == len(report.failures)
    # The program is for the port itself; here it is asked of the oracle, which is right.
    text = re.search(r"again\('(.*)', ", failure.program)[1]  # type: ignore[index]
    assert again(text, adapter="numpy") == []
    assert "no difference" in capsys.readouterr().out


def test_first_step_and_smallest_request() -> None:
    """A fault from the third step on: that step is named, and the request made small."""

    def wrong(results: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        if len(arguments["x"]) < 3 or "h_steps" not in results:
            return results
        steps = results["h_steps"].copy()
        steps[2:, 0, 0, 0] += 1
        return results | {"h_steps": steps}

    report = run(Wrong("sequence_forward", wrong), profiles=("sequence",), examples=3)
    shown = [f for f in report.failures if f.case.startswith("random")]
    assert shown
    for failure in shown:
        assert failure.first_step.startswith("step 2: h[0, 0, 0]")
        text = re.search(r"again\('(.*)', ", failure.program)[1]  # type: ignore[index]
        args = decode(json.loads(text)["args"])
        assert args["x"].shape[:2] == (3, 1)
        assert not args["x"].any()


@pytest.mark.rule("CONF-001", "CONF-002")
def test_unsupported_is_never_a_pass() -> None:
    class Lazy(Wrong):
        def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            if operation in OPERATIONS:
                raise RevRNNError("E_UNSUPPORTED", "operation", operation, "nothing")
            return super().evaluate(operation, arguments)

    assert "pass" not in run(Lazy("", None)).verdicts().values()
    unclaimed = run(load("naive"), profiles=("gradient",))
    assert unclaimed.verdicts()["gradient"] == "fail"
    assert not unclaimed.passed()
    question = Question("revmul", {"layout": "bigint"})
    assert left_out(question, {"error": "E_UNSUPPORTED"})
    assert not left_out(Question("revmul", {"layout": "stream"}), {"error": "E_UNSUPPORTED"})
    assert not left_out(question, {"error": "E_SHAPE"})
    assert faults({"error": "E_OP"}, {}) != []


class Strange(Wrong):
    """A judge of its own opinion: tanh is one more than the oracle says."""

    name = "strange"

    def __init__(self) -> None:
        def more(results: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
            return results | {"y": results["y"] + np.int32(1)}

        super().__init__("tanh", more)


def test_any_implementation_judges(capsys: pytest.CaptureFixture[str]) -> None:
    """Random requests, first steps and pasted programs go by the judge that is handed in."""
    names = {"adapter": "numpy", "judge": f"{__name__}:Strange"}
    judge = judge_of(names["judge"])
    assert judge is not None
    report = Runner(InProcess(load("numpy")), judge, examples=3, names=names).run()
    assert report.judge == "strange"
    assert {name for name, tally in report.random.items() if tally.failed} == {"tanh"}
    assert not any(tally.failed for tally in report.vectors.values())
    failure = report.failures[0]
    assert failure.program.endswith(f", adapter='numpy', judge='{__name__}:Strange')")
    exec(failure.program)
    said = capsys.readouterr().out
    assert "expected:" in said
    assert "no difference" not in said


def test_without_a_judge_the_vectors_alone_are_asked() -> None:
    report = Runner(InProcess(load("numpy")), examples=8).run()
    assert report.passed()
    assert (report.judge, report.examples, report.random) == ("", 0, {})
    assert "PASS, the vectors alone (" in as_text(report)
    assert "the vectors alone" in as_html(report)
    wrong = Wrong("sequence_forward", lambda results, arguments: results | {"wraps": -1})
    report = Runner(InProcess(wrong)).run()
    assert report.failures[0].operation == "sequence_forward"
    assert report.failures[0].first_step == ""


class Streams(Wrong):
    """A judge of layout stream alone, without gradients."""

    name = "streams"
    layouts: tuple[str, ...] = ("stream",)

    def __init__(self) -> None:
        super().__init__("", None)

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert operation != "sequence_gradient"
        config = arguments.get("config")
        buffer = config.get("buffer", "stream") if isinstance(config, dict) else "stream"
        layout = arguments.get("layout", buffer)
        if layout in ("wordlist", "bigint"):
            raise RevRNNError("E_UNSUPPORTED", "buffer", str(layout), "stream")
        return super().evaluate(operation, arguments)


def test_a_judge_is_asked_only_what_it_offers() -> None:
    """What the judge lacks is no mistake of the port's."""
    report = Runner(InProcess(load("numpy")), Streams(), examples=8).run()
    assert report.passed(), as_text(report)
    asked = {name for name, tally in report.random.items() if tally.passed == 16}
    assert asked == set(OPERATIONS) - {"sequence_gradient"}
    assert report.verdicts()["gradient"] == "pass"

    class Lists(Wrong):
        layouts: tuple[str, ...] = ("wordlist",)

    with pytest.raises(RevRNNError, match="judge: got streams with layouts stream"):
        Runner(InProcess(Lists("", None)), Streams())


def test_fresh_requests_with_faults_are_asked() -> None:
    """A port that looks at shapes before types fails by them, and they are judges' errors all."""

    class Hasty(Wrong):
        def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            lengths = np.shape(arguments.get("a", [[0]])), np.shape(arguments.get("w", [[0]]))
            if operation == "product" and len(lengths[0]) != len(lengths[1]):
                raise RevRNNError("E_SHAPE", "a", str(lengths), "two axes")
            return super().evaluate(operation, arguments)

    report = Runner(InProcess(Hasty("", None)), load("numpy"), examples=40).run()
    assert report.random["product"].failed
    assert report.random["tanh"].failed == 0
    cases = RandomCases(load("numpy"), 1)
    for operation in OPERATIONS:
        drawn = cases.all(operation, 6)
        answers = ["error" in outcome(load("numpy"), operation, args) for args in drawn[6:]]
        assert answers == [True] * 6


@pytest.mark.parametrize("names", [{}, {"adapter": "numpy", "command": "x"}])
def test_a_pasted_program_needs_one_port(names: dict[str, str]) -> None:
    with pytest.raises(RevRNNError, match="adapter and command"):
        again(request(Question("tanh", {"s": np.array([5]), "bits": 24})), **names)


def test_random_requests_are_valid_and_repeat(oracle: Implementation) -> None:
    for seed in range(4):
        drawn = [RandomCases(oracle, seed, pool=6) for _ in range(2)]
        for operation in OPERATIONS:
            for number in range(6):
                first, second = (cases.draw(operation, number) for cases in drawn)
                assert request(Question(operation, first)) == request(Question(operation, second))
                # Some pops find nothing, or heads that are too full (BUF-024, BUF-032).
                refused = {"E_RANGE", "E_UNDERFLOW"} if operation == "revmul_inverse" else set()
                code = outcome(oracle, operation, first).get("error")
                assert code is None or code in refused, (operation, seed, number)


def test_shrinking_keeps_what_fails(oracle: Implementation) -> None:
    arguments = RandomCases(oracle, 1).draw("quantise", 0)
    wanted = arguments["x"][5]
    smallest = shrink("quantise", arguments, lambda args: bool((args["x"] == wanted).any()))
    assert smallest["x"].tolist() == [wanted]


def test_the_seed_draws_the_order_of_vectors_and_names() -> None:
    """A port that keeps something from one request to the next is not always asked alike."""

    def asked(seed: int) -> list[tuple[tuple[str, ...], str]]:
        listened = []

        def hear(results: Any, arguments: Mapping[str, Any]) -> Any:
            listened.append((tuple(arguments), str(sorted(arguments.items()))))
            return results

        report = run(Wrong("view", hear), profiles=("gates",), examples=0, seed=seed)
        assert report.passed()
        return listened

    first, again, other = asked(1), asked(1), asked(2)
    assert first == again
    cases, names = ([[one[n] for one in heard] for heard in (first, other)] for n in (1, 0))
    assert cases[0] != cases[1]
    assert sorted(cases[0]) == sorted(cases[1])
    assert len(set(names[0])) > 2
