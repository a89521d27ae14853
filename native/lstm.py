"""RevLSTM: updates of one group for some rows, forward and back (CELL, BUF-005)."""

from __future__ import annotations

from .buffers import TOP, append_later, count_gates
from .compiling import Array, Maybe, inner
from .copies import idle
from .lstm_rows import (
    KEPT_C,
    KEPT_H,
    VIEW,
    cell_back,
    forward_row,
    hidden_back,
    plain_back,
    plain_row,
)
from .records import Back, GroupStep, Numbers, Room, Sums


@inner
def advance(
    sums: Sums, numbers: Numbers, step: GroupStep, heads: Maybe, room: Room, counts: Array
) -> None:
    """Update one group of all rows.

    Args:
        sums: of all its gates; for RevGRU of its candidate.
        numbers: of the configuration.
        step: the group.
        heads: int32 ``[R, G]``, in place; ``None`` without forgetting.
        room: room.
        counts: int64 ``[1025]`` histogram of active gates, or empty.
    """
    rows, units = step.h.shape
    for b in range(rows):
        if not step.active[b]:
            continue
        if heads is None:
            plain_row(b, sums, numbers, step, room)
        else:
            for part in range(2):  # sliced units, the others
                first, last = (0, step.depth) if part == 0 else (step.depth, units)
                if first < last:
                    forward_row(last - first, b, first, part, sums, numbers, step, heads, 0, room)
    if heads is not None:
        append_later(step.words, room.later, step.tally)
        if counts.size:
            count_gates(room.z, step.active, 0, units, counts)
            count_gates(room.y, step.active, step.depth, units, counts)


@inner
def recover(
    sums: Sums, numbers: Numbers, step: GroupStep, heads: Maybe, room: Room, back: Back
) -> bool:
    """Take one group of all rows back, and write its factors.

    Arguments are those of :func:`advance`, and ``back``.

    Returns:
        Whether there were words enough.
    """
    rows, units = step.h.shape
    for down in range(rows):
        b = rows - 1 - down
        if not step.active[b]:
            idle(back.pieces, back.base + b * units, back.size, units, VIEW, KEPT_C, KEPT_H)
        elif heads is None:
            plain_back(b, sums, numbers, step, room, back)
        else:
            for part in range(2):  # in the order of units from the last to the first
                first, last = (step.depth, units) if part == 0 else (0, step.depth)
                n, on = last - first, back.recovers * (1 - part)
                if n > 0:
                    hidden_back(n, b, first, on, sums, numbers, step, heads, 0, room, back)
    if heads is not None:
        for down in range(rows):
            b = rows - 1 - down
            if step.active[b]:
                cell_back(b, sums, numbers, step, heads, 0, room, back)
    return bool(step.tally[TOP] >= 0)
