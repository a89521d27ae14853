"""RevLSTM: updates of one group for some rows, forward and back (CELL, BUF-005)."""

from __future__ import annotations

from typing import Any

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


@inner
def advance(
    s: Array,
    width: int,
    x: Array,
    x_at: int,
    x_width: int,
    bias: Array,
    at: int,
    left: int,
    shift: int,
    plan: Array,
    table: Array,
    c: Array,
    h: Array,
    heads: Maybe,
    z: Array,
    p: Array,
    active: Array,
    depth: int,
    words: Array,
    later: Array,
    keep: int,
    tally: Array,
    counts: Array,
) -> None:
    """Update one group of some rows.

    Args:
        s: recurrent sums, int32, flat.
        width: their row length.
        x: input sums, int32, flat; row b's begin at ``x_at + b·x_width``.
        x_at: see ``x``.
        x_width: see ``x``.
        bias: int32, flat.
        at: where the group's begin.
        left: left shift of recurrent sums.
        shift: left shift of input sums.
        plan: numbers of the configuration.
        table: of tanh.
        c: int32 ``[R, G]``, in place; as are ``h`` and ``heads``.
        h: see ``c``.
        heads: see ``c``; ``None`` without forgetting.
        z: room for gates, int32, flat.
        p: the same.
        active: uint8 ``[R]``: which rows have the step.
        depth: units of ``h`` that are sliced (MUL-005).
        words: int16, with room for more than can be pushed.
        later: the same for one operation.
        keep: whether to keep words, 1 or 0.
        tally: see :mod:`.buffers`.
        counts: int64 ``[1025]`` histogram of active gates, or empty.
    """
    rows, units = h.shape
    flat_c, flat_h = c.reshape(-1), h.reshape(-1)
    for b in range(rows):
        if not active[b]:
            continue
        if heads is None:
            plain_row(
                units,
                units,
                s,
                b * width,
                x,
                x_at + b * x_width,
                bias,
                at,
                left,
                shift,
                plan,
                0,
                table,
                0,
                flat_c,
                b * units,
                flat_h,
                b * units,
                tally,
                0,
            )
        else:
            for part in range(2):  # sliced units, the others
                first, last = (0, depth) if part == 0 else (depth, units)
                to = b * units + first
                if first < last:
                    forward_row(
                        last - first,
                        units,
                        s,
                        b * width + first,
                        x,
                        x_at + b * x_width + first,
                        bias,
                        at + first,
                        left,
                        shift,
                        plan,
                        0,
                        table,
                        0,
                        part,
                        flat_c,
                        to,
                        flat_h,
                        to,
                        heads.reshape(-1),
                        to,
                        z,
                        to,
                        p,
                        to,
                        words,
                        0,
                        later,
                        0,
                        keep,
                        tally,
                        0,
                    )
    if heads is not None:
        append_later(words, later, tally)
        if counts.size:
            count_gates(z, active, 0, units, counts)
            count_gates(p, active, depth, units, counts)


@inner
def recover(
    s: Array,
    width: int,
    x: Array,
    x_at: int,
    x_width: int,
    bias: Array,
    at: int,
    left: int,
    shift: int,
    plan: Array,
    table: Array,
    c: Array,
    h: Array,
    heads: Maybe,
    old_c: Array,
    old_h: Array,
    active: Array,
    depth: int,
    stored: bool,
    words: Array,
    tally: Array,
    unit_h: Any,
    scale: Any,
    tape: Array,
    base: int,
    size: int,
) -> bool:
    """Take one group of some rows back, and write its tape.

    Arguments are those of :func:`advance`, and:
        old_c: int32 ``[R, G]``, read where states are stored.
        old_h: the same, and read for sliced units.
        stored: whether states are looked up.
        unit_h: 2 to the minus fraction bits of states.
        scale: of forget gates, m in GRAD-010.
        tape: float32, flat: pieces one after the other, each ``[L, 2, C, B, G]``.
        base: where the group begins in a piece.
        size: of a piece.

    Returns:
        Whether there were words enough.
    """
    rows, units = h.shape
    flat_c, flat_h = c.reshape(-1), h.reshape(-1)
    from_c, from_h = old_c.reshape(-1), old_h.reshape(-1)
    on = 0 if stored else 1
    for back in range(rows):
        b = rows - 1 - back
        place = base + b * units
        if not active[b]:
            idle(tape, place, size, units, VIEW, KEPT_C, KEPT_H)
        elif heads is None:
            plain_back(
                units,
                units,
                s,
                b * width,
                x,
                x_at + b * x_width,
                bias,
                at,
                left,
                shift,
                plan,
                0,
                table,
                0,
                on,
                flat_c,
                b * units,
                flat_h,
                b * units,
                from_c,
                b * units,
                from_h,
                b * units,
                tape,
                place,
                size,
            )
        else:
            for part in range(2):  # in the order of units from the last to the first
                first, last = (depth, units) if part == 0 else (0, depth)
                to = b * units + first
                if first < last:
                    hidden_back(
                        last - first,
                        units,
                        s,
                        b * width + first,
                        x,
                        x_at + b * x_width + first,
                        bias,
                        at + first,
                        left,
                        shift,
                        plan,
                        0,
                        table,
                        0,
                        on * (1 - part),
                        flat_c,
                        to,
                        flat_h,
                        to,
                        from_h,
                        to,
                        heads.reshape(-1),
                        to,
                        words,
                        0,
                        tally,
                        0,
                        unit_h,
                        scale,
                        tape,
                        place + first,
                        size,
                    )
    if heads is not None:
        for back in range(rows):
            b = rows - 1 - back
            if active[b]:
                cell_back(
                    units,
                    units,
                    s,
                    b * width,
                    x,
                    x_at + b * x_width,
                    bias,
                    at,
                    left,
                    shift,
                    plan,
                    0,
                    table,
                    0,
                    on,
                    flat_c,
                    b * units,
                    from_c,
                    b * units,
                    heads.reshape(-1),
                    b * units,
                    words,
                    0,
                    tally,
                    0,
                    unit_h,
                    scale,
                    tape,
                    base + b * units,
                    size,
                )
    return bool(tally[TOP] >= 0)
