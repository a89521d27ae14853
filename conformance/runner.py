"""The run: every vector, then fresh random requests, each answer judged (CONF-002)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from revrnn.evaluation import Implementation, outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import load as load_vectors

from .adapters import Answer, Fault, Port, Question, mixed
from .checking import faults, first_step, left_out, reproduction
from .findings import Failure, Report, Tally
from .judge import layouts_of, offers
from .messages import WAYS
from .process import ProcessPort
from .profiles import UNKNOWN_OPERATION
from .random_cases import RandomCases
from .shrink import shrink
from .sizes import pool_for

# Failures of one operation that are shown in full; the others are counted.
SHOWN: Final = 3
# After so many faults of an operation it is not asked any more: each may cost the time limit.
PATIENCE: Final = 3

Progress = Callable[[str, int, int], None]


class Runner:
    """Asks one port."""

    def __init__(
        self,
        port: Port,
        judge: Implementation | None = None,
        *,
        profiles: tuple[str, ...] | None = None,
        examples: int = 20,
        seed: int = 0,
        names: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        seconds: float = 3600.0,
    ) -> None:
        """Prepare a run.

        Args:
            port: who is asked.
            judge: says what is due where there is no vector; without one there are no random
                requests, and no first step is named.
            profiles: what to judge; by default what the port claims.
            examples: random requests for each operation, and as many with faults; 0 for the vectors
                alone.
            seed: of the random requests, of the order in which vectors are asked, and of the order
                of names in all arguments: a port that keeps something from one request to the
                next, or takes arguments by their places, is not always asked alike.
            names: how :func:`~.checking.again` gets port and judge, for what is to be pasted.
            progress: is told an operation, how many cases are done, and how many there are.
            seconds: after so many nothing more is asked; what is left counts as wrong. The run
                ends at most two answers later.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if the judge has none of the port's layouts.
        """
        self.seconds, self.end = seconds, time.monotonic() + seconds
        self.port, self.judge = port, judge
        judged = port.profiles if profiles is None else profiles
        asked = 0 if judge is None else examples
        self.report = Report(port.name, port.profiles, tuple(judged), seed, asked)
        self.names, self.progress = names or {}, progress
        self.random: RandomCases | None = None
        self.order = random.Random(seed)
        self.looks_cost = False  # whether asking once more took all the time of an answer
        if judge is not None:
            self.report.judge = judge.name
            layouts = layouts_of(judge, port.layouts)
            self.random = RandomCases(judge, seed, layouts, pool_for(examples))

    def run(self) -> Report:
        """Ask everything."""
        start = time.monotonic()
        self.end = start + self.seconds
        operations = [name for name in OPERATIONS if OPERATIONS[name].profile in self.report.judged]
        if self.report.judged:
            operations.insert(0, UNKNOWN_OPERATION)
        for operation in operations:
            self._vectors(operation)
            if operation in OPERATIONS and self.report.examples:
                self._random(operation)
        if operations and not self._is_over():
            self._finish()
        self.report.seconds = time.monotonic() - start
        return self.report

    def _finish(self) -> None:
        """Look how the port ends; one that does so wrongly passes no profile (CONF-003)."""
        fault = self.port.finish()
        self.report.ending = "" if fault is None else str(fault)

    def _asked(self, operation: str, questions: list[Question], tally: Tally) -> list[Answer]:
        """Return the answers, up to the one where there were too many faults."""
        answers: list[Answer] = []
        over = Fault("time", f"not asked: the run's {self.seconds:g} s are over", "time")
        if self._is_over() and questions:
            tally.left_out += len(questions) - 1
            return [over]
        for answer in self.port.answers(questions):
            answers.append(answer)
            if self._is_over() and len(answers) < len(questions):
                self.port.close()
                tally.left_out += len(questions) - len(answers) - 1
                return [*answers, over]
            self._tell(operation, len(answers), len(questions))
            if sum(isinstance(answer, Fault) for answer in answers) >= PATIENCE:
                tally.left_out += len(questions) - len(answers)
                # What was sent ahead is not waited for.
                self.port.close()
                break
        return answers

    def _question(self, operation: str, args: Mapping[str, Any]) -> Question:
        return Question(operation, mixed(args, self.order))

    def _is_over(self) -> bool:
        return time.monotonic() >= self.end

    def _vectors(self, operation: str) -> None:
        cases = load_vectors(operation)
        tally = self.report.vectors.setdefault(operation, Tally())
        # Asked in a drawn order, judged in that of the file.
        order = self.order.sample(range(len(cases)), len(cases))
        asked_for = [cases[number] for number in order]
        questions = [self._question(case.operation, case.args) for case in asked_for]
        answers = self._asked(operation, questions, tally)
        asked = sorted(zip(order, questions, answers, strict=False), key=lambda one: one[0])
        for number, question, answer in asked:
            case = cases[number]
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
            self._fail(tally, failure, question, answer, expected)

    def _random(self, operation: str) -> None:
        drawn = self.random
        if drawn is None or not offers(drawn.judge, operation):
            return
        tally = self.report.random.setdefault(operation, Tally())
        cases = drawn.questions(operation, self.report.examples)
        questions = [self._question(case.operation, case.args) for case in cases]
        answers = self._asked(f"{operation}, random", questions, tally)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=False)):
            if left_out(question, answer):
                tally.left_out += 1
                continue
            expected = outcome(drawn.judge, question.operation, question.args)
            lines = faults(expected, answer)
            if not lines:
                tally.passed += 1
                continue
            faulty = "error" in expected  # the fewer places, the likelier another fault
            if not faulty and not isinstance(answer, Fault) and tally.failed < SHOWN:
                question, lines = self._smaller(question, lines, drawn.judge)
                expected = outcome(drawn.judge, question.operation, question.args)
            case = f"random case {number} of seed {self.report.seed}"
            rules = OPERATIONS[operation].rules
            failure = Failure(operation, case, rules, (), lines)
            self._fail(tally, failure, question, answer, expected)

    def _smaller(
        self, question: Question, lines: list[str], judge: Implementation
    ) -> tuple[Question, list[str]]:
        def wrong(args: dict[str, Any]) -> list[str]:
            expected = outcome(judge, question.operation, args)
            if "error" in expected or self._is_over():
                return []
            (answer,) = self.port.answers([Question(question.operation, args)])
            # A fault is another failure, and may cost the time limit.
            return [] if isinstance(answer, Fault) else faults(expected, answer)

        args = shrink(question.operation, question.args, lambda args: bool(wrong(args)))
        return Question(question.operation, args), wrong(args) or lines

    def _fail(
        self,
        tally: Tally,
        failure: Failure,
        question: Question,
        answer: Answer,
        expected: Mapping[str, Any],
    ) -> None:
        tally.failed += 1
        if tally.failed > SHOWN:
            return
        failure.lines += self._circumstances(question, answer, expected)
        if self.judge is not None and not isinstance(answer, Fault) and not self._is_over():
            failure.first_step = first_step(self.judge, self.port, question)
        failure.program = reproduction(question, self.names)
        self.report.failures.append(failure)

    def _circumstances(
        self, question: Question, answer: Answer, expected: Mapping[str, Any]
    ) -> list[str]:
        """Return what a wrong answer depends on, if that is how it is asked for.

        A process that hangs, or goes beyond a limit, is not asked again for that.
        """
        port, slow = self.port, _is_slow(answer)
        if not isinstance(port, ProcessPort) or slow or self.looks_cost:
            return []

        def wrong(*ways: str, anew: bool = False) -> bool:
            nonlocal slow
            if slow or self._is_over():
                return True
            again = port.asked(question, ways, anew)
            slow = self.looks_cost = _is_slow(again)
            return bool(faults(expected, again))

        kept = "of what is kept from other requests (CONF-005)"
        if wrong():
            if self.report.failures or wrong(anew=True):  # once a run: starting takes time
                return []
            return [f"in a new process it is right: {kept}"]
        for way in WAYS:
            if wrong(way) and not wrong() and wrong(way):  # no coincidence
                return [] if self._is_over() else [f"wrong where it is written {way} (CONF-003)"]
        return [] if slow or self._is_over() else [f"asked once more it is right: {kept}"]

    def _tell(self, operation: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(operation, done, total)


def _is_slow(answer: Answer) -> bool:
    """Say whether an answer is not to be asked for again, for what that costs."""
    return isinstance(answer, Fault) and (answer.kind == "hang" or bool(answer.limit))
