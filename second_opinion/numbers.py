"""Numbers of the second opinion: shifts, quantisation, functions and products."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from revrnn.tanh_table import tanh_table

# Rows of whole numbers.
Grid = list[list[int]]

TANH: Final[list[int]] = tanh_table().tolist()


def rs(v: int, k: int) -> int:
    """Shift right, rounding to nearest with ties upwards."""
    return v if k == 0 else (v + (1 << (k - 1))) >> k  # GEN-003


def wrap32(v: int) -> int:
    """Reduce to int32."""
    return (v + 2**31) % 2**32 - 2**31  # GEN-006


def clip(v: int, lo: int, hi: int) -> int:
    """Limit to ``lo … hi``."""
    return min(max(v, lo), hi)  # GEN-007


def quantise(x: float, bits: int, lo: int, hi: int) -> int:
    """Round a finite float to fixed point."""
    exact = Fraction(*x.as_integer_ratio()) * 2**bits
    below = exact.numerator // exact.denominator
    rest = exact - below
    # QNT-001: the nearest integer, and of two equally near the even one.
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1)
    return clip(below + 1 if up else below, lo, hi)


def tanh(s: int, bits: int) -> int:
    """Return tanh with 15 fraction bits."""
    # ACT-002
    u = min(abs(s), 1 << (bits + 3))
    i = u >> (bits - 7)
    f = u % (1 << (bits - 7))
    d = TANH[min(i + 1, 1024)] - TANH[i]
    t = TANH[i] + ((d * f + (1 << (bits - 8))) >> (bits - 7))
    return t if s >= 0 else -t


def sigmoid(s: int, bits: int) -> int:
    """Return the sigmoid with 15 fraction bits."""
    return (2**15 + tanh(s, bits + 1)) // 2  # ACT-003


def forget_gate(s: int, bits: int, limit: int | None, z_max: int) -> int:
    """Return a forget gate in 1024ths."""
    sigma = sigmoid(s, bits)
    if limit is None:
        return clip((sigma + 2**4) // 2**5, 1, z_max)  # ACT-005
    v = 2**15 + ((1 << limit) - 1) * sigma
    return clip((v + (1 << (4 + limit))) >> (5 + limit), 1, z_max)  # ACT-004


def view(h: int, state_bits: int, view_bits: int) -> int:
    """Return a state value as an operand."""
    return clip(rs(h, state_bits - view_bits), -32512, 32512)  # FMT-004


def product(a: Grid, w: Grid) -> Grid:
    """Return all sums of products of a row of ``a`` and a row of ``w``."""
    return [[dot(row, column) for column in w] for row in a]  # PROD-001


def dot(a: list[int], w: list[int]) -> int:
    """Return one sum of products."""
    total = 0
    for left, right in zip(a, w, strict=True):
        total += left * right
    return total
