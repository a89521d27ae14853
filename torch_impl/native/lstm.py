"""RevLSTM's gates and the factors of its gradients, for some rows of one group (CELL, GRAD).

Gates lie side by side in their order: f, i, g, o, p, or i, g, o without forgetting (CELL-002).
"""

from __future__ import annotations

from typing import Final

from .arithmetic import sigmoid, tanh
from .compiling import Array, f32, i32, i64, native, round_shift, sar
from .gru import (
    FORGET_BITS,
    FORGETTING,
    GATE_FACTOR,
    GATE_SHIFT,
    GATE_TERM,
    P_MAX,
    STATE_BITS,
    SUM_BITS,
    VIEW_BITS,
    VIEW_SHIFT,
    Z_MAX,
)


@native
def gates(
    sums: Array, width: int, parts: Array, at: int, plan: Array, table: Array, f: Array, p: Array,
    y: Array, change: Array,
) -> None:  # fmt: skip
    """Write all gates, and what is added to ``c`` (CELL-020, CELL-021).

    Args:
        sums: recurrent sums, int32, flat.
        width: their row length.
        parts: the other sums, int64 ``[R, …]``.
        at: their first column.
        plan: numbers of the configuration.
        table: of tanh.
        f: forget gate of ``c``, int32 ``[R, G]``.
        p: forget gate of ``h``.
        y: sigmoids of f, i, o, p and tanh of g, int32 ``[R, 5, G]``.
        change: int32 ``[R, G]``.
    """
    rows, units = f.shape
    bits, top, p_top = plan[SUM_BITS], i32(plan[Z_MAX]), i32(plan[P_MAX])  # FMT-007
    factor, term, by = i32(plan[GATE_FACTOR]), i32(plan[GATE_TERM]), plan[GATE_SHIFT]
    left, shift = plan[VIEW_SHIFT], 30 - plan[STATE_BITS]
    count = 5 if plan[FORGETTING] else 3
    for b in range(rows):
        for q in range(count):
            to = q if count == 5 else q + 1
            for i in range(units):
                s = i64(sums[b * width + q * units + i]) << left
                s += parts[b, at + q * units + i]
                if to == 2:
                    y[b, to, i] = tanh(s, bits, table)
                else:
                    y[b, to, i] = sigmoid(s, bits, table)
        if count == 5:
            for i in range(units):
                f[b, i] = i32(min(max(sar(i32(i32(y[b, 0, i] * factor) + term), by), i32(1)), top))
            for i in range(units):
                unclipped = sar(i32(i32(y[b, 4, i] * factor) + term), by)
                p[b, i] = i32(min(max(unclipped, i32(1)), p_top))
        for i in range(units):
            change[b, i] = round_shift(i32(y[b, 1, i] * y[b, 2, i]), shift)


@native
def hidden_change(c: Array, y: Array, plan: Array, table: Array, t: Array, change: Array) -> None:
    """Write ``tanh(c)`` and what is added to ``h`` (CELL-022)."""
    rows, units = c.shape
    bits, shift = plan[STATE_BITS], 30 - plan[STATE_BITS]
    for b in range(rows):
        for i in range(units):
            v = tanh(i64(c[b, i]), bits, table)
            t[b, i] = v
            change[b, i] = round_shift(i32(y[b, 3, i] * v), shift)


@native
def factors(
    f: Array, p: Array, y: Array, t: Array, view: Array, by_row: int, h: Array, c: Array,
    active: Array, plan: Array, tape: Array, base: int, size: int,
) -> None:  # fmt: skip
    """Write what the group's gradients are multiplied by (GRAD-010, 011, 013, 015).

    ``tape`` is as RevGRU's; its pieces: of ``c`` in the pre-activations of f, i, g; of ``h`` in
    those of o, p; of ``h`` in ``c``; the parts of ``c`` and ``h`` that are kept; the view.
    """
    rows, units = f.shape
    gate, state = f32(2.0**-15), f32(2.0 ** -plan[STATE_BITS])
    operand, tenth = f32(2.0 ** -plan[VIEW_BITS]), f32(2.0**-10)
    limit = f32(1.0 - 2.0 ** -plan[FORGET_BITS]) if plan[FORGET_BITS] else f32(1)
    factor, term, by = i32(plan[GATE_FACTOR]), i32(plan[GATE_TERM]), plan[GATE_SHIFT]
    forgetting = plan[FORGETTING] != 0
    for b in range(rows):
        at = base + b * units
        on = f32(active[b])
        for i in range(units):
            ii, gg, oo = f32(y[b, 1, i]) * gate, f32(y[b, 2, i]) * gate, f32(y[b, 3, i]) * gate
            tt = f32(t[b, i]) * gate
            tape[size + at + i] = gg * (ii - ii * ii) * on
            tape[2 * size + at + i] = ii * (f32(1) - gg * gg) * on
            tape[3 * size + at + i] = tt * (oo - oo * oo) * on
            tape[5 * size + at + i] = oo * (f32(1) - tt * tt) * on
            tape[8 * size + at + i] = f32(view[b * by_row + i]) * operand
        for i in range(units):
            if forgetting:
                for q in range(2):
                    s = y[b, 0, i] if q == 0 else y[b, 4, i]
                    kept = f[b, i] if q == 0 else p[b, i]
                    old = c[b, i] if q == 0 else h[b, i]
                    sigma = f32(s) * gate
                    slope = (sigma - sigma * sigma) * limit
                    slope = f32(0) if sar(i32(i32(s * factor) + term), by) != kept else slope
                    tape[(0 if q == 0 else 4) * size + at + i] = f32(old) * state * slope * on
                    tape[(6 + q) * size + at + i] = f32(kept) * tenth if active[b] else f32(1)
            else:
                tape[6 * size + at + i] = f32(1)
                tape[7 * size + at + i] = f32(1)


LSTM_PIECES: Final = 9
