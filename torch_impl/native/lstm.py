"""RevLSTM's gates and the factors of its gradients, for some rows of one group (CELL, GRAD).

Gates lie side by side in their order: f, i, g, o, p, or i, g, o without forgetting (CELL-002).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .arithmetic import (
    clip,
    clip_state,
    forget_gates,
    forget_slopes,
    reals,
    tanh,
    to_sigmoid,
)
from .compiling import Array, f32, i32, i64, native, round_shift
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
        y: sigmoids of f, i, o, p and tanh of g, int32 ``[R, 5·G]``.
        change: int32 ``[R, G]``.
    """
    rows, units = f.shape
    bits = plan[SUM_BITS] + 1  # a sigmoid is tanh of half of its argument
    left, shift = plan[VIEW_SHIFT], 30 - plan[STATE_BITS]
    count = 5 if plan[FORGETTING] else 3
    skip = (5 - count) // 2 * units
    factor, term, by = plan[GATE_FACTOR], plan[GATE_TERM], plan[GATE_SHIFT]
    c, pairs = np.empty(count * units, np.int32), np.empty(count * units, np.int32)
    for b in range(rows):
        for q in range(count):
            n, g = q * units, q * units + skip == 2 * units
            # tanh(s, R) is tanh(2·s, R + 1), so that g goes with the others.
            doubled(
                sums[b * width + n :], parts[b, at + n :], left, i64(g), bits,
                c[n : n + units], pairs[n : n + units],
            )  # fmt: skip
        one = y[b, skip : skip + count * units]
        tanh(c, pairs, bits, table, one)
        to_sigmoid(y[b, skip : 2 * units])
        to_sigmoid(y[b, 3 * units : skip + count * units])
        if count == 5:
            forget_gates(y[b], factor, term, by, plan[Z_MAX], f[b])
            forget_gates(y[b, 4 * units :], factor, term, by, plan[P_MAX], p[b])  # FMT-007
        product(y[b, units : 2 * units], y[b, 2 * units :], shift, change[b])


@native
def doubled(
    sums: Array, parts: Array, left: int, more: int, bits: int, c: Array, pairs: Array
) -> None:
    """Do as :func:`.arithmetic.clip`, of a sum that is shifted left by ``more`` in the end."""
    if not more:
        clip(sums, parts, left, bits, c, pairs)
        return
    clip(sums, parts, left, bits - 1, c, pairs)
    for i in range(c.size):
        c[i] = i32(c[i] << 1)


@native
def product(a: Array, b: Array, shift: int, out: Array) -> None:
    """Write rounded products of gates (CELL-021, CELL-022)."""
    for i in range(out.size):
        out[i] = round_shift(i32(a[i] * b[i]), shift)


@native
def hidden_change(c: Array, y: Array, plan: Array, table: Array, t: Array, change: Array) -> None:
    """Write ``tanh(c)`` and what is added to ``h`` (CELL-022)."""
    rows, units = c.shape
    bits, shift = plan[STATE_BITS], 30 - plan[STATE_BITS]
    clipped, pairs = np.empty(units, np.int32), np.empty(units, np.int32)
    for b in range(rows):
        clip_state(c[b], bits, clipped, pairs)
        tanh(clipped, pairs, bits, table, t[b])
        product(y[b, 3 * units :], t[b], shift, change[b])


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
    state, operand = f32(2.0 ** -plan[STATE_BITS]), f32(2.0 ** -plan[VIEW_BITS])
    factor, term, by = plan[GATE_FACTOR], plan[GATE_TERM], plan[GATE_SHIFT]
    limit, tenth, real = plan[FORGET_BITS], f32(2.0**-10), np.empty(units, np.float32)
    for b in range(rows):
        at, on = base + b * units, f32(active[b])
        i, g, o = y[b, units : 2 * units], y[b, 2 * units :], y[b, 3 * units :]
        slopes(g, i, True, on, tape[size + at : size + at + units])
        slopes(i, g, False, on, tape[2 * size + at : 2 * size + at + units])
        slopes(t[b], o, True, on, tape[3 * size + at : 3 * size + at + units])
        slopes(o, t[b], False, on, tape[5 * size + at : 5 * size + at + units])
        kept_c = tape[6 * size + at : 6 * size + at + units]
        kept_h = tape[7 * size + at : 7 * size + at + units]
        kept_c[:] = f32(1)
        kept_h[:] = f32(1)
        if plan[FORGETTING]:
            reals(c[b], state, real)
            forget_slopes(
                y[b], f[b], real, factor, term, by, limit, f32(1), on, tape[at : at + units]
            )
            reals(h[b], state, real)
            forget_slopes(
                y[b, 4 * units :], p[b], real, factor, term, by, limit, f32(1), on,
                tape[4 * size + at : 4 * size + at + units],
            )  # fmt: skip
            if active[b]:
                reals(f[b], tenth, kept_c)
                reals(p[b], tenth, kept_h)
        reals(view[b * by_row :], operand, tape[8 * size + at : 8 * size + at + units])


@native
def slopes(a: Array, b: Array, sigmoid: bool, on: float, out: Array) -> None:
    """Write ``a`` times the derivative of a sigmoid, or of tanh, by its value ``b``."""
    whole = f32(0) if sigmoid else f32(1)
    linear = f32(1) if sigmoid else f32(0)
    for i in range(out.size):
        y = f32(b[i]) * f32(2.0**-15)
        out[i] = f32(a[i]) * f32(2.0**-15) * (whole + linear * y - y * y) * f32(on)


LSTM_PIECES: Final = 9
