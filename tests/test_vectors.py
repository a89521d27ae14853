"""The test vectors: every implementation against every case."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from revrnn.comparison import tolerance_of
from revrnn.evaluation import load, outcome
from revrnn.operations import OPERATIONS
from revrnn.vectors import Case, manifest
from revrnn.vectors import load as load_cases

FOLDER = Path(__file__).parent.parent / "spec" / "vectors"
NAMES = (*OPERATIONS, "no_such_operation")
CASES = {case.id: case for name in NAMES for case in load_cases(name)}


def raw(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="ascii"))
    return data


def faults(case: Case, got: Mapping[str, Any]) -> list[str]:
    """Describe how an answer differs from a case's; an empty list means that it is right."""
    if case.out is None:
        return [] if got == {"error": case.error} else [f"{case.error} expected, {got} got"]
    if set(got) != set(case.out):
        return [f"results {sorted(case.out)} expected, {dict(got) if 'error' in got else set(got)}"]
    tolerance = raw(case.operation).get("tolerance") if floats(case) else None
    return [
        f"{name}: {wanted!r} expected, {got[name]!r} got"
        for name, wanted in case.out.items()
        if not right(name, wanted, got[name], tolerance)
    ]


def floats(case: Case) -> bool:
    return any(tolerance_of(name) for name in case.out or ())


def right(name: str, wanted: Any, got: Any, tolerance: Mapping[str, str] | None) -> bool:
    if tolerance and re.search(tolerance["results"], name):
        relative, absolute = (float.fromhex(tolerance[n]) for n in ("relative", "absolute"))
        if np.shape(got) != np.shape(wanted) or not np.isfinite(got).all():
            return False
        limit = relative * np.abs(wanted).max(initial=0) + absolute
        return bool(np.abs(got - wanted).max(initial=0) <= limit)
    if isinstance(wanted, np.ndarray):
        return (
            isinstance(got, np.ndarray)
            and got.dtype == wanted.dtype
            and got.shape == wanted.shape
            and got.tolist() == wanted.tolist()
            and (wanted.dtype.kind != "f" or bool((np.signbit(got) == np.signbit(wanted)).all()))
        )
    return type(got) is type(wanted) and bool(got == wanted)


def may_be_left_out(name: str, case: Case) -> bool:
    """Say whether an implementation may answer ``E_UNSUPPORTED`` (BUF-037)."""
    config = case.args.get("config")
    layout = config.get("buffer") if isinstance(config, dict) else case.args.get("layout")
    no_gradients = name == "naive" and case.operation == "sequence_gradient"
    return layout == "bigint" or no_gradients


@pytest.mark.rule(
    "QNT-001",
    "QNT-002",
    "QNT-003",
    "QNT-004",
    "QNT-006",
    "GEN-003",
    "PROD-001",
    "PROD-002",
    "FMT-004",
    "ACT-001",
    "ACT-002",
    "ACT-003",
    "ACT-004",
    "ACT-005",
    "ACT-006",
    "BUF-001",
    "BUF-002",
    "BUF-003",
    "BUF-004",
    "BUF-005",
    "BUF-010",
    "BUF-020",
    "BUF-021",
    "BUF-022",
    "BUF-023",
    "BUF-024",
    "BUF-030",
    "BUF-031",
    "BUF-032",
    "BUF-033",
    "BUF-034",
    "BUF-036",
    "BUF-037",
    "MUL-001",
    "MUL-002",
    "MUL-003",
    "MUL-004",
    "MUL-005",
    "MUL-006",
    "CELL-003",
    "CELL-004",
    "CELL-010",
    "CELL-011",
    "CELL-012",
    "CELL-020",
    "CELL-021",
    "CELL-022",
    "CELL-030",
    "CELL-031",
    "CELL-040",
    "SEQ-001",
    "SEQ-002",
    "SEQ-003",
    "SEQ-004",
    "SEQ-005",
    "SEQ-006",
    "SEQ-007",
    "SEQ-008",
    "SEQ-009",
    "SEQ-010",
    "ACC-001",
    "ACC-002",
    "ACC-003",
    "ACC-004",
    "ERR-001",
    "ERR-002",
    "EVAL-003",
    "EVAL-004",
    "EVAL-005",
    "EVAL-006",
    "EVAL-007",
    "EVAL-008",
    "EVAL-009",
    "GRAD-001",
    "GRAD-010",
    "GRAD-011",
    "GRAD-012",
    "GRAD-013",
    "GRAD-014",
    "GRAD-020",
    "GRAD-021",
)
@pytest.mark.parametrize("operation", NAMES)
@pytest.mark.parametrize("name", ["numpy", "naive", "torch", "jax"])
def test_every_case(name: str, operation: str) -> None:
    implementation = load(name)
    wrong: dict[str, list[str]] = {}
    tally: Counter[str] = Counter()
    for case in load_cases(operation):
        got = outcome(implementation, operation, case.args)
        if got == {"error": "E_UNSUPPORTED"} and may_be_left_out(name, case):
            tally["left out"] += 1
            continue
        tally["checked"] += 1
        if lines := faults(case, got):
            wrong[f"{case.id} {' '.join(case.rules)} ({' '.join(case.catches)})"] = lines
    assert not wrong, "\n".join(f"{key}: {lines}" for key, lines in wrong.items())
    assert tally.total() == manifest()["files"][f"{operation}.json"]["cases"]
    if name == "numpy":
        assert not tally["left out"]
    if tally["left out"] and not tally["checked"]:
        pytest.skip(f"{name} offers none of it")


def test_answers_are_compared_strictly() -> None:
    """Another type, shape, value, name or code is a fault; floats have the stated room."""
    case = next(c for c in load_cases("view") if c.out and c.out["a"].size)
    assert case.out is not None
    good = case.out["a"]
    assert faults(case, {"a": good}) == []
    for bad in (good.astype(np.int32), good[None], good + np.int16(1), good.tolist()):
        assert faults(case, {"a": bad})
    assert faults(case, {"b": good})
    assert faults(case, {"error": "E_SHAPE"})
    error = next(c for c in load_cases("view") if c.error)
    assert faults(error, {"a": good})
    assert faults(error, {"error": "E_OP"})
    case = load_cases("sequence_gradient")[0]
    assert case.out is not None
    for factor, accepted in ((1 + 5e-5, True), (1 + 3e-4, False), (np.nan, False)):
        got = case.out | {"grad_x": case.out["grad_x"] * factor}
        assert (faults(case, got) == []) == accepted
    case = load_cases("sequence_storage")[0]
    assert case.out is not None
    assert faults(case, case.out | {"ideal_bits": case.out["ideal_bits"] * (1 + 1e-12)}) == []
    assert faults(case, case.out | {"ideal_bits": case.out["ideal_bits"] + 1.0})
    assert faults(case, case.out | {"stored_bits": float(case.out["stored_bits"])})
