"""Sums of the native engine: which are computed in int32, and those of several steps at once."""

from __future__ import annotations

import numpy as np
import pytest

from agreement import assert_agree, assert_sequences_agree, both_gradients, equal_bits
from revrnn import Config
from revrnn.conformance.contents import (
    Shape,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.evaluation import Implementation, load
from revrnn.formats import Formats

NATIVE = load("torch-native")


@pytest.mark.rule("PROD-001", "PROD-004", "ACT-002")
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("cell", "large"),
    [
        *(("revgru", name) for name in ("input", "view 0", "view 1", "candidate 0", "candidate 1")),
        *(("revlstm", name) for name in ("input", "shifted input", "view 0", "view 1")),
        *((cell, "bias") for cell in ("revgru", "revlstm")),
    ],
)
def test_one_large_operand(oracle: Implementation, cell: str, large: str, layer: int) -> None:
    """Sums with it leave int32; of all other weights, which are small, none does."""
    config, generator = Config(cell, 20, 52, 2, max_forget_bits=3), np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(2, 2), generator, "usual", "usual", "extreme")
    for name, value in arguments.items():
        if name.startswith(("weight", "bias")):
            value[...] = generator.integers(-1, 2, value.shape)
    # The largest magnitude is a negative number's, not of the first step, and not of the last row.
    arguments["x"][...] = generator.choice([-32512, 3], arguments["x"].shape)
    arguments["x"][0] = 1
    arguments["h"][:, 1] >>= 16
    most = {"bias": 2**31 - 1, "shifted input": 2000}.get(large, 32512)
    what, _, group = large.removeprefix("shifted ").partition(" ")
    name = {"input": "weight_ih", "bias": "bias"}.get(what, "weight_hh")
    operand = arguments[f"{name}_l{layer}"]
    if group:
        rows, of_view = len(operand) // 2, 52 if cell == "revgru" else len(operand) // 2
        operand = operand[rows * int(group) :][:rows]
        operand = operand[of_view:] if what == "candidate" else operand[:of_view]
    operand[...] = generator.choice([-most, most], operand.shape)
    assert_sequences_agree(oracle, NATIVE, arguments)


@pytest.mark.rule("PROD-004", "ACT-002")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_a_bound_that_int32_just_holds(oracle: Implementation, cell: str) -> None:
    """Biases of 2^31 − 1 with inputs of nothing, and views that lead beyond."""
    config = Config(cell, 1, 6, max_forget_bits=3)
    arguments = sequence_arguments(config, Shape(2, 3), np.random.default_rng(0), states="extreme")
    arguments["weight_ih_l0"][...] = 0
    arguments["bias_l0"][::2] = 2**31 - 1
    assert_sequences_agree(oracle, NATIVE, arguments)
    arguments["weight_hh_l0"][...] = 0
    assert_sequences_agree(oracle, NATIVE, arguments)


@pytest.mark.rule("ACT-002", "ACT-003")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_no_sum_is_clipped_where_activations_change(oracle: Implementation, cell: str) -> None:
    """One column of weights has all sums computed in int64; sigmoids change up to 2^30."""
    formats = Formats(operand_bits=13, weight_bits=13)
    config, generator = Config(cell, 3, 40, formats=formats), np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(2, 2), generator)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        arguments[name][...] = 0
        arguments[name][::20] = 32512
    arguments["x"][...] = 32512
    bias = arguments["bias_l0"]
    bias[...] = generator.integers(2**28, 2**30, bias.shape) * generator.choice([-1, 1], bias.shape)
    assert_sequences_agree(oracle, NATIVE, arguments)


@pytest.mark.rule("PROD-001", "GRAD-020")
@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_steps_that_are_left_over(oracle: Implementation, cell: str, wide: bool) -> None:
    """Input sums of 5 steps of 15 rows are computed together, and the sixth's by themselves."""
    config, generator = Config(cell, 3, 32, max_forget_bits=3), np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(6, 15), generator)
    if wide:
        arguments["weight_ih_l0"][...] = generator.choice(
            [-32512, 32512], (len(arguments["bias_l0"]), 3)
        )
        arguments["x"][...] = generator.choice([-32512, 32512], (6, 15, 3))
    forward = NATIVE.evaluate("sequence_forward", arguments)
    request = gradient_arguments(arguments, generator)
    assert_agree(oracle, NATIVE, "sequence_forward", arguments, forward)
    # Memory that is used again has other sums.
    NATIVE.evaluate("sequence_forward", arguments | {"x": -arguments["x"]})
    assert_agree(oracle, NATIVE, "sequence_reverse", reversal_arguments(arguments, forward))
    assert equal_bits(*both_gradients(NATIVE, request))


@pytest.mark.rule("PROD-001")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_more_rows_than_go_together(oracle: Implementation, cell: str) -> None:
    """Input sums of each step are computed by themselves."""
    config = Config(cell, 3, 4, max_forget_bits=3)
    arguments = sequence_arguments(config, Shape(2, 81), np.random.default_rng(0))
    assert_sequences_agree(oracle, NATIVE, arguments)
