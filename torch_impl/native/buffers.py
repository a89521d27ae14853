"""The reversible multiplication of some rows of one group, with its words (MUL, BUF).

Forward and back go over all units twice: once to find what is pushed or popped, in the order of
BUF-005, and once to compute, in loops that a compiler makes vectors of.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .compiling import Array, f32, i32, i64, native, sar

# Places in the tallies that a pass keeps, int64.
TOP: Final = 0
UNDERFLOW: Final = 1
WRAPS: Final = 2


@native
def multiply(
    h: Array, z: Array, change: Array, active: Array, depth: int, heads: Array, words: Array,
    keep: bool, tally: Array, forgetting: bool, counts: Array,
) -> None:  # fmt: skip
    """Replace ``h`` by ``h·z + change`` (CELL-012, MUL-001, BUF-031).

    Args:
        h: int32 ``[R, G]``.
        z: gates, int32 ``[R, G]``.
        change: int32 ``[R, G]``.
        active: uint8 ``[R]``: which rows have the step.
        depth: units that are sliced (MUL-005).
        heads: int32 ``[R, G]``.
        words: int16, with room for a word more than can be pushed.
        keep: whether to keep words.
        tally: see :data:`TOP`.
        forgetting: without it ``h`` is not multiplied (CELL-030).
        counts: int64 ``[1025]`` histogram of active gates, or empty.
    """
    rows, units = h.shape
    wraps = 0
    for b in range(rows):
        if not active[b]:
            continue
        first = depth if forgetting else units
        if keep:
            top = tally[TOP]
            for i in range(first, units):
                words[top] = heads[b, i]  # the low 16 bits, overwritten unless they are pushed
                top += sar(heads[b, i], 21) >= z[b, i]
            tally[TOP] = top
        for i in range(first):
            product = i32(sar(h[b, i], 10) * z[b, i]) if forgetting else h[b, i]
            total = i32(product + change[b, i])
            wraps += i32(i32(product ^ total) & i32(change[b, i] ^ total)) < 0  # FMT-006
            h[b, i] = total
        for i in range(first, units):
            zz, head = z[b, i], heads[b, i]
            head = sar(head, 16) if sar(head, 21) >= zz else head
            # BUF-034; see floor_divide of the eager engine for why these quotients are exact.
            q = i32(np.float64(head) / np.float64(zz))
            m = i32(i32(i32(head - i32(q * zz)) << 10) + i32(h[b, i] & 1023))
            e = i32(f32(m) / f32(zz))
            heads[b, i] = i32(i32(q << 10) + e)
            product = i32(i32(sar(h[b, i], 10) * zz) + i32(m - i32(e * zz)))
            total = i32(product + change[b, i])
            wraps += i32(i32(product ^ total) & i32(change[b, i] ^ total)) < 0
            h[b, i] = total
        if counts.size:
            for i in range(first, units):
                counts[z[b, i]] += 1
    tally[WRAPS] += wraps


@native
def divide(
    h: Array, z: Array, change: Array, active: Array, depth: int, restore: Array, heads: Array,
    words: Array, tally: Array, forgetting: bool,
) -> bool:  # fmt: skip
    """Undo :func:`multiply` (CELL-040, MUL-003, BUF-032).

    Args:
        h: as there.
        z: as there.
        change: as there.
        active: as there.
        depth: as there.
        restore: the old values of sliced units, int32 ``[R, D]``.
        heads: as there.
        words: as there.
        tally: as there.
        forgetting: as there.

    Returns:
        Whether there were words enough.
    """
    rows, units = h.shape
    first = depth if forgetting else units
    missing = 0
    for b in range(rows):
        if not active[b]:
            continue
        for i in range(first):
            h[b, i] = restore[b, i] if forgetting else i32(h[b, i] - change[b, i])
        for i in range(first, units):
            zz = z[b, i]
            p = i32(h[b, i] - change[b, i])
            a = i32(np.floor(np.float64(p) / np.float64(zz)))
            n = i64(heads[b, i]) * i64(zz) + i64(i32(p - i32(a * zz)))
            h[b, i] = i32(i32(a << 10) + i32(n & 1023))
            heads[b, i] = i32(n >> 10)
            missing += i32(n >> 10) < 32768
    if not missing:
        return True
    top = tally[TOP] - missing
    if top < 0:
        tally[UNDERFLOW] = 1
        return False
    tally[TOP] = top
    last = words.size - 1
    for b in range(rows):
        if not active[b]:
            continue
        for i in range(first, units):
            head = heads[b, i]
            short = head < 32768
            word = i32(words[min(top, last)]) & 0xFFFF
            heads[b, i] = i32(i32(head << 16) | word) if short else head
            top += short
    return True
