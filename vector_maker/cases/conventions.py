"""The cases of GEN: rounding shifts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from .draft import Draft, Evaluate, i64, mistakes

MISTAKES: Final = mistakes("""
floor_vs_truncation GEN-003 A shift of a negative number rounds towards zero instead of down.
tie_direction GEN-003 A rounding shift takes negative ties away from zero instead of upwards.
shift_zero GEN-003 A rounding shift by 0 bits changes the value.
shift_width GEN-003 The sum inside a rounding shift is reduced to 32 bits.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""

    def case(v: Any, k: int, *catches: str) -> Draft:
        return Draft("round_shift", {"v": i64(v), "k": k}, ("GEN-003", "GEN-002"), catches)

    small = list(range(-9, 10))
    yield case(small, 0, "shift_zero")
    yield case(small, 1, "floor_vs_truncation", "tie_direction")
    yield case(small, 2, "floor_vs_truncation", "tie_direction")
    yield case([2**31 - 1, 2**31 - 2**14, 2**31 - 2**14 - 1, -(2**31)], 15, "shift_width")
    yield case([2**62 - 1, 1 - 2**62, 2**62 - 2**30, 2**62 - 2**30 - 1], 31, "shift_width")
    yield case([[3 * 2**30, -3 * 2**30], [2**30, -(2**30)]], 31, "tie_direction")
    yield case([2**40 + 7, -(2**40) - 8], 4, "shift_width", "tie_direction")
    yield case(np.zeros((0, 2)), 5)
