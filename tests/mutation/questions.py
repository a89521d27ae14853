"""What every mutant is asked: the vectors, then the first random requests of each operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from revrnn.conformance.random_cases import RandomCases
from revrnn.evaluation import load, outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import load as load_vectors

# Random requests of each operation, and their seed.
RANDOM: Final = 50
SEED: Final = 20


@dataclass(frozen=True)
class Asked:
    """A request and the answer that is due.

    Attributes:
        name: the identifier of a vector, or the number of a random request.
        operation: what is asked for.
        args: its arguments.
        expected: the results, or ``{"error": code}``.
    """

    name: str
    operation: str
    args: Mapping[str, Any]
    expected: Mapping[str, Any]


@cache
def vectors(operation: str) -> tuple[Asked, ...]:
    """Return the vectors of an operation."""
    return tuple(
        Asked(
            case.id,
            case.operation,
            case.args,
            {"error": case.error} if case.out is None else case.out,
        )
        for case in load_vectors(operation)
    )


@cache
def random_requests(operation: str) -> tuple[Asked, ...]:
    """Return the random requests of an operation, drawn as a run of the suite draws them."""
    oracle = load("numpy")
    cases = RandomCases(oracle, SEED, pool=8)
    return tuple(
        Asked(
            f"{operation}, random {number}",
            asked.operation,
            asked.args,
            outcome(oracle, asked.operation, asked.args),
        )
        for number, asked in enumerate(cases.questions(operation, RANDOM))
    )


def operations_of(profiles: tuple[str, ...]) -> Iterator[str]:
    """Give the operations of the profiles, simple ones first."""
    for operation, entry in OPERATIONS.items():
        if entry.profile in profiles:
            yield operation
