"""Matrix products inside compiled calls: exact ones of int16, and of float32 (PROD).

An exact product is one pass of int16 products summed in int32 where no sum can leave it: where the
largest operand times the largest absolute sum of a column of weights is below 2^31. Else the
operand is split into two signed bytes (FMT-003), whose products with int16 are below 2^22, and 512
terms at a time are summed in int32, the rest in int64. Where the processor has registers for tiles,
:mod:`.byte_products` does both.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .byte_products import multiply_bytes
from .compiling import Array, i32, i64, inner, native
from .float_products import add_outer_floats, multiply_floats
from .lanes import Group, Place
from .packing import aligned, pack_int16, packed_size, padded, padded_columns
from .processor import AMX
from .records import Factor, Operand
from .tiles import FLOAT, INT16, KERNEL, LANES, PANEL, TALL, VECTORS, float_add_4, float_add_8
from .vectors import Kernel, kernel


@kernel
def add_row(k: Kernel, n: Any, a: Place, out: Place) -> None:
    """Add ``a``."""

    def add(group: Group) -> None:
        group.store(out, group.load(out) + group.load(a))

    k.each(n, add)


# Bytes of a right operand that stay in the second cache while rows of the left one pass.
_CACHED: Final = 2**19
# 512 · 128 · 32512 is below 2^31.
_PAIRS: Final = 256
LIMIT: Final = 2**31 - 1

# The exact product, and a word for its packed weights.
KIND: Final = "AMX" if AMX else KERNEL.partition(" ")[0]
PRODUCT: Final = "bytes in tiles (AMX)" if AMX else f"int16 pairs ({KERNEL})"


def _panel(tiles: Any) -> Any:
    """Return a product of some rows with one panel, or the vectors of it that have columns.

    Args:
        tiles: by rows and vectors of a panel.
    """
    full_8, full_4, full_2, full_1 = (tiles[rows, VECTORS] for rows in (8, 4, 2, 1))
    one_8, one_4 = (tiles[rows, 1] for rows in (8, 4))
    two_8, two_4 = (tiles[rows, min(2, VECTORS)] for rows in (8, 4))

    @inner
    def multiply(
        a: Array,
        at: int,
        by: int,
        step: int,
        rows: int,
        w: Array,
        w_at: int,
        n: int,
        out: Array,
        to: int,
        by_out: int,
        columns: int,
    ) -> None:
        r, vectors = 0, min(-(-columns // LANES), VECTORS)
        while vectors == 1 and r + 8 <= rows:
            one_8(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 8
        while vectors == 1 and r + 4 <= rows:
            one_4(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 4
        while VECTORS > 2 and vectors == 2 and r + 8 <= rows:
            two_8(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 8
        while VECTORS > 2 and vectors == 2 and r + 4 <= rows:
            two_4(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 4
        while TALL == 8 and r + 8 <= rows:
            full_8(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 8
        while r + 4 <= rows:
            full_4(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 4
        while r + 2 <= rows:
            full_2(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 2
        while r + 1 <= rows:
            full_1(a, at + r * by, by, step, w, w_at, n, out, to + r * by_out, by_out)
            r += 1

    return multiply


# (left operand, where, from row to row, from index to index, rows, packed, where, length, result,
# where, from row to row, columns)
int16_panel = _panel(INT16)
float_panel = _panel(FLOAT)


@inner
def exact_product(a: Operand, f: Factor, sums: Array, wide: Array, shift: int) -> bool:
    """Multiply an operand by packed weights (PROD-001).

    Args:
        a: the operand.
        f: the weights.
        sums: int32, flat, room for the operand's rows times whole panels: the result, if it fits.
        wide: int64 ``[rows, columns]``: else the result, shifted, is added here.
        shift: left shift of what is added.

    Returns:
        Whether the result is in ``sums``.
    """
    width, rows, pairs = padded_columns(f.columns), a.rows, a.pairs
    if AMX:
        fits = a.largest * f.norm <= LIMIT
        multiply_bytes(a, f, sums, width, fits, wide, shift)
        return bool(fits)
    if a.largest * f.norm <= LIMIT:
        for c in range(0, f.columns, PANEL):
            left, at = min(PANEL, f.columns - c), c * 2 * pairs
            int16_panel(a.values, i64(0), a.by_row, 2, rows, f.w, at, pairs, sums, c, width, left)
        return True
    high = np.empty(rows * a.by_row, np.int16)
    low = np.empty(rows * a.by_row, np.int16)
    for i in range(rows * a.by_row):
        h = (i32(a.values[i]) + 128) >> 8  # FMT-003
        high[i] = h
        low[i] = a.values[i] - 256 * h
    sums_of_high = np.empty(rows * PANEL, np.int32)
    sums_of_low = np.empty(rows * PANEL, np.int32)
    for c in range(0, f.columns, PANEL):
        used = min(PANEL, f.columns - c)
        for first in range(0, pairs, _PAIRS):
            n, at = min(_PAIRS, pairs - first), c * 2 * pairs + first * PANEL * 2
            for part, to in ((high, sums_of_high), (low, sums_of_low)):
                int16_panel(
                    part, 2 * first, a.by_row, 2, rows, f.w, at, n, to, i64(0), i64(PANEL), used
                )
            for r in range(rows):
                for i in range(used):
                    total = i64(sums_of_high[r * PANEL + i]) * 256 + sums_of_low[r * PANEL + i]
                    wide[r, c + i] += total << shift
    return False


@inner
def float_product(
    a: Array, a_at: int, by_row: int, rows: int, length: int, w: Array, columns: int, out: Array
) -> None:
    """Multiply float32 ``[rows, length]`` by packed weights into whole panels of ``out``, flat."""
    width = padded_columns(columns)
    if AMX:
        multiply_floats(a, a_at, by_row, rows, length, w, columns, out, width)
        return
    for c in range(0, columns, PANEL):
        left = min(PANEL, columns - c)
        float_panel(a, a_at, by_row, i64(1), rows, w, c * length, length, out, c, width, left)


@inner
def add_outer_products(
    a: Array,
    a_at: int,
    by_row: int,
    by_index: int,
    rows: int,
    length: int,
    packed: Array,
    columns: int,
    into: Array,
    first: int,
) -> None:
    """Add ``Σ_k a[k, r]·b[k, c]`` to ``into[first + r, c]``, float32 (GRAD-014).

    Args:
        a: flat; element ``[k, r]`` is at ``a_at + k·by_index + r·by_row``.
        a_at: see ``a``.
        by_row: see ``a``.
        by_index: see ``a``.
        rows: number of rows ``r``.
        length: number of terms ``k``.
        packed: ``b``, packed.
        columns: columns of ``b``.
        into: float32 ``[…, columns]``.
        first: first row there.
    """
    if AMX and by_row == 1:
        add_outer_floats(a, a_at, by_index, rows, length, packed, columns, into, first)
        return
    flat, work = into.reshape(-1), np.empty(TALL * PANEL, np.float32)
    block = max(_CACHED // (4 * PANEL * max(length, 1)), 1) * PANEL
    for begin in range(0, columns, block):
        end = min(begin + block, columns)
        for r in range(0, rows, TALL):  # outside: of ``a`` a tile's part stays in the first cache
            some, own = min(TALL, rows - r), a_at + r * by_row
            for c in range(begin, end, PANEL):
                used, at, to = min(PANEL, columns - c), c * length, (first + r) * columns + c
                if used == PANEL and some == TALL:
                    if TALL == 8:
                        float_add_8(a, own, by_row, by_index, packed, at, length, flat, to, columns)
                    else:
                        float_add_4(a, own, by_row, by_index, packed, at, length, flat, to, columns)
                    continue
                whole, none = i64(PANEL), i64(0)
                float_panel(
                    a, own, by_row, by_index, some, packed, at, length, work, none, whole, used
                )
                for q in range(some):
                    add_row(used, work, q * PANEL, flat, to + q * columns)


@native
def checked_product(a: Operand, f: Factor, sums: Array, wide: Array, shift: int) -> bool:
    """Do as :func:`exact_product`, called from Python."""
    return bool(exact_product(a, f, sums, wide, shift))


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
            packed = aligned(1, packed_size(outputs, length), np.int16)[0]
            norm = pack_int16(w, packed)
            sums = np.zeros((rows, padded(outputs)), np.int32)
            wide = np.zeros((rows, outputs), np.int64)
            largest = int(np.abs(a.astype(np.int64)).max())
            operand = Operand(a.reshape(-1), 2 * pairs, rows, pairs, largest)
            factor = Factor(packed, norm, outputs)
            one: Any = checked_product(operand, factor, sums.reshape(-1), wide, 0)
            given = sums[:, :outputs].astype(np.int64) if one else wide
            if not np.array_equal(given, wanted):
                return False
    return True
