"""Elementary operations: every implementation against the oracle, the oracle against the truth."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agreement import assert_agree
from revrnn.conformance.contents import contents
from revrnn.evaluation import Implementation
from revrnn.kinds import KINDS
from revrnn.tanh_table import tanh_table
from strategies import SEEDS, forget_range_sums, formats

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Multiples of half a unit in the last place of every kind: ties, and values next to them.
TIES = st.builds(
    lambda k, bits, nudge: np.nextafter(np.float32(k * 2.0**-bits), np.float32(nudge)),
    st.integers(-70000, 70000),
    st.sampled_from((9, 12, 13, 14, 24, 25)),
    st.sampled_from((-np.inf, 0.0, np.inf)),
)


@pytest.mark.rule("QNT-001", "QNT-002", "QNT-003", "QNT-005", "FMT-002", "GEN-007")
@given(
    x=st.lists(st.one_of(FLOATS, TIES), max_size=16),
    kind=st.sampled_from(KINDS["quantity"].values),
    f=formats(),
)
def test_quantise(
    oracle: Implementation, other: Implementation, x: list[float], kind: str, f: Any
) -> None:
    arguments = {"kind": kind, "x": np.array(x, np.float32), "formats": f.as_dict()}
    assert_agree(oracle, other, "quantise", arguments)


@pytest.mark.rule("QNT-001")
@pytest.mark.parametrize("value", [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
def test_quantise_rounds_ties_to_even(implementation: Implementation, value: float) -> None:
    x = np.array([value * 2.0**-12], np.float32)
    q = implementation.evaluate("quantise", {"kind": "operand", "x": x})["q"]
    assert q[0] == round(Fraction(value))  # Python rounds half to even, exactly


@pytest.mark.rule("QNT-006", "GEN-004")
@given(q=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=16), bits=st.integers(0, 31))
def test_dequantise(oracle: Implementation, other: Implementation, q: list[int], bits: int) -> None:
    arguments = {"q": np.array(q, np.int32), "bits": bits}
    assert_agree(oracle, other, "dequantise", arguments)


@pytest.mark.rule("GEN-002", "GEN-003")
@given(v=st.lists(st.integers(-(2**62) + 1, 2**62 - 1), max_size=16), k=st.integers(0, 31))
def test_round_shift(oracle: Implementation, other: Implementation, v: list[int], k: int) -> None:
    assert_agree(oracle, other, "round_shift", {"v": np.array(v, np.int64), "k": k})


@pytest.mark.rule("GEN-003")
@given(v=st.integers(-(2**40), 2**40), k=st.integers(0, 31))
def test_round_shift_is_nearest_ties_upwards(oracle: Implementation, v: int, k: int) -> None:
    got = oracle.evaluate("round_shift", {"v": np.array([v]), "k": k})["v"][0]
    assert got == math.floor(Fraction(v, 2**k) + Fraction(1, 2)) if k else got == v


@pytest.mark.rule("PROD-001", "PROD-003", "FMT-003")
@given(
    seed=SEEDS,
    shape=st.sampled_from(((1, 1, 1), (2, 3, 5), (17, 8, 16), (3, 300, 40))),
    styles=st.tuples(*[st.sampled_from(("small", "large", "saturated"))] * 2),
)
def test_product(
    oracle: Implementation, other: Implementation, seed: int, shape: Any, styles: Any
) -> None:
    generator = np.random.default_rng(seed)
    m, k, n = shape
    arguments = {
        "a": contents("operand", generator, (m, k), styles[0]),
        "w": contents("operand", generator, (n, k), styles[1]),
    }
    assert_agree(oracle, other, "product", arguments)


@pytest.mark.rule("PROD-001", "PROD-002", "PROD-003")
@pytest.mark.parametrize("length", [2**16, 2**17 - 1, 2**17, 2**17 + 3])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, -1)])
def test_product_longer_than_one_int8_block(
    implementation: Implementation, length: int, signs: tuple[int, int]
) -> None:
    """All operands saturated: the sum of the bytes' products is as large as it can be."""
    a = np.full((1, length), signs[0] * 32512, np.int16)
    w = np.full((2, length), signs[1] * 32512, np.int16)
    w[1] = signs[1] * 32384  # low byte -128
    got = implementation.evaluate("product", {"a": a, "w": w})["s"]
    sign = signs[0] * signs[1]
    assert got.tolist() == [[sign * length * 32512**2, sign * length * 32512 * 32384]]


@pytest.mark.rule("FMT-003")
def test_every_operand_splits_into_two_signed_bytes() -> None:
    a = np.arange(-32512, 32513)
    high = (a + 128) >> 8
    low = a - 256 * high
    for part in (high, low):
        assert part.min() >= -128
        assert part.max() <= 127


@pytest.mark.rule("ACT-001")
def test_table_is_tanh_correctly_rounded() -> None:
    """Against mpmath, which shares nothing with the program that made the table."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        wanted = [int(mpmath.nint(2**15 * mpmath.tanh(mpmath.mpf(i) / 128))) for i in range(1025)]
    assert tanh_table().tolist() == wanted
    assert wanted[0] == 0
    assert wanted[1024] == 2**15


@pytest.mark.rule("ACT-002", "ACT-003")
@given(data=st.data(), name=st.sampled_from(("tanh", "sigmoid")))
def test_tanh_and_sigmoid(
    oracle: Implementation, other: Implementation, data: st.DataObject, name: str
) -> None:
    bits = data.draw(st.sampled_from((8, 16, 23, 24, 26)), label="bits")
    s = data.draw(st.lists(forget_range_sums(bits), max_size=16), label="s")
    assert_agree(oracle, other, name, {"s": np.array(s, np.int64), "bits": bits})


@pytest.mark.rule("ACT-002", "ACT-003")
def test_tanh_and_sigmoid_are_near_the_functions(oracle: Implementation) -> None:
    s = np.arange(-(10 << 24), 10 << 24, 7919).astype(np.int64)
    real = s / 2.0**24
    t = oracle.evaluate("tanh", {"s": s, "bits": 24})["y"] / 2.0**15
    y = oracle.evaluate("sigmoid", {"s": s, "bits": 24})["y"] / 2.0**15
    assert np.abs(t - np.tanh(real)).max() < 4e-5
    assert np.abs(y - 1 / (1 + np.exp(-real))).max() < 4e-5


@pytest.mark.rule("ACT-002")
@given(s=forget_range_sums(24))
def test_tanh_is_odd(implementation: Implementation, s: int) -> None:
    s = max(s, -(2**63) + 1)
    y = implementation.evaluate("tanh", {"s": np.array([s, -s], np.int64), "bits": 24})["y"]
    assert y[0] == -y[1]


@pytest.mark.rule("ACT-004", "ACT-005", "ACT-006", "FMT-005")
@given(
    data=st.data(),
    limit=st.sampled_from((None, 1, 2, 3, 5, 10)),
    z_max=st.sampled_from((512, 1019, 1024)),
)
def test_forget_gate(
    oracle: Implementation, other: Implementation, data: st.DataObject, limit: Any, z_max: int
) -> None:
    s = data.draw(st.lists(forget_range_sums(24), max_size=16), label="s")
    arguments = {"s": np.array(s, np.int64), "bits": 24, "max_forget_bits": limit, "z_max": z_max}
    assert_agree(oracle, other, "forget_gate", arguments)


@pytest.mark.rule("ACT-004")
@pytest.mark.parametrize("limit", range(1, 11))
def test_limit_bounds_what_is_forgotten(implementation: Implementation, limit: int) -> None:
    s = np.array([-(2**62), 0, 2**62], np.int64)
    arguments = {"s": s, "bits": 24, "max_forget_bits": limit, "z_max": 1024}
    z = implementation.evaluate("forget_gate", arguments)["z"]
    assert z.tolist()[0] == 2 ** (10 - limit)
    assert z.tolist()[2] == 1024


@pytest.mark.rule("FMT-004")
@given(
    h=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=16),
    state_bits=st.sampled_from((16, 23, 24)),
    view_bits=st.sampled_from((6, 10, 12, 13)),
)
def test_view(
    oracle: Implementation, other: Implementation, h: list[int], state_bits: int, view_bits: int
) -> None:
    ends = [-(2**31), -(2**31) + 1, 2**31 - 1, 2**31 - 2]
    arguments = {
        "h": np.array(h + ends, np.int32),
        "state_bits": state_bits,
        "view_bits": view_bits,
    }
    assert_agree(oracle, other, "view", arguments)
