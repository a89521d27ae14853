"""The cases of QNT: floats to integers and back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from .draft import Draft, Evaluate, f32, i32, mistakes

MISTAKES: Final = mistakes("""
half_even_vs_half_up QNT-001 Quantisation rounds ties upwards instead of to the even integer.
half_even_vs_away QNT-001 Quantisation rounds ties away from zero instead of to the even integer.
truncation_vs_nearest QNT-001 Quantisation cuts fraction bits off instead of rounding.
clip_vs_wrap QNT-002 A value beyond the end of its range wraps around instead of saturating.
operand_range QNT-002 Operands and weights saturate at the ends of int16 instead of at 32512.
kind_bits QNT-002 A kind of quantity is given another kind's number of fraction bits.
zero_sign QNT-006 Zero is dequantised to a negative zero.
dequantise_rounding QNT-006 An int32 becomes a float by truncation instead of to the nearest.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _quantise()
    yield from _dequantise()


def _next_float(x: float, steps: int) -> float:
    """Return the binary32 number so many places after ``x > 0``."""
    (bits,) = struct.unpack("<i", struct.pack("<f", x))
    return float(struct.unpack("<f", struct.pack("<i", bits + steps))[0])


def _quantise() -> Iterator[Draft]:
    def case(kind: str, x: Any, *catches: str, **formats: int) -> Draft:
        args = {"kind": kind, "x": f32(x)} | ({"formats": formats} if formats else {})
        return Draft("quantise", args, ("QNT-001", "QNT-002", "QNT-003"), catches)

    rounding = ("half_even_vs_half_up", "half_even_vs_away", "truncation_vs_nearest")
    ties = [n + 0.5 for n in range(-4, 4)]
    yield case("operand", [t / 4096 for t in ties], *rounding)
    yield case("weight", [t / 4096 for t in ties], *rounding)
    yield case("bias", [t / 2**24 for t in ties], *rounding)
    yield case("state", [t / 2**23 for t in ties], *rounding)
    # Large ties, whose sum with one half is no binary32 number.
    yield case("bias", [(2**22 + n + 0.5) / 2**24 for n in range(4)], "half_even_vs_half_up")
    tie = 2.5 / 4096
    near = [_next_float(tie, -1), tie, _next_float(tie, 1)]
    yield case("operand", near + [-x for x in near], "truncation_vs_nearest")
    yield case("operand", [_next_float(0.5 / 4096, -1), -_next_float(0.5 / 4096, -1)])
    ends = [32511.5, 32512, 32512.5, 32513, 32767, 32768, 40000, 65536, 2.0**40, 3.4e38]
    both = [x / 4096 for x in ends] + [-x / 4096 for x in ends]
    for kind in ("operand", "weight"):
        yield case(kind, both, "operand_range", "clip_vs_wrap")
    high = [2**31 - 128, 2**31, 2**31 + 256, 2**32, 2.0**63, 2.0**64, 2.0**100]
    for kind, bits in (("bias", 24), ("state", 23)):
        yield case(kind, [s * x / 2**bits for s in (1, -1) for x in high], "clip_vs_wrap")
    yield case("state", [3.4028234663852886e38, -3.4028234663852886e38], "clip_vs_wrap")
    odd = {"state_bits": 17, "operand_bits": 9, "lstm_view_bits": 7, "weight_bits": 11}
    for kind in ("operand", "weight", "bias", "state"):
        yield case(kind, [[1.0, -1.0], [0.3, -0.7]], "kind_bits", **odd)
        default = ("kind_bits",) if kind in ("bias", "state") else ()
        yield case(kind, [[1.0, -1.0], [0.3, -0.7]], *default)
    yield case("operand", [1.0], operand_bits=13)
    yield case("state", [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1e-30])
    yield case("weight", np.zeros((0,)))
    yield case("state", np.zeros((2, 0, 3)))
    yield case("bias", [[[0.125]], [[-0.125]]])


def _dequantise() -> Iterator[Draft]:
    def case(q: Any, bits: int, *catches: str) -> Draft:
        return Draft("dequantise", {"q": i32(q), "bits": bits}, ("QNT-006",), catches)

    wide = [2**24 + n for n in range(8)] + [2**31 - 1, 2**31 - 64, 2**31 - 65, -(2**31)]
    for bits in (0, 23, 31):
        yield case(wide + [-v for v in wide[:-1]], bits, "dequantise_rounding")
    yield case([[0, 1, -1], [1023, 2**24 - 1, -(2**24)]], 24)
    yield case(np.zeros((3, 0)), 12)
