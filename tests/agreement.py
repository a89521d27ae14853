"""Helpers through which every comparison goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from revrnn.comparison import compare, differences
from revrnn.conformance.contents import Arguments, reversal_arguments
from revrnn.evaluation import Implementation, outcome


def assert_agree(
    oracle: Implementation,
    other: Implementation,
    operation: str,
    arguments: Mapping[str, Any],
    got: Mapping[str, Any] | None = None,
) -> None:
    """Fail with the first difference and a program that shows it, unless both answer alike.

    What the other answered already may be given; it is then not asked again, unless it was wrong.
    """
    if got is not None and not (wrong := differences(outcome(oracle, operation, arguments), got)):
        return
    message = compare(oracle, other, operation, arguments)
    assert not message, message
    assert got is None, f"{other.name} answers right only when asked again: {wrong}"


def assert_law(
    implementation: Implementation, arguments: Arguments, forward: Mapping[str, Any]
) -> None:
    """Check ``reverse(forward(s)) == s`` with the buffer back where it began (BUF-003, SEQ-009)."""
    back = implementation.evaluate("sequence_reverse", reversal_arguments(arguments, dict(forward)))
    lines = away_from_start(arguments, forward, back)
    assert not lines, f"{implementation.name} did not return to the start: {lines}"


def away_from_start(
    arguments: Arguments, forward: Mapping[str, Any], back: Mapping[str, Any]
) -> list[str]:
    """Return in what a way back does not end where the sequence began (SEQ-009)."""
    wanted: dict[str, Any] = {
        name: arguments[name] for name in ("h", "c", "heads") if name in arguments
    }
    if "words" in back:
        wanted |= {name: forward[name][:0] for name in ("words", "flags")}
    return differences(wanted, back)


def assert_sequences_agree(
    oracle: Implementation, other: Implementation, arguments: Arguments, trace: bool = True
) -> None:
    """Compare a sequence forward, step by step if ``trace``, and back, and check the law."""
    assert_agree(oracle, other, "sequence_forward", arguments | {"trace": trace})
    forward = other.evaluate("sequence_forward", arguments)
    back = reversal_arguments(arguments, forward)
    assert_agree(oracle, other, "sequence_reverse", back | {"trace": trace})
    assert_law(other, arguments, forward)


def both_gradients(implementation: Implementation, request: Arguments) -> list[dict[str, Any]]:
    """Return gradients from recovered and from stored states (GRAD-020)."""
    return [
        implementation.evaluate("sequence_gradient", request | {"states": states})
        for states in ("reversed", "stored")
    ]


def equal_bits(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Say whether two sets of results are equal in names, types, shapes and every bit."""
    return set(a) == set(b) and all(
        np.asarray(a[name]).dtype == np.asarray(b[name]).dtype
        and np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes()
        for name in a
    )
