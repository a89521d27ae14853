"""Helpers through which every comparison goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from revrnn.comparison import compare, differences
from revrnn.conformance.contents import Arguments, reversal_arguments
from revrnn.evaluation import Implementation


def assert_agree(
    oracle: Implementation, other: Implementation, operation: str, arguments: Mapping[str, Any]
) -> None:
    """Fail with the first difference and a program that shows it, unless both answer alike."""
    message = compare(oracle, other, operation, arguments)
    assert not message, message


def assert_law(
    implementation: Implementation, arguments: Arguments, forward: Mapping[str, Any]
) -> None:
    """Check ``reverse(forward(s)) == s`` with the buffer back where it began (BUF-003, SEQ-009)."""
    back = implementation.evaluate("sequence_reverse", reversal_arguments(arguments, dict(forward)))
    wanted: dict[str, Any] = {
        name: arguments[name] for name in ("h", "c", "heads") if name in arguments
    }
    if "words" in back:
        wanted["words"] = forward["words"][:0]
        wanted["flags"] = forward["flags"][:0]
    lines = differences(wanted, back)
    assert not lines, f"{implementation.name} did not return to the start: {lines}"


def equal_bits(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Say whether two sets of results are equal in names, types, shapes and every bit."""
    return set(a) == set(b) and all(
        np.asarray(a[name]).dtype == np.asarray(b[name]).dtype
        and np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes()
        for name in a
    )
