"""Comparing one implementation with another, and saying where and how to repeat it.

Exact results must be equal in type, shape and every bit (GEN-001), gradients close (GRAD-021).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .config import Config
from .digest import first_difference
from .evaluation import Implementation, outcome
from .kinds import KINDS, Tolerance, is_int
from .operations import OPERATIONS

_TOLERANCES: Final = {
    field.name: kind.tolerance
    for operation in OPERATIONS.values()
    for field in operation.results
    if isinstance(field.of, str) and (kind := KINDS[field.of]).tolerance
}


def tolerance_of(name: str) -> Tolerance | None:
    """Return how far a result may be from the oracle's, ``None`` if it is exact (GEN-001)."""
    return _TOLERANCES.get(re.sub("_l[0-9]+$", "_l{k}", name))


def close(expected: npt.NDArray[Any], got: npt.NDArray[Any], tolerance: Tolerance) -> bool:
    """Say whether a float result is within its tolerance."""
    if expected.shape != got.shape or not np.isfinite(got).all():
        return False
    if expected.size == 0:
        return True
    limit = tolerance.relative * np.abs(expected).max() + tolerance.absolute
    return bool(np.abs(expected - got).max() <= limit)


def differences(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """Describe every result that differs, one line each; an empty list means agreement."""
    if set(expected) != set(got):
        shown = [dict(side) if "error" in side else sorted(side) for side in (expected, got)]
        return [f"results: {shown[0]} expected, {shown[1]} got"]
    lines = [_difference(name, expected[name], got[name]) for name in expected]
    return [line for line in lines if line]


def _difference(name: str, expected: Any, got: Any) -> str:
    tolerance = tolerance_of(name)
    if not isinstance(expected, np.ndarray):
        if tolerance:
            same = isinstance(got, float | np.floating) and (
                abs(expected - got) <= tolerance.relative * abs(expected) + tolerance.absolute
            )
        elif is_int(expected):
            same = is_int(got) and expected == got
        else:
            same = type(got) is type(expected) and expected == got
        return "" if same else f"{name}: {expected!r} expected, {got!r} got"
    if not isinstance(got, np.ndarray):
        return f"{name}: an array expected, a {type(got).__name__} got"
    if tolerance:
        if not np.issubdtype(got.dtype, np.floating):
            return f"{name}: floats expected, {got.dtype} got"
        if close(expected, got, tolerance):
            return ""
        worst = np.abs(expected - got).max() if expected.shape == got.shape else "another shape"
        return f"{name}: differs by {worst}, largest {np.abs(expected).max()}"
    if expected.dtype != got.dtype or expected.shape != got.shape:
        wanted = f"{expected.dtype}{list(expected.shape)}"
        return f"{name}: {wanted} expected, {got.dtype}{list(got.shape)} got"
    differs = expected != got
    if expected.dtype.kind == "f":
        differs |= np.signbit(expected) != np.signbit(got)  # QNT-006
    if not differs.any():
        return ""
    where = tuple(np.argwhere(differs)[0].tolist())
    return f"{name}{list(where)}: {expected[where]} expected, {got[where]} got"


def compare(
    oracle: Implementation, other: Implementation, operation: str, arguments: Mapping[str, Any]
) -> str:
    """Ask both for an operation and describe the first disagreement.

    Returns:
        ``""`` if they agree; else what differs, for a traced sequence the first step that differs
        (EVAL-010), and a program that repeats the call.
    """
    expected = outcome(oracle, operation, arguments)
    got = outcome(other, operation, arguments)
    lines = differences(expected, got)
    if not lines:
        return ""
    if "h_steps" in expected and "h_steps" in got and operation == "sequence_forward":
        first = first_difference(Config.of(arguments["config"]), expected, got)
        lines = [f"first difference: {first}", *lines]
    head = f"{other.name} differs from {oracle.name} in {operation}"
    return "\n".join([head, *lines, "", "To repeat it:", reproduction(other, operation, arguments)])


def reproduction(
    implementation: Implementation, operation: str, arguments: Mapping[str, Any]
) -> str:
    """Return a Python program that makes one call again, all arguments written out."""
    lines = [
        "import numpy as np",
        "from numpy import array",
        "from revrnn.comparison import compare",
        "from revrnn.evaluation import load",
        "arguments = {",
        *(f"    {name!r}: {literal(value)}," for name, value in arguments.items()),
        "}",
        f'print(compare(load("numpy"), load("{implementation.name}"), "{operation}", arguments))',
    ]
    return "\n".join(lines)


def literal(value: object) -> str:
    """Return Python source for an argument."""
    if isinstance(value, Config):
        return repr(value.as_dict())
    if not isinstance(value, np.ndarray):
        return repr(value)
    kind = "object" if value.dtype == object else f"np.{value.dtype.name}"
    elements = repr(value.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    return f"array({elements}, {kind}).reshape({value.shape})"
