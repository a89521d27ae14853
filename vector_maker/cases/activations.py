"""The cases of ACT: tanh, sigmoid and the forget gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from revrnn.tanh_table import tanh_table

from .draft import Draft, Evaluate, Numbers, i64, mistakes

MISTAKES: Final = mistakes("""
table_end ACT-002 The table's last interval is read past its end, or the magnitude is not capped.
int32_magnitude ACT-002 The magnitude of -2^31 is taken in int32, where it is negative.
int64_magnitude ACT-002 The magnitude of -2^63 is taken in int64, where it is negative.
sum_float32 ACT-002 A pre-activation is kept in binary32.
slope_float32 ACT-002 The interpolation's product is made in binary32.
sum_width ACT-002 A pre-activation is reduced to 32 bits.
odd_symmetry ACT-002 Tanh of a negative number is interpolated from below, so it is not odd.
interpolation_rounding ACT-002 The interpolation is rounded down instead of to the nearest.
sigmoid_bits ACT-003 Sigmoid halves the integer, losing a bit, instead of reading one bit more.
sigmoid_floor ACT-003 Sigmoid rounds its last halving upwards.
forget_rounding ACT-004 The forget gate is rounded down instead of to the nearest.
forget_lower ACT-005 The forget gate can be 0.
limit_float32 ACT-004 The product of the slope and sigmoid is made in binary32.
limit_slope ACT-004 The forget gate with a limit of n bits has slope 2^n instead of 2^n - 1.
none_vs_10 ACT-005 No limit is treated as a limit of 10 bits.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _activations()
    yield from _forget_gates()


def _activations() -> Iterator[Draft]:
    def case(operation: str, s: Any, bits: int, *catches: str) -> Draft:
        rule = {"tanh": "ACT-002", "sigmoid": "ACT-003"}[operation]
        return Draft(operation, {"s": i64(s), "bits": bits}, (rule, "ACT-001"), catches)

    def both(values: Sequence[int]) -> list[int]:
        return [*values, *(-v for v in values)]

    numbers = Numbers("activations")
    table = tanh_table().tolist()
    odd = [i for i in range(1024) if (table[i + 1] - table[i]) % 2][:200:40]
    for bits in (8, 16, 23, 24, 26, 27):
        end, step = 8 << bits, 1 << (bits - 7)
        edges = both([0, 1, step - 1, step, step + 1, end - step, end - 1, end, end + 1, 2 * end])
        yield case("tanh", edges, bits, "table_end")
        inside = both([numbers.below(3 << bits) for _ in range(8)])
        yield case("tanh", inside, bits, "interpolation_rounding")
        # Middles of intervals whose ends differ by an odd number: ties of the interpolation.
        middles = both([(2 * i + 1) * step // 2 for i in odd])
        yield case("tanh", middles, bits, "interpolation_rounding", "odd_symmetry")
    for bits in (8, 16, 23, 24, 26):
        end = 16 << bits
        edges = both([0, 1, 2, 3, end - 1, end, end + 1, end // 2, 2 * end])
        yield case("sigmoid", edges, bits, "table_end")
        inside = both([numbers.below(3 << bits) for _ in range(8)])
        yield case("sigmoid", inside, bits, "sigmoid_floor", "interpolation_rounding")
    # Odd integers at the coarsest reading: halving them loses a bit that counts.
    yield case("sigmoid", [3, 5, 7, 101, -3, -5, -7, -101], 8, "sigmoid_bits")
    for operation in ("tanh", "sigmoid"):
        yield case(operation, [-(2**31), 2**31, 1 - 2**31], 27 - (operation == "sigmoid"))
        yield case(operation, [-(2**31), -(2**31) - 1], 24, "int32_magnitude")
        yield case(operation, [-(2**63), 2**63 - 1, 1 - 2**63], 24, "int64_magnitude", "sum_width")
        yield case(operation, [2**32 + 5, -(2**32) - 5, 2**31 + 7], 24, "sum_width")
        yield case(operation, np.zeros((2, 0)), 24)
        yield case(operation, [[2**20], [-(2**22)], [3 * 2**23]], 24)


def _forget_gates() -> Iterator[Draft]:
    def case(s: Any, limit: int | None, z_max: int, *catches: str, bits: int = 24) -> Draft:
        args = {"s": i64(s), "bits": bits, "max_forget_bits": limit, "z_max": z_max}
        rule = "ACT-005" if limit is None else "ACT-004"
        return Draft("forget_gate", args, (rule, "ACT-003", "ACT-006"), catches)

    numbers = Numbers("forget_gate")
    wide = [-(2**63), -(2**40), -(16 << 24), 0, 16 << 24, 2**40, 2**63 - 1]
    for limit in (None, *range(1, 11)):
        inside = [numbers.below(6 << 24) - (3 << 24) for _ in range(24)]
        slope = ("none_vs_10",) if limit is None else ("limit_slope",)
        yield case(wide + inside, limit, 1024, "forget_rounding", *slope)
        yield case(wide, limit, 1019, "z_max_cap")
    yield case(wide, None, 1024, "forget_lower", "int64_magnitude")
    yield case([-(9 << 24), -(8 << 24), -(7 << 24), -(6 << 24)], None, 1024, "forget_lower")
    yield case(wide, 3, 512, "z_max_cap")
    yield case(wide, 3, 1023, "z_max_cap")
    yield case([-(2**30), 2**30], 1, 512, "z_max_cap")
    yield case([[0, 1 << 8], [-(1 << 8), 3]], None, 1024, bits=8)
    yield case([[0, 1 << 26], [-(1 << 26), 3]], 5, 1023, bits=26)
    yield case(np.zeros((0,)), 5, 1023)
