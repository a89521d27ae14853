"""Ports that compare names loosely, know another longest product, or few rows and units, fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from test_conformance import Wrong, run

from revrnn import RevRNNError
from revrnn.conformance.random_cases import RandomCases
from revrnn.conformance.report import as_json
from revrnn.conformance.sizes import pool_for, scattered
from revrnn.evaluation import Implementation
from revrnn.operations import OPERATIONS


class Careless(Wrong):
    """The oracle, that takes names, or texts, which are nearly right."""

    def __init__(self, change: Any) -> None:
        super().__init__("", None)
        self.change = change

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        given = {
            name: self.change(value) if isinstance(value, str) else value
            for name, value in arguments.items()
        }
        return super().evaluate(self.change(operation), given)


NEARLY = {
    "any case": str.lower,
    "spaces": str.strip,
    "hyphens": lambda name: name.replace("-", "_"),
    "C's ends of texts": lambda name: name.partition("\0")[0],
    "what looks alike": lambda name: name.replace("\u0430", "a"),
}


@pytest.mark.rule("EVAL-001")
@pytest.mark.parametrize("what", NEARLY)
def test_a_port_that_takes_names_nearly_right_fails(what: str) -> None:
    report = run(Careless(NEARLY[what]), examples=0, profiles=("gates",))
    assert report.vectors["no_such_operation"].failed, what


@pytest.mark.rule("EVAL-001")
def test_fresh_requests_ask_for_names_that_are_nearly_right() -> None:
    report = run(Careless(str.lower), examples=60, profiles=("gates",))
    assert any(tally.failed for tally in report.random.values())


@pytest.mark.rule("PROD-002")
@pytest.mark.parametrize("limit", [2**20 - 1, 2**20 + 1, 2**40])
def test_a_port_with_another_longest_product_fails(limit: int) -> None:
    class Another(Wrong):
        def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            a, w = (arguments.get(name) for name in "aw")
            if not (
                isinstance(a, np.ndarray) and isinstance(w, np.ndarray) and a.ndim == w.ndim == 2
            ):
                return super().evaluate(operation, arguments)
            if a.shape[1] > limit:
                raise RevRNNError("E_SHAPE", "a", str(a.shape), "fewer terms")
            if a.shape[1] > 2**20:
                return {"s": a.astype(np.int64) @ w.astype(np.int64).T}
            return super().evaluate(operation, arguments)

    report = run(Another("", None), examples=20, profiles=("gates",))
    assert report.random["product"].failed == 1
    terms = scattered()  # of threads, of lanes by one, of lanes by four
    for parts in (terms.reshape(8, -1).T, terms.reshape(-1, 8), terms.reshape(-1, 8, 4)):
        assert parts.sum((0, *range(2, parts.ndim))).max() * 128**2 >= 2**31
    # The request is not pasted: it would be megabytes.
    assert len(as_json(report)) < 2**20


def test_some_requests_are_large_or_have_equal_lengths(oracle: Implementation) -> None:
    """Ports that work on few lanes or rows at a time, or take one axis for another, fail here."""
    cases = RandomCases(oracle, 2, pool=pool_for(20))
    drawn = {name: [cases.draw(name, n) for n in range(20)] for name in OPERATIONS}
    for name, rows, units in (
        ("revmul", 3, 67),
        ("revmul_inverse", 3, 67),
        ("cell_forward", 2, 66),
    ):
        shapes = [args["h"].shape for args in drawn[name]]
        assert sum(shape[-2] >= rows and shape[-1] >= units for shape in shapes) == 2, shapes
    steps = drawn["cell_forward"] + drawn["cell_reverse"]
    assert max(args["x"].shape[1] for args in steps) > 256
    for name in ("sequence_forward", "sequence_reverse", "sequence_storage"):
        masks = [args["mask"].shape for args in drawn[name]]
        assert sum(rows > 32 for _, rows in masks) == 2
        assert any(steps == rows > 1 for steps, rows in masks)
        gains = [args["gains"].shape for args in drawn[name] if "gains" in args]
        assert any(steps == between > 1 for steps, between, *_ in gains)
    stream, list_ = (drawn["revmul"][n] for n in (12, 13))
    assert len(oracle.evaluate("revmul", stream)["words"]) > 64
    assert (list_["heads"] >= 2**53).sum() == 1
