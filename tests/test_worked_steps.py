"""The text's worked steps are what the oracle computes."""

from __future__ import annotations

import numpy as np
import pytest
from worked_steps import PAGE, Step, page, steps

from revrnn.evaluation import Implementation, load


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.rule(
    "CELL-004", "CELL-010", "CELL-011", "CELL-012", "CELL-020", "CELL-021", "CELL-022"
)
@pytest.mark.parametrize("step", steps(), ids=lambda step: step.config.cell)
@pytest.mark.parametrize("name", ["numpy", "naive"])
def test_the_numbers_are_right(step: Step, name: str) -> None:
    """State, heads and words after the step; each number on the way decides one of them."""
    implementation: Implementation = load(name)
    got = implementation.evaluate("cell_forward", step.request)
    wanted = {"h": np.array([[step.h]], np.int32), "heads": np.array([[step.head]])}
    wanted |= {"words": np.array(step.words, np.uint16), "flags": np.zeros(0, np.uint8)}
    if step.config.has_cell_state:
        wanted["c"] = np.array([[step.c]], np.int32)
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(got[key], value)
    assert step.words
    assert "–" in step.rows["word of h"]
