"""RevGRU's gates and the factors of its gradients, for some rows of one group (CELL, GRAD).

``plan`` holds the numbers that :func:`.work.numbers` makes of a configuration.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .arithmetic import clip, forget_gates, forget_slopes, reals, tanh, to_sigmoid
from .compiling import Array, f32, i32, native, round_shift

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
    table: Array, z: Array, y: Array, u: Array,
) -> None:  # fmt: skip
    """Write gate z, the sigmoids of z and r, and the candidate's operand (CELL-010, CELL-011).

    Args:
        sums: recurrent sums, int32, flat.
        width: their row length.
        parts: the other sums, int64 ``[R, …]``.
        at: their first column.
        view: int16, flat.
        by_row: its row length.
        plan: numbers of the configuration.
        table: of tanh.
        z: int32 ``[R, G]``.
        y: int32 ``[R, 2·G]``: the sigmoid that z is made of, and r.
        u: int16, flat, of row length ``by_row``.
    """
    rows, units = z.shape
    bits = plan[SUM_BITS] + 1  # a sigmoid is tanh of half of its argument
    c, pairs = np.empty(2 * units, np.int32), np.empty(2 * units, np.int32)
    for b in range(rows):
        one = y[b]
        clip(sums[b * width :], parts[b, at:], 0, bits, c, pairs)
        tanh(c, pairs, bits, table, one)
        to_sigmoid(one)
        forget_gates(one, plan[GATE_FACTOR], plan[GATE_TERM], plan[GATE_SHIFT], plan[Z_MAX], z[b])
        reset(one[units:], view[b * by_row :], u[b * by_row :])


@native
def reset(r: Array, view: Array, u: Array) -> None:
    """Write the candidate's operand (CELL-011)."""
    for i in range(r.size):
        u[i] = round_shift(i32(r[i] * i32(view[i])), 15)


@native
def candidate(
    sums: Array, width: int, parts: Array, at: int, plan: Array, table: Array, z: Array,
    g: Array, change: Array,
) -> None:  # fmt: skip
    """Write the candidate and what is added to ``h`` (CELL-011, CELL-012)."""
    rows, units = z.shape
    bits, shift = plan[SUM_BITS], 25 - plan[STATE_BITS]
    c, pairs = np.empty(units, np.int32), np.empty(units, np.int32)
    for b in range(rows):
        clip(sums[b * width :], parts[b, at + 2 * units :], 0, bits, c, pairs)
        tanh(c, pairs, bits, table, g[b])
        own_change(z[b], g[b], shift, change[b])


@native
def own_change(z: Array, g: Array, shift: int, change: Array) -> None:
    """Write what is added to ``h`` (CELL-012)."""
    for i in range(z.size):
        change[i] = round_shift(i32(i32(1024 - z[i]) * g[i]), shift)


@native
def factors(
    z: Array, g: Array, y: Array, view: Array, u: Array, by_row: int, h: Array, active: Array,
    plan: Array, tape: Array, base: int, size: int,
) -> None:  # fmt: skip
    """Write what the group's gradients are multiplied by (GRAD-010 … GRAD-012, GRAD-015).

    ``tape`` is float32, flat: pieces of ``size`` numbers one after the other, in each ``[R, G]``
    from ``base`` on: of ``h`` in z's and g's pre-activations, the part of ``h`` that is kept, r,
    of ``u`` in r's pre-activation, the view, u.
    """
    rows, units = z.shape
    state, operand = f32(2.0 ** -plan[STATE_BITS]), f32(2.0 ** -plan[VIEW_BITS])
    gate, own = f32(2.0**-15), np.empty(units, np.float32)
    forgetting = plan[FORGETTING] != 0
    for b in range(rows):
        at, on = base + b * units, f32(active[b])
        difference(h[b], state if forgetting else f32(0), g[b], own)
        forget_slopes(
            y[b], z[b], own, plan[GATE_FACTOR], plan[GATE_TERM], plan[GATE_SHIFT],
            plan[FORGET_BITS], f32(1), on, tape[at : at + units],
        )  # fmt: skip
        candidate_slopes(z[b], g[b], on, tape[size + at : size + at + units])
        kept = tape[2 * size + at : 2 * size + at + units]
        if forgetting and active[b]:
            reals(z[b], f32(2.0**-10), kept)
        else:
            kept[:] = f32(1)
        r, to_r = tape[3 * size + at : 3 * size + at + units], tape[4 * size + at :]
        v = tape[5 * size + at : 5 * size + at + units]
        reals(y[b, units:], gate, r)
        reals(view[b * by_row :], operand, v)
        reset_slopes(r, v, to_r)
        reals(u[b * by_row :], operand, tape[6 * size + at : 6 * size + at + units])


@native
def difference(h: Array, unit: float, g: Array, out: Array) -> None:
    """Write ``h·unit − g``."""
    by = f32(unit)
    for i in range(out.size):
        out[i] = f32(h[i]) * by - f32(g[i]) * f32(2.0**-15)


@native
def candidate_slopes(z: Array, g: Array, on: float, out: Array) -> None:
    """Write the derivatives of ``h`` by g's pre-activation."""
    for i in range(out.size):
        gg = f32(g[i]) * f32(2.0**-15)
        out[i] = (f32(1) - f32(z[i]) * f32(2.0**-10)) * (f32(1) - gg * gg) * f32(on)


@native
def reset_slopes(r: Array, v: Array, out: Array) -> None:
    """Write the derivatives of ``u`` by r's pre-activation."""
    for i in range(r.size):
        out[i] = v[i] * (r[i] - r[i] * r[i])


GRU_PIECES: Final = 7
