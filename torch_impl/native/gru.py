"""RevGRU's gates and the factors of its gradients, for some rows of one group (CELL, GRAD).

``plan`` holds the numbers that :func:`.work.numbers` makes of a configuration.
"""

from __future__ import annotations

from typing import Final

from .arithmetic import sigmoid, tanh
from .compiling import Array, f32, i32, i64, native, round_shift, sar

# Places in the plan, int64.
SUM_BITS: Final = 0
STATE_BITS: Final = 1
VIEW_BITS: Final = 2
GATE_FACTOR: Final = 3  # of ACT-004: (σ·factor + term) >> shift
GATE_TERM: Final = 4
GATE_SHIFT: Final = 5
Z_MAX: Final = 6
FORGETTING: Final = 7
INPUT_SHIFT: Final = 8  # PROD-004, of layer 0, of the layers above and of views
LAYER_SHIFT: Final = 9
VIEW_SHIFT: Final = 10
SLICES: Final = 11
FORGET_BITS: Final = 12  # the limit, 0 without one
P_MAX: Final = 13
NUMBERS: Final = 14


@native
def gates_zr(
    sums: Array, width: int, parts: Array, at: int, view: Array, by_row: int, plan: Array,
    table: Array, z: Array, r: Array, sigma: Array, u: Array,
) -> None:  # fmt: skip
    """Write gates z and r, the sigmoid of z, and the candidate's operand (CELL-010, CELL-011).

    Args:
        sums: recurrent sums, int32, flat.
        width: their row length.
        parts: the other sums, int64 ``[R, …]``.
        at: their first column.
        view: int16, flat.
        by_row: its row length.
        plan: numbers of the configuration.
        table: of tanh.
        z: int32 ``[R, G]``, as are ``r`` and ``sigma``.
        r: see ``z``.
        sigma: see ``z``.
        u: int16, flat, of row length ``by_row``.
    """
    rows, units = z.shape
    bits, top = plan[SUM_BITS], i32(plan[Z_MAX])
    factor, term, shift = i32(plan[GATE_FACTOR]), i32(plan[GATE_TERM]), plan[GATE_SHIFT]
    for b in range(rows):
        for i in range(units):
            y = sigmoid(i64(sums[b * width + i]) + parts[b, at + i], bits, table)
            sigma[b, i] = y
            gate = sar(i32(i32(y * factor) + term), shift)
            z[b, i] = i32(min(max(gate, i32(1)), top))
        for i in range(units):
            s = i64(sums[b * width + units + i]) + parts[b, at + units + i]
            y = sigmoid(s, bits, table)
            r[b, i] = y
            u[b * by_row + i] = round_shift(i32(y * i32(view[b * by_row + i])), 15)


@native
def candidate(
    sums: Array, width: int, parts: Array, at: int, plan: Array, table: Array, z: Array,
    g: Array, change: Array,
) -> None:  # fmt: skip
    """Write the candidate and what is added to ``h`` (CELL-011, CELL-012)."""
    rows, units = z.shape
    bits, shift = plan[SUM_BITS], 25 - plan[STATE_BITS]
    for b in range(rows):
        for i in range(units):
            s = i64(sums[b * width + i]) + parts[b, at + 2 * units + i]
            y = tanh(s, bits, table)
            g[b, i] = y
            change[b, i] = round_shift(i32(i32(1024 - z[b, i]) * y), shift)


@native
def factors(
    z: Array, r: Array, g: Array, sigma: Array, view: Array, u: Array, by_row: int, h: Array,
    active: Array, plan: Array, tape: Array, base: int, size: int,
) -> None:  # fmt: skip
    """Write what the group's gradients are multiplied by (GRAD-010 … GRAD-012, GRAD-015).

    ``tape`` is float32, flat: pieces of ``size`` numbers one after the other, in each ``[R, G]``
    from ``base`` on: of ``h`` in z's and g's pre-activations, the part of ``h`` that is kept, r,
    of ``u`` in r's pre-activation, the view, u.
    """
    rows, units = z.shape
    gate, state = f32(2.0**-15), f32(2.0 ** -plan[STATE_BITS])
    operand, tenth = f32(2.0 ** -plan[VIEW_BITS]), f32(2.0**-10)
    limit = f32(1.0 - 2.0 ** -plan[FORGET_BITS]) if plan[FORGET_BITS] else f32(1)
    factor, term, shift = i32(plan[GATE_FACTOR]), i32(plan[GATE_TERM]), plan[GATE_SHIFT]
    forgetting = plan[FORGETTING] != 0
    for b in range(rows):
        at = base + b * units
        on = f32(active[b])
        for i in range(units):
            gg, zz, y = f32(g[b, i]) * gate, f32(z[b, i]) * tenth, f32(sigma[b, i]) * gate
            rr = f32(r[b, i]) * gate
            clipped = sar(i32(i32(sigma[b, i] * factor) + term), shift) != z[b, i]
            slope = (y - y * y) * limit
            slope = f32(0) if clipped else slope
            own = f32(h[b, i]) * state - gg if forgetting else -gg
            v = f32(view[b * by_row + i]) * operand
            tape[at + i] = own * slope * on
            tape[size + at + i] = (f32(1) - zz) * (f32(1) - gg * gg) * on
            tape[2 * size + at + i] = zz if active[b] and forgetting else f32(1)
            tape[3 * size + at + i] = rr
            tape[4 * size + at + i] = v * (rr - rr * rr)
            tape[5 * size + at + i] = v
            tape[6 * size + at + i] = f32(u[b * by_row + i]) * operand


GRU_PIECES: Final = 7
