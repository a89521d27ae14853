"""The findings of a run: failures, tallies, verdicts and suspects."""

from __future__ import annotations

from dataclasses import dataclass, field

from revrnn import SPEC_VERSION

from .profiles import PROFILES, UNKNOWN_OPERATION, operations_of


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
    """The findings of a run.

    Attributes:
        port: the port's name.
        claimed: the profiles that it claims.
        judged: those that were to be judged.
        spec_version: the version of the specification.
        seed: of the random requests.
        examples: random requests for each operation; as many with faults are asked too.
        judge: the name of who judged those, or ``""``: the vectors alone were asked.
        vectors: tallies of the vectors, by operation.
        random: tallies of the random requests, by operation.
        failures: the first few of each operation, in the order of the operations.
        covered: by operation, for each rule and each flag of a mistake, how many vectors that
            cover it passed and how many failed.
        ending: how the port ended with its input, ``""`` if as it should (CONF-003).
        seconds: how long it took.
    """

    port: str
    claimed: tuple[str, ...]
    judged: tuple[str, ...]
    seed: int
    examples: int
    judge: str = ""
    spec_version: str = SPEC_VERSION
    vectors: dict[str, Tally] = field(default_factory=dict)
    random: dict[str, Tally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    covered: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    ending: str = ""
    seconds: float = 0.0

    def verdicts(self) -> dict[str, str]:
        """Return ``pass``, ``fail``, ``not claimed`` or ``not judged`` for every profile."""
        verdicts = {}
        unknown = self.vectors.get(UNKNOWN_OPERATION, Tally()).failed
        for profile in PROFILES:
            if profile not in self.judged:
                verdicts[profile] = "not judged" if profile in self.claimed else "not claimed"
                continue
            tallies = [
                part.get(operation, Tally())
                for operation in operations_of(profile)
                for part in (self.vectors, self.random)
            ]
            # Not one right answer is no pass either.
            right = profile in self.claimed and any(tally.passed for tally in tallies)
            wrong = unknown or self.ending or any(tally.failed for tally in tallies)
            verdicts[profile] = "pass" if right and not wrong else "fail"
        return verdicts

    def passed(self) -> bool:
        """Say whether all profiles that were to be judged pass, and there are some."""
        verdicts = self.verdicts()
        return bool(self.judged) and all(verdicts[name] == "pass" for name in self.judged)

    def suspects(self) -> list[tuple[str, float]]:
        """Return flags of mistakes, and rules, by how well they explain what failed first.

        Operations stand in the order in which they build on one another, so the vectors of the
        first that fails are looked at alone. The number is 1 for a mistake that exactly the failing
        ones catch. Mistakes that a right answer to any vector contradicts come after the others,
        and rules, which many vectors cover that do not tell of them, last.
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
        contradicted = {
            name for counts in self.covered.values() for name, (right, _) in counts.items() if right
        }
        return sorted(
            scores, key=lambda item: (item[0].isupper(), item[0] in contradicted, -item[1], item[0])
        )
