"""Ports that compare names loosely, or know another longest product, fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from test_conformance import Wrong, run

from revrnn import RevRNNError
from revrnn.conformance.random_cases import _scattered
from revrnn.conformance.report import as_json


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
    terms = _scattered()  # of threads, of lanes by one, of lanes by four
    for parts in (terms.reshape(8, -1).T, terms.reshape(-1, 8), terms.reshape(-1, 8, 4)):
        assert parts.sum((0, *range(2, parts.ndim))).max() * 128**2 >= 2**31
    # The request is not pasted: it would be megabytes.
    assert len(as_json(report)) < 2**20
