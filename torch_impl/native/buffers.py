"""The reversible multiplication of some rows of one group, with its words (MUL, BUF).

Forward and back go over all units twice: once to find what is pushed or popped, in the order of
BUF-005, and once to compute, in loops that a compiler makes vectors of.
"""

from __future__ import annotations

from typing import Any, Final

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
        h0, z0, change0 = h[b, :first], z[b, :first], change[b, :first]
        h1, z1, heads1 = h[b, first:], z[b, first:], heads[b, first:]
        if keep:
            tally[TOP] = push(heads1, z1, words, tally[TOP])
        wraps += add(h0, z0, change0, forgetting)
        wraps += exchange(h1, z1, change[b, first:], heads1)
        if counts.size:
            for i in range(z1.size):
                counts[z1[i]] += 1
    tally[WRAPS] += wraps


@native
def push(heads: Array, z: Array, words: Array, top: int) -> int:
    """Push words of full heads; return the new top (BUF-031)."""
    for i in range(z.size):
        words[np.uintp(top)] = heads[i]  # the low 16 bits, overwritten unless they are pushed
        top += sar(heads[i], 21) >= z[i]
    return top


@native
def add(h: Array, z: Array, change: Array, forgetting: bool) -> Any:
    """Update units that do not use the buffer; return how many wrapped (FMT-006)."""
    wraps = i32(0)
    for i in range(h.size):
        product = i32(sar(h[i], 10) * z[i]) if forgetting else h[i]
        total = i32(product + change[i])
        wraps = i32(wraps - sar(i32(i32(product ^ total) & i32(change[i] ^ total)), 31))
        h[i] = total
    return wraps


@native
def exchange(h: Array, z: Array, change: Array, heads: Array) -> Any:
    """Update units and their heads; return how many wrapped (BUF-001, BUF-034)."""
    wraps = i32(0)
    for i in range(h.size):
        zz, head = z[i], heads[i]
        head = sar(head, 16) if sar(head, 21) >= zz else head
        # See floor_divide of the eager engine for why these quotients are exact.
        q = i32(np.float64(head) / np.float64(zz))
        m = i32(i32(i32(head - i32(q * zz)) << 10) + i32(h[i] & 1023))
        e = i32(f32(m) / f32(zz))
        heads[i] = i32(i32(q << 10) + e)
        product = i32(i32(sar(h[i], 10) * zz) + i32(m - i32(e * zz)))
        total = i32(product + change[i])
        wraps = i32(wraps - sar(i32(i32(product ^ total) & i32(change[i] ^ total)), 31))
        h[i] = total
    return wraps


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
        if forgetting:
            h[b, :first] = restore[b, :first]
        else:
            subtract(h[b], change[b])
        missing += exchange_back(h[b, first:], z[b, first:], change[b, first:], heads[b, first:])
    if not missing:
        return True
    top = tally[TOP] - missing
    if top < 0:
        tally[UNDERFLOW] = 1
        return False
    tally[TOP] = top
    for b in range(rows):
        if active[b]:
            top = pop(heads[b, first:], words, top)
    return True


@native
def subtract(h: Array, change: Array) -> None:
    """Take back an update without forgetting (CELL-030)."""
    for i in range(h.size):
        h[i] = i32(h[i] - change[i])


@native
def exchange_back(h: Array, z: Array, change: Array, heads: Array) -> Any:
    """Undo :func:`exchange` but for words; return how many are wanted (BUF-002, BUF-032)."""
    missing = i32(0)
    for i in range(h.size):
        zz = z[i]
        p = i32(h[i] - change[i])
        a = i32(np.floor(np.float64(p) / np.float64(zz)))
        n = i64(heads[i]) * i64(zz) + i64(i32(p - i32(a * zz)))
        h[i] = i32(i32(a << 10) + i32(i32(n) & 1023))
        head = i32(n >> 10)
        heads[i] = head
        missing = i32(missing + (i32(1) if head < 32768 else i32(0)))
    return missing


@native
def pop(heads: Array, words: Array, top: int) -> int:
    """Give short heads their words from ``top`` on; return the place after the last."""
    last = words.size - 1
    for i in range(heads.size):
        head = heads[i]
        short = head < 32768
        word = i32(words[np.uintp(min(top, last))]) & 0xFFFF
        heads[i] = i32(i32(head << 16) | word) if short else head
        top += short
    return top
