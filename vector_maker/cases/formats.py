"""The cases of FMT: views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .draft import Draft, Evaluate, i32, mistakes

MISTAKES: Final = mistakes("""
z_max_cap FMT-005 The forget gate is not capped at z_max.
view_rounding FMT-004 The view of a state is cut off instead of rounded.
z_max_default FMT-005 RevLSTM's forget gates are capped at 1024 by default.
p_max_of_z FMT-007 A cap given for z_max is the default of p_max, however large.
p_max_default FMT-007 RevLSTM's gate p is capped as f is by default.
p_max_cap FMT-007 RevLSTM's gate p is capped at the default, whatever p_max says.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""

    def case(h: Any, state_bits: int, view_bits: int, *catches: str) -> Draft:
        args = {"h": i32(h), "state_bits": state_bits, "view_bits": view_bits}
        return Draft("view", args, ("FMT-004", "GEN-003", "GEN-007"), catches)

    around = [n * 1024 + d for n in (-3, -2, -1, 1, 2, 3) for d in (-1, 0, 1)]
    yield case(around, 23, 12, "view_rounding", "tie_direction", "floor_vs_truncation")
    ends = [2**31 - 1, -(2**31), 2**31 - 1024, 2**30]
    yield case(ends, 23, 12, "clip_vs_wrap", "operand_range")
    yield case(ends, 16, 13, "clip_vs_wrap", "operand_range")
    yield case(ends, 23, 10, "clip_vs_wrap", "operand_range", "shift_width")
    yield case(ends, 24, 6, "shift_width", "view_rounding")
    edge = 32512 << 11
    near = [edge - 1025, edge - 1024, edge, edge + 1023, edge + 1024, edge + 2048]
    yield case([near, [-v for v in near]], 23, 12, "operand_range")
    yield case([[[5, 4, 3]], [[-3, -4, -5]]], 16, 13, "tie_direction")
