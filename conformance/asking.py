"""Asking the judge and a port for one quantity from the same inputs, and saying where they part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from revrnn.comparison import differences
from revrnn.evaluation import Implementation, outcome

from .adapters import Fault, Port, Question

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Mismatch:
    """The first quantity in which two implementations differ.

    Attributes:
        place: step, layer, group and direction.
        quantity: what differs, in the words of the rules.
        rule: the identifier of the rule that defines it.
        difference: element, what is due and what was given.
    """

    place: str
    quantity: str
    rule: str
    difference: str


class Parted(Exception):  # noqa: N818 - ends a walk; nothing failed
    """Carries the first mismatch out of a walk."""

    def __init__(self, mismatch: Mismatch) -> None:
        """Take what differs."""
        super().__init__(mismatch.difference)
        self.mismatch = mismatch


@dataclass
class Asking:
    """A judge and a port that are asked the same.

    Attributes:
        judge: who is right, and whose values go on.
        port: who is asked the same.
        place: where in a sequence the questions are.
    """

    judge: Implementation
    port: Port
    place: str = field(default="", init=False)

    def shift(self, quantity: str, rule: str, v: Array, k: int) -> Array:
        """Return ``v`` shifted by ``k`` bits, rounded (GEN-003)."""
        return self.agreed(quantity, rule, "round_shift", "v", {"v": v, "k": k})

    def agreed(
        self, quantity: str, rule: str, operation: str, result: str, given: Mapping[str, Any]
    ) -> Array:
        """Return the judge's value of a quantity.

        Raises:
            Parted: if the port gives another one.
        """
        answers = self.both(operation, given)
        self.compare(quantity, rule, result, answers)
        value: Array = answers[0][result]
        return value

    def both(
        self, operation: str, given: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return what the judge and the port answer."""
        return outcome(self.judge, operation, given), ask(self.port, operation, given)

    def compare(
        self,
        quantity: str,
        rule: str,
        result: str,
        answers: tuple[Mapping[str, Any], Mapping[str, Any]],
    ) -> None:
        """Raise :class:`Parted` unless a result, or the errors, of both answers are the same."""
        expected, got = ({result: a[result]} if result in a else dict(a) for a in answers)
        lines = differences(expected, got)
        if lines:
            raise Parted(Mismatch(self.place, quantity, rule, lines[0]))


def ask(port: Port, operation: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a port's answer; what is no answer becomes ``{"error": …}``."""
    (answer,) = port.answers([Question(operation, given)])
    return {"error": str(answer)} if isinstance(answer, Fault) else answer
