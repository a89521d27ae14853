"""The run: every vector, then fresh random requests, each answer judged (CONF-002)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from revrnn import SPEC_VERSION
from revrnn.evaluation import load, outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import load as load_vectors

from .adapters import Answer, Fault, Port, Question
from .checking import faults, first_step, left_out, reproduction
from .profiles import PROFILES, UNKNOWN_OPERATION, operations_of
from .random_cases import RandomCases
from .shrink import shrink

# Failures of one operation that are shown in full; the others are counted.
SHOWN: Final = 3
# After so many faults of an operation it is not asked any more: each may cost the time limit.
PATIENCE: Final = 3


@dataclass
class Failure:
    """One case that a port got wrong.

    Attributes:
        operation: what was asked for.
        case: the vector's identifier, or which random case.
        rules: the rules that it covers.
        mistakes: flags of the mistakes that such a case catches, for vectors.
        lines: how the answer differs.
        first_step: the first step, array and element that differ, for sequences.
        program: what asks again, to be pasted.
    """

    operation: str
    case: str
    rules: tuple[str, ...]
    mistakes: tuple[str, ...]
    lines: list[str]
    first_step: str = ""
    program: str = ""


@dataclass
class Tally:
    """How the cases of one operation ended.

    Attributes:
        passed: right answers.
        failed: wrong ones, and faults.
        left_out: cases that are not judged (``bigint``), or not asked after too many faults.
    """

    passed: int = 0
    failed: int = 0
    left_out: int = 0


@dataclass
class Report:
    """What a run found.

    Attributes:
        port: the port's name.
        claimed: the profiles that it claims.
        judged: those that were to be judged.
        spec_version: the version of the specification.
        seed: of the random requests.
        examples: random requests for each operation.
        vectors: tallies of the vectors, by operation.
        random: tallies of the random requests, by operation.
        failures: the first few of each operation, in the order of the operations.
        covered: by operation, for each rule and each flag of a mistake, how many vectors that
            cover it passed and how many failed.
        seconds: how long it took.
    """

    port: str
    claimed: tuple[str, ...]
    judged: tuple[str, ...]
    seed: int
    examples: int
    spec_version: str = SPEC_VERSION
    vectors: dict[str, Tally] = field(default_factory=dict)
    random: dict[str, Tally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    covered: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    seconds: float = 0.0

    def verdicts(self) -> dict[str, str]:
        """Return ``pass``, ``fail``, ``not claimed`` or ``not judged`` for every profile."""
        found = {}
        unknown = self.vectors.get(UNKNOWN_OPERATION, Tally()).failed
        for profile in PROFILES:
            if profile not in self.judged:
                found[profile] = "not judged" if profile in self.claimed else "not claimed"
                continue
            tallies = [
                part.get(operation, Tally())
                for operation in operations_of(profile)
                for part in (self.vectors, self.random)
            ]
            # Not one right answer is no pass either.
            right = profile in self.claimed and any(tally.passed for tally in tallies)
            wrong = unknown or any(tally.failed for tally in tallies)
            found[profile] = "pass" if right and not wrong else "fail"
        return found

    def passed(self) -> bool:
        """Say whether all profiles that were to be judged pass, and there are some."""
        verdicts = self.verdicts()
        return bool(self.judged) and all(verdicts[name] == "pass" for name in self.judged)

    def suspects(self) -> list[tuple[str, float]]:
        """Return flags of mistakes, and rules, by how well they explain what failed first.

        Operations stand in the order in which they build on one another, so the vectors of the
        first that fails are looked at alone. The number is 1 for a mistake that exactly the failing
        ones catch; mistakes come before rules, which many vectors cover that do not tell of them.
        """
        wrong_first = (name for name, tally in self.vectors.items() if tally.failed)
        operation = next(wrong_first, None)
        if operation is None:
            return []
        failed = self.vectors[operation].failed
        scores = [
            (name, 2 * wrong / (wrong + right + failed))
            for name, (right, wrong) in self.covered.get(operation, {}).items()
            if wrong
        ]
        return sorted(scores, key=lambda item: (item[0].isupper(), -item[1], item[0]))


Progress = Callable[[str, int, int], None]


class Runner:
    """Asks one port."""

    def __init__(
        self,
        port: Port,
        *,
        profiles: tuple[str, ...] | None = None,
        examples: int = 20,
        seed: int = 0,
        adapter: str | None = None,
        command: str | None = None,
        progress: Progress | None = None,
        seconds: float = 3600.0,
    ) -> None:
        """Prepare a run.

        Args:
            port: who is asked.
            profiles: what to judge; by default what the port claims.
            examples: random requests for each operation; 0 for the vectors alone.
            seed: of the random requests.
            adapter: how the port is found again, for what is to be pasted; or
            command: how it is started.
            progress: is told an operation, how many cases are done, and how many there are.
            seconds: after so many nothing more is asked; what is left counts as wrong. The run
                ends at most two answers later.
        """
        self.seconds, self.end = seconds, time.monotonic() + seconds
        self.port, self.oracle = port, load("numpy")
        judged = port.profiles if profiles is None else profiles
        self.report = Report(port.name, port.profiles, tuple(judged), seed, examples)
        self.adapter, self.command, self.progress = adapter, command, progress
        offered = tuple(layout for layout in port.layouts if layout != "bigint")
        layouts = ("stream", "wordlist") if len(offered) != 1 else offered
        pool = max(2, min(8, examples // 4))
        self.random = RandomCases(self.oracle, seed, layouts, pool)

    def run(self) -> Report:
        """Ask everything."""
        start = time.monotonic()
        self.end = start + self.seconds
        operations = [name for name in OPERATIONS if OPERATIONS[name].profile in self.report.judged]
        if self.report.judged:
            operations.insert(0, UNKNOWN_OPERATION)
        for operation in operations:
            self._vectors(operation)
            if self.report.examples and operation in OPERATIONS:
                self._random(operation)
        self.report.seconds = time.monotonic() - start
        return self.report

    def _asked(self, operation: str, questions: list[Question], tally: Tally) -> list[Answer]:
        """Return the answers, up to the one where there were too many faults."""
        found: list[Answer] = []
        if self._is_over() and questions:
            tally.left_out += len(questions) - 1
            return [Fault("time", f"not asked: the run's {self.seconds:g} s are over", "time")]
        for answer in self.port.answers(questions):
            found.append(answer)
            if self._is_over() and len(found) < len(questions):
                self.port.close()
                what = f"not asked: the run's {self.seconds:g} s are over"
                tally.left_out += len(questions) - len(found) - 1
                return [*found, Fault("time", what, "time")]
            self._tell(operation, len(found), len(questions))
            if sum(isinstance(answer, Fault) for answer in found) >= PATIENCE:
                tally.left_out += len(questions) - len(found)
                # What was sent ahead is not waited for.
                self.port.close()
                break
        return found

    def _is_over(self) -> bool:
        return time.monotonic() >= self.end

    def _vectors(self, operation: str) -> None:
        cases = load_vectors(operation)
        tally = self.report.vectors.setdefault(operation, Tally())
        questions = [Question(operation, case.args) for case in cases]
        answers = self._asked(operation, questions, tally)
        for case, question, answer in zip(cases, questions, answers, strict=False):
            if left_out(question, answer):
                tally.left_out += 1
                continue
            expected = {"error": case.error} if case.out is None else case.out
            lines = faults(expected, answer)
            # A fault does not tell of a mistake.
            told = () if isinstance(answer, Fault) else (*case.rules, *case.catches)
            for name in told:
                counts = self.report.covered.setdefault(operation, {})
                counts.setdefault(name, [0, 0])[bool(lines)] += 1
            if not lines:
                tally.passed += 1
                continue
            failure = Failure(operation, case.id, case.rules, case.catches, lines)
            self._fail(tally, failure, question, answer)

    def _random(self, operation: str) -> None:
        tally = self.report.random.setdefault(operation, Tally())
        numbers = range(self.report.examples)
        questions = [Question(operation, self.random.draw(operation, n)) for n in numbers]
        answers = self._asked(f"{operation}, random", questions, tally)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=False)):
            expected = outcome(self.oracle, operation, question.args)
            lines = faults(expected, answer)
            if not lines:
                tally.passed += 1
                continue
            if not isinstance(answer, Fault) and tally.failed < SHOWN:
                question, lines = self._smaller(question, lines)
            case = f"random case {number} of seed {self.report.seed}"
            rules = OPERATIONS[operation].rules
            self._fail(tally, Failure(operation, case, rules, (), lines), question, answer)

    def _smaller(self, question: Question, lines: list[str]) -> tuple[Question, list[str]]:
        def wrong(args: dict[str, Any]) -> list[str]:
            expected = outcome(self.oracle, question.operation, args)
            if "error" in expected or self._is_over():
                return []
            (answer,) = self.port.answers([Question(question.operation, args)])
            # A fault is another failure, and may cost the time limit.
            return [] if isinstance(answer, Fault) else faults(expected, answer)

        found = shrink(question.operation, question.args, lambda args: bool(wrong(args)))
        return Question(question.operation, found), wrong(found) or lines

    def _fail(self, tally: Tally, failure: Failure, question: Question, answer: Answer) -> None:
        tally.failed += 1
        if tally.failed > SHOWN:
            return
        if not isinstance(answer, Fault) and not self._is_over():
            failure.first_step = first_step(self.oracle, self.port, question)
        failure.program = reproduction(question, self.adapter, self.command)
        self.report.failures.append(failure)

    def _tell(self, operation: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(operation, done, total)
