"""Matrix products inside compiled calls: exact ones of int16, and of float32 (PROD).

An exact product is one pass of int16 products summed in int32 where no sum can leave it: where the
largest operand times the largest absolute sum of a column of weights is below 2^31. Else the
operand is split into two signed bytes (FMT-003), whose products with int16 are below 2^22, and 512
terms at a time are summed in int32, the rest in int64.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .compiling import Array, f32, i32, i64, native
from .tiles import (
    PANEL,
    TALL,
    float_1,
    float_2,
    float_4,
    float_8,
    int16_1,
    int16_2,
    int16_4,
    int16_8,
)

# 512 · 128 · 32512 is below 2^31.
_PAIRS: Final = 256
_LIMIT: Final = 2**31 - 1


def padded(columns: int) -> int:
    """Return a number of columns made up to whole panels."""
    return -(-columns // PANEL) * PANEL


padded_columns = native(padded)


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


@native
def tile_rows(
    a: Array, a_at: int, by_row: int, rows: int, w: Array, w_at: int, pairs: int, out: Array,
    out_at: int, by_out: int,
) -> None:  # fmt: skip
    """Multiply some rows by one panel of int16."""
    r = 0
    while TALL == 8 and r + 8 <= rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        int16_8(a, at, by_row, 2, w, w_at, pairs, out, to, by_out)
        r += 8
    while r + 4 <= rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        int16_4(a, at, by_row, 2, w, w_at, pairs, out, to, by_out)
        r += 4
    if r + 2 <= rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        int16_2(a, at, by_row, 2, w, w_at, pairs, out, to, by_out)
        r += 2
    if r < rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        int16_1(a, at, by_row, 2, w, w_at, pairs, out, to, by_out)


@native
def exact_product(
    a: Array, largest: int, rows: int, pairs: int, w: Array, norm: int, columns: int, sums: Array,
    wide: Array, wide_at: int, shift: int,
) -> bool:  # fmt: skip
    """Multiply ``[rows, 2·pairs]`` by packed weights (PROD-001).

    Args:
        a: int16, flat.
        largest: the largest magnitude in ``a``.
        rows: rows of ``a``.
        pairs: half of its columns.
        w: packed weights.
        norm: their norm.
        columns: columns of the result.
        sums: int32, flat, room for ``rows`` times whole panels: the result, if it fits.
        wide: int64 ``[rows, …]``: else the result, shifted, is added here, from ``wide_at`` on.
        wide_at: first column there.
        shift: left shift of what is added.

    Returns:
        Whether the result is in ``sums``.
    """
    panels = -(-columns // PANEL)
    width = panels * PANEL
    if largest * norm <= _LIMIT:
        for p in range(panels):
            at = p * pairs * PANEL * 2
            tile_rows(a, 0, 2 * pairs, rows, w, at, pairs, sums, p * PANEL, width)
        return True
    high = np.empty(rows * 2 * pairs, np.int16)
    low = np.empty(rows * 2 * pairs, np.int16)
    for i in range(rows * 2 * pairs):
        h = (i32(a[i]) + 128) >> 8  # FMT-003
        high[i] = h
        low[i] = a[i] - 256 * h
    high_sums = np.empty(rows * PANEL, np.int32)
    low_sums = np.empty(rows * PANEL, np.int32)
    for p in range(panels):
        used = min(PANEL, columns - p * PANEL)
        for first in range(0, pairs, _PAIRS):
            length = min(_PAIRS, pairs - first)
            at = (p * pairs + first) * PANEL * 2
            tile_rows(high, 2 * first, 2 * pairs, rows, w, at, length, high_sums, 0, PANEL)
            tile_rows(low, 2 * first, 2 * pairs, rows, w, at, length, low_sums, 0, PANEL)
            for r in range(rows):
                for i in range(used):
                    total = i64(high_sums[r * PANEL + i]) * 256 + low_sums[r * PANEL + i]
                    wide[r, wide_at + p * PANEL + i] += total << shift
    return False


@native
def float_rows(
    a: Array, a_at: int, by_row: int, by_index: int, rows: int, w: Array, w_at: int, length: int,
    out: Array, out_at: int, by_out: int,
) -> None:  # fmt: skip
    """Multiply some rows by one panel of float32."""
    r = 0
    while TALL == 8 and r + 8 <= rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        float_8(a, at, by_row, by_index, w, w_at, length, out, to, by_out)
        r += 8
    while r + 4 <= rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        float_4(a, at, by_row, by_index, w, w_at, length, out, to, by_out)
        r += 4
    if r + 2 <= rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        float_2(a, at, by_row, by_index, w, w_at, length, out, to, by_out)
        r += 2
    if r < rows:
        at, to = a_at + r * by_row, out_at + r * by_out
        float_1(a, at, by_row, by_index, w, w_at, length, out, to, by_out)


@native
def float_product(
    a: Array, a_at: int, by_row: int, rows: int, length: int, w: Array, columns: int, out: Array
) -> None:
    """Multiply float32 ``[rows, length]`` by packed weights into whole panels of ``out``, flat."""
    panels = -(-columns // PANEL)
    for p in range(panels):
        at = p * length * PANEL
        float_rows(a, a_at, by_row, 1, rows, w, at, length, out, p * PANEL, panels * PANEL)


@native
def add_outer_products(
    a: Array, a_at: int, by_index: int, rows: int, length: int, packed: Array, columns: int,
    into: Array, first: int,
) -> None:  # fmt: skip
    """Add ``Σ_k a[k, r]·b[k, c]`` to ``into[first + r, c]``, float32 (GRAD-014).

    Args:
        a: flat; element ``[k, r]`` is at ``a_at + k·by_index + r``.
        a_at: see ``a``.
        by_index: see ``a``.
        rows: number of rows ``r``.
        length: number of terms ``k``.
        packed: ``b``, packed.
        columns: columns of ``b``.
        into: float32 ``[…, columns]``.
        first: first row there.
    """
    work = np.empty(8 * PANEL, np.float32)
    for p in range(-(-columns // PANEL)):
        used = min(PANEL, columns - p * PANEL)
        for r in range(0, rows, 8):
            some = min(8, rows - r)
            float_rows(
                a, a_at + r, 1, by_index, some, packed, p * length * PANEL, length, work, 0, PANEL
            )
            for q in range(some):
                own = into[first + r + q, p * PANEL : p * PANEL + used]
                for i in range(own.size):
                    own[i] += work[q * PANEL + i]


def self_check() -> bool:
    """Compare both ways of the exact product with int64 sums at extreme operands."""
    generator = np.random.default_rng(0)
    extremes = np.array([32512, -32512, 32384, -32384, 127, -128, 0, 1], np.int16)
    for rows, length, outputs in ((1, 2, 1), (3, 67, 5), (13, 1226, PANEL + 1)):
        for scale in (1, 256):
            a = generator.choice(extremes, (rows, length + length % 2)) // np.int16(scale)
            w = generator.choice(extremes, (outputs, length)) // np.int16(scale)
            a[:, length:] = 0
            a[0], w[0] = a.max(), w.max()
            wanted = a[:, :length].astype(np.int64) @ w.astype(np.int64).T
            pairs = a.shape[1] // 2
            packed = np.empty(2 * pairs * padded(outputs), np.int16)
            norm = pack_int16(w, packed)
            sums = np.zeros((rows, padded(outputs)), np.int32)
            wide = np.zeros((rows, outputs), np.int64)
            largest = int(np.abs(a.astype(np.int64)).max())
            one: Any = exact_product(
                a.reshape(-1), largest, rows, pairs, packed, norm, outputs,
                sums.reshape(-1), wide, 0, 0,
            )  # fmt: skip
            found = sums[:, :outputs].astype(np.int64) if one else wide
            if not np.array_equal(found, wanted):
                return False
    return True
