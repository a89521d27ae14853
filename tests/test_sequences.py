"""Whole random sequences: agreement step by step, the law, masks, segments, batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement import assert_agree, assert_law, assert_sequences_agree, equal_bits
from revrnn import Config
from revrnn.conformance.contents import (
    Arguments,
    Shape,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.digest import first_difference, step_digests
from revrnn.evaluation import Implementation, load, outcome
from strategies import FIXED, SEEDS, configs, name_of, sequences, shapes

CELL_RULES = (
    "CELL-002",
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
    "PROD-004",
    "GEN-001",
    "GEN-005",
    "GEN-006",
)
SEQUENCE_RULES = (
    "SEQ-001",
    "SEQ-002",
    "SEQ-003",
    "SEQ-004",
    "SEQ-005",
    "SEQ-006",
    "SEQ-007",
    "SEQ-011",
)

fixed = pytest.mark.parametrize("setup", FIXED, ids=name_of)


@pytest.mark.rule(*CELL_RULES, *SEQUENCE_RULES, "EVAL-008", "EVAL-009", "EVAL-010")
@fixed
@given(data=st.data())
def test_fixed_configurations(
    oracle: Implementation, other: Implementation, setup: tuple[Config, Shape], data: st.DataObject
) -> None:
    """Forward with a digest after every step, forward without trace, and reverse with trace."""
    arguments = data.draw(sequences(*setup), label="arguments")
    check_sequence(oracle, other, arguments)


@pytest.mark.rule(*CELL_RULES, *SEQUENCE_RULES, "FMT-001", "EVAL-003", "EVAL-006", "ACC-003")
@pytest.mark.parametrize("name", ["naive", "torch"])
@given(data=st.data())
def test_random_configurations(oracle: Implementation, name: str, data: st.DataObject) -> None:
    other = load(name)
    config = data.draw(configs(other.layouts), label="config")
    arguments = data.draw(sequences(config, data.draw(shapes(), label="shape")), label="arguments")
    check_sequence(oracle, other, arguments)
    assert_agree(oracle, other, "sequence_storage", arguments)


def check_sequence(oracle: Implementation, other: Implementation, arguments: Arguments) -> None:
    assert_sequences_agree(oracle, other, arguments)
    assert_agree(oracle, other, "sequence_forward", arguments)


@pytest.mark.rule("CELL-001", "CELL-040", "EVAL-007")
@given(data=st.data())
def test_one_cell(oracle: Implementation, other: Implementation, data: st.DataObject) -> None:
    """One step of one layer, on a store that already holds something."""
    cell = data.draw(st.sampled_from(("revgru", "revlstm")), label="cell")
    config = Config(cell, 2, 4, max_forget_bits=3)
    first = data.draw(sequences(config, Shape(3, 2)), label="first")
    first["mask"][:] = True
    store = oracle.evaluate("sequence_forward", first)
    names = ("h", "c", "heads", "words", "flags")
    parameters = {name: first[name] for name in ("config", *config.parameter_shapes())}
    state = {name: store[name] for name in names if name in store}
    arguments = parameters | state | {"x": first["x"][0]}
    assert_agree(oracle, other, "cell_forward", arguments)
    after = other.evaluate("cell_forward", arguments)
    assert_agree(oracle, other, "cell_reverse", arguments | after)
    assert equal_bits(other.evaluate("cell_reverse", arguments | after), state)


@pytest.mark.rule("SEQ-008", "SEQ-009", "SEQ-010")
@fixed
@given(seed=SEEDS)
def test_segments_equal_one_long_sequence(
    implementation: Implementation, setup: tuple[Config, Shape], seed: int
) -> None:
    config, shape = setup
    arguments = sequence_arguments(config, shape, np.random.default_rng(seed), states="usual")
    whole = implementation.evaluate("sequence_forward", arguments)
    cut = shape.steps // 2
    state, words = dict(arguments), []
    for steps in (slice(0, cut), slice(cut, None)):
        by_step = [name for name in ("x", "mask", "gains") if name in arguments]
        segment = state | {name: arguments[name][steps] for name in by_step}
        part = implementation.evaluate("sequence_forward", segment)
        assert_law(implementation, segment, part)
        state = state | {name: part[name] for name in ("h", "c", "heads") if name in part}
        words.append(part.get("words", np.zeros(0)))
    for name in ("h", "c", "heads"):
        if name in whole:
            assert np.array_equal(whole[name], state[name]), name
    assert np.array_equal(whole.get("words", np.zeros(0)), np.concatenate(words))


@pytest.mark.rule("SEQ-012")
@pytest.mark.parametrize("name", ["numpy", "naive", "torch", "jax"])
def test_gains(name: str) -> None:
    """One is one, zero cuts a layer off, and what is out of range is refused."""
    config, shape = Config("revgru", 2, 4, 2, 1, slice_size=2), Shape(5, 2, gains=True)
    arguments = sequence_arguments(config, shape, np.random.default_rng(5), "large", "large")
    implementation, gains = load(name), arguments.pop("gains")
    plain = implementation.evaluate("sequence_forward", arguments)
    for value, cut in ((4096, False), (0, True)):
        given = arguments | {"gains": np.full_like(gains, value)}
        result = implementation.evaluate("sequence_forward", given)
        top = dict(arguments)
        if cut:
            top["weight_ih_l1"] = np.zeros_like(arguments["weight_ih_l1"])
        wanted = implementation.evaluate("sequence_forward", top) if cut else plain
        assert equal_bits(result, wanted), value
    for value in (-1, 65537):
        bad = outcome(implementation, "sequence_forward", arguments | {"gains": gains * 0 + value})
        assert bad == {"error": "E_RANGE"}


@pytest.mark.rule("BUF-036", "SEQ-002")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
@given(seed=SEEDS, row=st.integers(0, 2))
def test_a_row_does_not_see_the_other_rows(
    implementation: Implementation, cell: str, seed: int, row: int
) -> None:
    config = Config(cell, 3, 6, max_forget_bits=3)
    generator = np.random.default_rng(seed)
    arguments = sequence_arguments(config, Shape(6, 3), generator, "large", masks="random")
    whole = implementation.evaluate("sequence_forward", arguments | {"trace": True})
    alone = arguments | {name: arguments[name][:, row : row + 1] for name in ("x", "mask", "h")}
    alone["heads"] = arguments["heads"][row : row + 1]
    if "c" in alone:
        alone["c"] = arguments["c"][:, row : row + 1]
    single = implementation.evaluate("sequence_forward", alone | {"trace": True})
    assert np.array_equal(single["h_steps"][:, :, 0], whole["h_steps"][:, :, row])
    assert np.array_equal(single["heads_steps"][:, 0], whole["heads_steps"][:, row])


@pytest.mark.rule("SEQ-002", "GRAD-015")
@given(seed=SEEDS)
def test_what_is_masked_out_changes_nothing(implementation: Implementation, seed: int) -> None:
    """Inputs under the mask are garbage; states, buffer and storage do not notice."""
    config = Config("revlstm", 2, 4, 2, 2, slice_size=1)
    generator = np.random.default_rng(seed)
    arguments = sequence_arguments(config, Shape(5, 2), generator, masks="random")
    garbage = np.where(arguments["mask"][:, :, None], arguments["x"], np.int16(32512))
    for operation in ("sequence_forward", "sequence_storage"):
        first = implementation.evaluate(operation, arguments)
        second = implementation.evaluate(operation, arguments | {"x": garbage})
        assert equal_bits(first, second)


@pytest.mark.rule("BUF-021", "MUL-005", "SEQ-002")
@pytest.mark.parametrize(
    ("slices", "active"),
    [
        (1, [[1, 1], [0, 0], [0, 1]]),  # a sliced unit spills after the others
        (0, [[1, 0], [0, 1], [1, 1]]),  # one row after the other
    ],
)
def test_full_heads_of_wordlist_spill_at_different_times(
    oracle: Implementation, other: Implementation, slices: int, active: list[list[int]]
) -> None:
    config = Config("revgru", 3, 6, max_forget_bits=1, buffer="wordlist", slice_size=slices)
    random = np.random.default_rng(0)
    arguments = sequence_arguments(config, Shape(3, 2), random)
    arguments |= {"heads": np.full((2, 3), 2**63 - 2), "mask": np.array(active, np.bool_)}
    assert_agree(oracle, other, "sequence_forward", arguments | {"trace": True})
    forwards = oracle.evaluate("sequence_forward", arguments)
    assert len(forwards["words"]) > config.planes_bound(1)
    assert_agree(oracle, other, "sequence_reverse", reversal_arguments(arguments, forwards))
    if other.name != "naive":
        loss = gradient_arguments(arguments, random) | {"states": "reversed"}
        assert_agree(oracle, other, "sequence_gradient", loss)


@pytest.mark.rule("FMT-006", "MUL-006", "FMT-005")
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
@pytest.mark.parametrize("state_bits", [16, 20, 23, 24])
@pytest.mark.parametrize("start", [-(2**31), 0, 2**31 - 1])
def test_states_never_wrap_below_the_cap(cell: str, state_bits: int, start: int) -> None:
    """The proof of FMT-006 at its worst: the largest gate and update in every step, both signs."""
    z = 1024 if cell == "revgru" else 1023 - (2**state_bits >> 21)
    for z_used in {z, min(z, 1023), 1000, 512, 1}:
        for sign in (-1, 1):
            h = start
            for _ in range(3000):
                change = sign * 2**state_bits
                if cell == "revgru":
                    change = sign * (1024 - z_used) * 2 ** (state_bits - 10)
                # The digit that comes out is the worst one, but at z = 1024 it is the one put in.
                digit = h % 1024 if z_used == 1024 else (z_used - 1 if sign > 0 else 0)
                h = (h >> 10) * z_used + digit + change
                assert -(2**31) <= h < 2**31


@pytest.mark.rule("MUL-006", "FMT-006", "SEQ-009")
@pytest.mark.parametrize("z_max", [None, 1024])
def test_wraps_are_counted_and_undone(implementation: Implementation, z_max: int | None) -> None:
    """A cell that keeps adding overflows ±256 only where the cap is lifted, and comes back."""
    config = Config("revlstm", 2, 4, z_max=z_max, p_max=z_max)
    shape = Shape(8, 2)
    arguments = sequence_arguments(config, shape, np.random.default_rng(0), "zero", "zero")
    arguments["bias_l0"][:] = 2**31 - 1  # every gate at its upper end
    arguments["c"][:] = 2**31 - 2**23
    arguments["h"][:] = 2**31 - 2**23
    forward = implementation.evaluate("sequence_forward", arguments)
    assert (forward["wraps"] > 0) == (z_max == 1024)
    assert_law(implementation, arguments, forward)


@pytest.mark.rule("FMT-007")
@pytest.mark.parametrize(("p_max", "bound"), [(None, 4.01), (1024, 20.0)])
def test_hidden_states_of_revlstm_are_bounded(
    implementation: Implementation, p_max: int | None, bound: float
) -> None:
    """A unit that adds all it can at every step stays where its views do not saturate."""
    config = Config("revlstm", 2, 2, p_max=p_max)
    arguments = sequence_arguments(config, Shape(60, 1), np.random.default_rng(0), "zero", "zero")
    arguments["bias_l0"][:] = 2**31 - 1
    h = implementation.evaluate("sequence_forward", arguments)["h"] / 2**23
    assert (h.max() < bound) == (p_max is None)
    assert h.max() > bound - 0.5


@pytest.mark.rule("SEQ-009")
@pytest.mark.parametrize("array", ["h", "heads", "words"])
def test_a_damaged_bit_is_not_lost(implementation: Implementation, array: str) -> None:
    """Reversal from damaged memory must not arrive at the start (so the proof can see it)."""
    config, shape = FIXED[1]
    generator = np.random.default_rng(5)
    arguments = sequence_arguments(config, shape, generator, "large", masks="all")
    forward = implementation.evaluate("sequence_forward", arguments)
    assert forward["words"].size > 0
    damaged = forward[array].copy()
    damaged.flat[0] ^= 1
    back = reversal_arguments(arguments, forward | {array: damaged})
    if "error" not in outcome(implementation, "sequence_reverse", back):
        with pytest.raises(AssertionError, match="did not return"):
            assert_law(implementation, arguments, forward | {array: damaged})


@pytest.mark.rule("EVAL-010")
def test_first_difference_names_step_and_element(oracle: Implementation) -> None:
    config, shape = FIXED[1]
    arguments = sequence_arguments(config, shape, np.random.default_rng(1)) | {"trace": True}
    expected = oracle.evaluate("sequence_forward", arguments)
    got: dict[str, Any] = {name: np.copy(value) for name, value in expected.items()}
    assert first_difference(config, expected, got) is None
    got["h_steps"][3, 0, 1, 2] += 1
    told = first_difference(config, expected, got)
    assert told is not None
    assert told.startswith("step 3: h[0, 1, 2]")
    assert len(set(step_digests(config, expected))) == shape.steps
