"""Right operands of products, packed by panels as :mod:`.tiles` wants them."""

from __future__ import annotations

from typing import Any

from .compiling import Array, f32, i64, inner, native
from .tiles import PANEL


def padded(columns: int) -> int:
    """Return a number of columns made up to whole panels."""
    return -(-columns // PANEL) * PANEL


padded_columns = inner(padded)


@native
def pack_int16(w: Array, out: Array) -> Any:
    """Pack weights ``[N, K]`` as the right operand with N columns.

    ``out``, int16, flat, has by panel, pair of indices and column the pair's two numbers.

    Returns:
        The norm: the largest sum of a column's magnitudes.
    """
    n, k = w.shape
    pairs = (k + 1) // 2
    norm = i64(0)
    for c in range(n):
        total = i64(0)
        for i in range(k):
            total += abs(i64(w[c, i]))
        norm = max(norm, total)
    for p in range(-(-n // PANEL)):
        used = min(PANEL, n - p * PANEL)
        for q in range(pairs):
            at = (p * pairs + q) * 2 * PANEL
            for i in range(used):
                out[at + 2 * i] = w[p * PANEL + i, 2 * q]
                out[at + 2 * i + 1] = w[p * PANEL + i, 2 * q + 1] if 2 * q + 1 < k else 0
            for i in range(2 * used, 2 * PANEL):
                out[at + i] = 0
    return norm


@native
def pack_float(w: Array, scale: float, out: Array) -> None:
    """Pack ``w·scale``, ``[K, N]``, as the right operand with N columns, float32, flat."""
    k, n = w.shape
    for p in range(-(-n // PANEL)):
        used = min(PANEL, n - p * PANEL)
        for q in range(k):
            at = (p * k + q) * PANEL
            for i in range(used):
                out[at + i] = f32(w[q, p * PANEL + i]) * f32(scale)
            for i in range(used, PANEL):
                out[at + i] = f32(0)
