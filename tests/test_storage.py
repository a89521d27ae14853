"""The accounts of what a sequence costs to remember (ACC)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sequences import fixed

from agreement import assert_agree
from revrnn import Config
from revrnn.conformance.contents import Shape, sequence_arguments
from revrnn.evaluation import Implementation
from strategies import sequences


@pytest.mark.rule("ACC-001", "ACC-002", "ACC-003", "ACC-004")
@fixed
@given(data=st.data())
def test_storage(
    oracle: Implementation, other: Implementation, setup: tuple[Config, Shape], data: st.DataObject
) -> None:
    arguments = data.draw(sequences(*setup), label="arguments")
    assert_agree(oracle, other, "sequence_storage", arguments)


@pytest.mark.rule("ACC-002", "ACC-003", "ACC-004", "ACC-005")
def test_storage_of_a_known_case(implementation: Implementation) -> None:
    """Gates forced to 1/2 by the limit: one bit a unit and operation."""
    config = Config("revgru", 2, 4, 2, 1, slice_size=2)
    shape = Shape(5, 2)
    arguments = sequence_arguments(config, shape, np.random.default_rng(0), "zero", "zero")
    for name in ("bias_l0", "bias_l1"):
        for group in (0, 1):
            arguments[name][group * 6 : group * 6 + 2] = -(2**31)  # rows of z (CELL-003)
    arguments["mask"][3:, 1] = False
    got = implementation.evaluate("sequence_storage", arguments)
    steps = int(arguments["mask"].sum())
    operations = steps * 2 * 3  # two units; four operations a step, one of them sliced
    assert got["gate_counts"][512] == operations == got["gate_counts"].sum()
    assert got["ideal_bits"] == operations
    assert got["plain_bits"] == 32 * 2 * 4 * steps
    words = implementation.evaluate("sequence_forward", arguments)["words"].size
    assert got["stored_bits"] == 16 * words + 32 * 4 + 32 * 2 * (2 + steps)
