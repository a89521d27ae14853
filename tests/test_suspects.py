"""Which mistakes a report of the suite names first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from test_conformance import Wrong, run

from revrnn.evaluation import load


def test_a_mistake_that_right_answers_contradict_is_not_the_first() -> None:
    """Cases of sigmoid catch a mistake of tanh's too, but tanh is right."""

    def up(results: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        half = load("numpy").evaluate("tanh", {**arguments, "bits": arguments["bits"] + 1})["y"]
        return {"y": (half + 2**15 + 1 >> 1).astype(np.int32)}

    report = run(Wrong("sigmoid", up), profiles=("gates",))
    suspects = report.suspects()
    assert suspects[0][0] == "sigmoid_floor"
    assert dict(suspects)["interpolation_rounding"] >= suspects[0][1]
