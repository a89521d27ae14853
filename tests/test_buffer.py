"""The buffer and reversible multiplication: agreement, the law, and the bounds that rules prove."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement import assert_agree
from revrnn import Config
from revrnn.conformance.contents import Arguments, contents
from revrnn.evaluation import Implementation, empty_store, fresh_heads
from strategies import SEEDS, revmul_arguments

ROWS, UNITS = 2, 3
BUFFER = ("h", "heads", "words", "flags")


def inverse_arguments(arguments: Arguments, forward: dict[str, Any]) -> Arguments:
    restore = arguments["h"][:, : arguments["slice_size"]].copy()
    return arguments | forward | {"restore": restore}


@pytest.mark.rule(
    "MUL-001", "MUL-004", "MUL-005", "BUF-001", "BUF-004", "BUF-021", "BUF-022", "BUF-031"
)
@given(data=st.data())
def test_revmul(oracle: Implementation, other: Implementation, data: st.DataObject) -> None:
    arguments = data.draw(revmul_arguments(other.layouts, ROWS, UNITS), label="arguments")
    assert_agree(oracle, other, "revmul", arguments)
    forward = oracle.evaluate("revmul", arguments)
    assert_agree(oracle, other, "revmul_inverse", inverse_arguments(arguments, forward))


@pytest.mark.rule("BUF-002", "BUF-003", "MUL-003", "BUF-023", "BUF-032")
@given(data=st.data())
def test_inverse_of_revmul_restores_state_and_buffer(
    implementation: Implementation, data: st.DataObject
) -> None:
    strategy = revmul_arguments(implementation.layouts, ROWS, UNITS)
    arguments = data.draw(strategy, label="arguments")
    forward = implementation.evaluate("revmul", arguments)
    back = implementation.evaluate("revmul_inverse", inverse_arguments(arguments, forward))
    for name in BUFFER:
        assert np.array_equal(back[name], arguments[name]), name


@pytest.mark.rule("BUF-003", "BUF-005", "MUL-002")
@given(seed=SEEDS, gates=st.sampled_from(("forget all", "uniform", "edges")))
def test_many_operations_agree_and_return(
    oracle: Implementation, other: Implementation, seed: int, gates: str
) -> None:
    """Enough operations that heads fill and words are pushed, several in one operation."""
    generator = np.random.default_rng(seed)
    for layout in other.layouts:
        state: Arguments = {
            "layout": layout,
            "slice_size": 0,
            "h": contents("state", generator, (ROWS, UNITS), "large"),
            "heads": fresh_heads(layout, ROWS, UNITS),
            **empty_store(layout, ROWS, UNITS),
        }
        start, past = dict(state), []
        for _ in range(12):
            request = state | {
                "z": contents("gate", generator, (ROWS, UNITS), gates),
                "mask": generator.random(ROWS) < 0.8,
            }
            past.append(request)
            assert_agree(oracle, other, "revmul", request)
            state = state | oracle.evaluate("revmul", request)
        for request in reversed(past):
            back = {name: request[name] for name in ("z", "mask")}
            restore = {"restore": np.zeros((ROWS, 0), np.int32)}
            state = state | other.evaluate("revmul_inverse", state | back | restore)
        for name in BUFFER:
            assert np.array_equal(state[name], start[name]), (layout, name)


@pytest.mark.rule("MUL-003", "BUF-024", "ERR-002")
@given(data=st.data())
def test_pops_of_what_was_never_pushed(
    oracle: Implementation, other: Implementation, data: st.DataObject
) -> None:
    """Garbage gives the same bits, or the same error, everywhere."""
    arguments = data.draw(revmul_arguments(other.layouts, ROWS, UNITS), label="arguments")
    generator = np.random.default_rng(data.draw(SEEDS, label="store"))
    size = data.draw(st.sampled_from((0, 2, 8)), label="words")
    if arguments["layout"] == "stream":
        arguments["words"] = generator.integers(0, 2**16, size).astype(np.uint16)
    elif arguments["layout"] == "wordlist":
        arguments["words"] = generator.integers(0, 2**62, (size, ROWS, UNITS))
        arguments["flags"] = generator.integers(0, 2, size).astype(np.uint8)
    restore = np.zeros((ROWS, arguments["slice_size"]), np.int32)
    assert_agree(oracle, other, "revmul_inverse", arguments | {"restore": restore})


@pytest.mark.rule("BUF-031", "BUF-033")
@pytest.mark.parametrize("z", [1, 2, 512, 1019, 1023])
def test_stream_threshold(implementation: Implementation, z: int) -> None:
    """One below the threshold nothing is pushed; at the threshold one word."""
    heads = np.array([[z * 2**21 - 1, z * 2**21]], np.int64)
    arguments: Arguments = {
        "layout": "stream",
        "slice_size": 0,
        "h": np.array([[1023, 1023]], np.int32),
        "z": np.full((1, 2), z, np.int32),
        "mask": np.array([True]),
        "heads": heads,
        **empty_store("stream", 1, 2),
    }
    got = implementation.evaluate("revmul", arguments)
    assert got["words"].tolist() == [int(heads[0, 1]) & 0xFFFF]
    assert got["heads"].tolist() == [
        [(int(heads[0, 0]) * 1024 + 1023) // z, ((z << 5) * 1024 + 1023) // z]
    ]


@pytest.mark.rule("BUF-032", "BUF-005")
def test_stream_takes_words_in_reverse_order(implementation: Implementation) -> None:
    """The last unit in row-major order takes the top of the stack."""
    arguments: Arguments = {
        "layout": "stream",
        "slice_size": 0,
        "h": np.zeros((2, 2), np.int32),
        "z": np.ones((2, 2), np.int32),
        "mask": np.array([True, True]),
        "heads": np.full((2, 2), 2**15, np.int64),
        "words": np.array([9, 1, 2, 3, 4], np.uint16),
        "flags": np.zeros(0, np.uint8),
        "restore": np.zeros((2, 0), np.int32),
    }
    got = implementation.evaluate("revmul_inverse", arguments)
    assert got["words"].tolist() == [9]
    assert (got["heads"] & 0xFFFF).tolist() == [[1, 2], [3, 4]]


@pytest.mark.rule("BUF-021", "BUF-022", "BUF-020")
def test_wordlist_spills_when_any_active_unit_is_full(implementation: Implementation) -> None:
    arguments: Arguments = {
        "layout": "wordlist",
        "slice_size": 1,
        "h": np.array([[5, 6, 7], [8, 9, 10]], np.int32),
        "z": np.full((2, 3), 1024, np.int32),
        "mask": np.array([True, False]),
        "heads": np.array([[2**60, 2**53, 3], [2**61, 4, 5]], np.int64),
        **empty_store("wordlist", 2, 3),
    }
    got = implementation.evaluate("revmul", arguments)
    assert got["flags"].tolist() == [1]
    assert got["words"].tolist() == [[[0, 2**53, 3], [0, 0, 0]]]
    assert got["heads"].tolist() == [[2**60, 0, 0], [2**61, 4, 5]]
    arguments["heads"][0, 1] = 2**53 - 1
    got = implementation.evaluate("revmul", arguments)
    assert got["flags"].tolist() == [0]
    assert got["words"].shape == (0, 2, 3)


@pytest.mark.rule("BUF-034")
@given(x=st.integers(2**15, 2**31 - 1), low=st.integers(0, 1023), z=st.integers(1, 1024))
def test_two_32_bit_divisions_make_the_41_bit_one(x: int, low: int, z: int) -> None:
    while x >= z * 2**21:
        x >>= 16
    n, q, r = x * 1024 + low, x // z, x % z
    assert n // z == q * 1024 + (r * 1024 + low) // z < 2**31
    assert n % z == (r * 1024 + low) % z
    assert q * 1024 < 2**31


@pytest.mark.rule("BUF-033", "BUF-030")
@given(x=st.integers(2**15, 2**31 - 1), low=st.integers(0, 1023), z=st.integers(1, 1024))
def test_stream_head_stays_in_range(x: int, low: int, z: int) -> None:
    pushed = x >= z << 21
    head = x >> 16 if pushed else x
    assert head < z << 21
    after = (head * 1024 + low) // z
    assert 2**15 <= after < 2**31
    assert (head < 2**15) == pushed


@pytest.mark.rule("BUF-035")
@pytest.mark.parametrize("limit", [*range(1, 11), None])
def test_capacity_bound_holds_and_is_tight(limit: int | None) -> None:
    """Forget as much as allowed, from the largest head, with the worst digits."""
    config = Config("revgru", 1, 2, max_forget_bits=limit)
    z, x, pushed = 1024 >> config.forget_limit, 2**31 - 1, 0
    for operations in range(1, 20001):
        if x >= z << 21:
            x >>= 16
            pushed += 1
        x = (x * 1024 + 1023) // max(z, 1)
        if operations % 2 == 0:
            assert pushed <= config.words_bound(operations // 2)
    assert pushed >= 0.99 * config.words_bound(10000)


@pytest.mark.rule("BUF-035", "BUF-021")
@pytest.mark.parametrize("limit", [*range(1, 11), None])
def test_planes_bound_holds(limit: int | None) -> None:
    config = Config("revgru", 1, 2, max_forget_bits=limit, buffer="wordlist")
    z, x, spills = 1024 >> config.forget_limit, 2**63 - 1, 0
    for operations in range(1, 5001):
        if x >= 2**53:
            x, spills = 0, spills + 1
        x = (x * 1024 + 1023) // max(z, 1)
        if operations % 2 == 0:
            assert spills <= config.planes_bound(operations // 2)


@pytest.mark.rule("BUF-010")
def test_bigint_has_no_words(oracle: Implementation) -> None:
    naive_arguments: Arguments = {
        "layout": "bigint",
        "slice_size": 0,
        "h": np.full((1, 1), 1023, np.int32),
        "z": np.ones((1, 1), np.int32),
        "mask": np.array([True]),
        "heads": fresh_heads("bigint", 1, 1),
        **empty_store("bigint", 1, 1),
    }
    state: Arguments = naive_arguments
    for _ in range(20):
        state = state | oracle.evaluate("revmul", state | {"h": naive_arguments["h"]})
    assert int(state["heads"][0, 0]) == 2**200 - 1
    assert state["words"].size == 0
