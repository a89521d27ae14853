"""RevLSTM's kernels that recover a group's old state and write its tape.

``lstm_unhide`` undoes ``h`` (CELL-022), ``lstm_uncell`` ``c`` (CELL-021), when the head, which both
operations use, has its word again. The planes of the tape: v, passes, keep of h, keep of c, of h in
c, and the factors of f, i, g, o, p (GRAD-010, 011, 013).
"""

import triton
import triton.language as tl

from .arithmetic import (
    clip_gate,
    floor_divide,
    gate_slope,
    real,
    round_shift,
    sigmoid_fixed,
    tanh_fixed,
    unclipped_gate,
)
from .lstm import gate_sums
from .tiles import RUNTIME, deliver, operand_of, publish, put, rows_with_step
from .words import pop_tile, refill_tile


@triton.jit(do_not_specialize=RUNTIME)
def lstm_unhide(
    t,
    layer,
    J,
    slots,
    op,
    depth,
    last_op,
    last_t,
    part,
    mask,
    gains,
    wh,
    wl,
    table,
    high,
    low,
    sigmas,
    changes,
    h,
    c,
    heads,
    counts,
    words,
    tops,
    restore,
    outputs,
    lower,
    tape,
    past_h,
    past_c,
    B,
    Bp,
    C,
    G: tl.constexpr,
    Gp: tl.constexpr,
    FIRST: tl.constexpr,
    GAINS: tl.constexpr,
    MASK: tl.constexpr,
    R_S: tl.constexpr,
    R_H: tl.constexpr,
    SHIFT: tl.constexpr,
    XS: tl.constexpr,
    VIEW: tl.constexpr,
    LIMIT: tl.constexpr,
    P_MAX: tl.constexpr,
    FORGET: tl.constexpr,
    STORED: tl.constexpr,
    CP: tl.constexpr,
    NP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Recover a group's old ``h``, or look it up; without forgetting, also its old ``c``."""
    NT: tl.constexpr = Gp // BN
    tile = tl.program_id(0) % NT
    first_row = (tl.program_id(0) // NT) * BM
    rows = first_row + tl.arange(0, BM)
    units = tile * BN + tl.arange(0, BN)
    at = rows[:, None] * Gp + units[None, :]
    own = 2 * layer + J
    sf, si, sg, so, sp = gate_sums(
        t,
        layer,
        J,
        slots,
        part,
        wh,
        wl,
        high,
        low,
        rows,
        units,
        B,
        Bp,
        G,
        Gp,
        FIRST,
        GAINS,
        XS,
        FORGET,
        BM,
        BN,
        BK,
    )
    has_step = rows_with_step(mask, t, rows, B, MASK)[:, None] & (units < G)[None, :]
    inside = (rows < B)[:, None] & (units < G)[None, :]
    step = tl.where(has_step, 1.0, 0.0)
    i = sigmoid_fixed(si, table, R_S)
    g = tanh_fixed(sg, table, R_S)
    o = sigmoid_fixed(so, table, R_S)
    new = tl.load(h + own * Bp * Gp + at)
    new_c = tl.load(c + own * Bp * Gp + at)
    tan = tanh_fixed(new_c, table, R_H)
    c_change = round_shift(i * g, 30 - R_H)
    deliver(
        outputs, lower, gains, new, t, layer, J, slots, rows, units, B, C, G, Gp, SHIFT, VIEW, GAINS
    )
    past = ((tl.cast(t, tl.int64) * slots + own) * B + rows[:, None]) * G + units[None, :]
    if STORED:
        old = tl.load(past_h + past, mask=inside, other=0)
    else:
        old = new - round_shift(o * tan, 30 - R_H)
    if FORGET:
        sigma_p = sigmoid_fixed(sp, table, R_S)
        p = clip_gate(unclipped_gate(sigma_p, LIMIT), P_MAX)
        if not STORED:
            head = tl.load(heads + at)
            if last_op >= 0:
                had = rows_with_step(mask, last_t, rows, B, MASK)[:, None] & (units < G)[None, :]
                head = refill_tile(
                    head,
                    had,
                    tile,
                    first_row,
                    last_op,
                    rows,
                    counts,
                    words,
                    tops,
                    Bp,
                    Gp,
                    BN,
                    CP,
                    NP,
                )
            a = floor_divide(old, p)
            active = has_step & (units >= depth)[None, :]
            digit, head = pop_tile(
                head, old - a * p, p, active, tile, op + 1, rows, counts, Bp, Gp, BN
            )
            tl.store(heads + at, head)
            old = (a << 10) + digit
            sliced = inside & (units < depth)[None, :]
            where = (t * B + rows)[:, None] * depth + units[None, :]
            old = tl.where(sliced, tl.load(restore + where, mask=sliced, other=0), old)
        pf = real(p, 10)
        put(tape, 2, tl.where(has_step, pf, 1.0), own, t, rows, units, B, C, 10, Gp)
    if not STORED:
        old = tl.where(has_step, old, new)
    publish(
        h, high, low, gains, old, t - 1, layer, J, slots, rows, units, B, Bp, G, Gp, SHIFT, GAINS
    )
    i_f, g_f, o_f, t_f = real(i, 15), real(g, 15), real(o, 15), real(tan, 15)
    v, passes = operand_of(tl.load(h + (own ^ 1) * Bp * Gp + at), SHIFT)
    put(tape, 0, real(v, VIEW), own, t, rows, units, B, C, 10, Gp)
    put(tape, 1, tl.where(passes, 1.0, 0.0), own, t, rows, units, B, C, 10, Gp)
    put(tape, 4, o_f * (1.0 - t_f * t_f) * step, own, t, rows, units, B, C, 10, Gp)
    put(tape, 6, g_f * (i_f - i_f * i_f) * step, own, t, rows, units, B, C, 10, Gp)
    put(tape, 7, i_f * (1.0 - g_f * g_f) * step, own, t, rows, units, B, C, 10, Gp)
    put(tape, 8, t_f * (o_f - o_f * o_f) * step, own, t, rows, units, B, C, 10, Gp)
    if FORGET:
        slope = gate_slope(sigma_p, LIMIT, P_MAX)
        put(tape, 9, real(old, R_H) * slope * step, own, t, rows, units, B, C, 10, Gp)
        tl.store(sigmas + at, sigmoid_fixed(sf, table, R_S))
        tl.store(changes + at, c_change)
    else:
        if STORED:
            old_c = tl.load(past_c + past, mask=inside, other=0)
        else:
            old_c = tl.where(has_step, new_c - c_change, new_c)
        tl.store(c + own * Bp * Gp + at, old_c)


@triton.jit(do_not_specialize=RUNTIME)
def lstm_uncell(
    t,
    layer,
    J,
    slots,
    op,
    depth,
    mask,
    sigmas,
    changes,
    c,
    heads,
    counts,
    words,
    tops,
    tape,
    past_c,
    B,
    Bp,
    C,
    G: tl.constexpr,
    Gp: tl.constexpr,
    MASK: tl.constexpr,
    R_H: tl.constexpr,
    LIMIT: tl.constexpr,
    Z_MAX: tl.constexpr,
    STORED: tl.constexpr,
    CP: tl.constexpr,
    NP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Recover a group's old ``c``, when the head has the word that ``h`` wanted."""
    NT: tl.constexpr = Gp // BN
    tile = tl.program_id(0) % NT
    first_row = (tl.program_id(0) // NT) * BM
    rows = first_row + tl.arange(0, BM)
    units = tile * BN + tl.arange(0, BN)
    at = rows[:, None] * Gp + units[None, :]
    own = 2 * layer + J
    has_step = rows_with_step(mask, t, rows, B, MASK)[:, None] & (units < G)[None, :]
    inside = (rows < B)[:, None] & (units < G)[None, :]
    sigma = tl.load(sigmas + at)
    f = clip_gate(unclipped_gate(sigma, LIMIT), Z_MAX)
    new = tl.load(c + own * Bp * Gp + at)
    if STORED:
        past = ((tl.cast(t, tl.int64) * slots + own) * B + rows[:, None]) * G + units[None, :]
        old = tl.load(past_c + past, mask=inside, other=0)
    else:
        active = has_step & (units >= depth)[None, :]
        head = refill_tile(
            tl.load(heads + at),
            active,
            tile,
            first_row,
            op + 1,
            rows,
            counts,
            words,
            tops,
            Bp,
            Gp,
            BN,
            CP,
            NP,
        )
        old = new - tl.load(changes + at)
        a = floor_divide(old, f)
        digit, head = pop_tile(head, old - a * f, f, has_step, tile, op, rows, counts, Bp, Gp, BN)
        tl.store(heads + at, head)
        old = tl.where(has_step, (a << 10) + digit, new)
    tl.store(c + own * Bp * Gp + at, old)
    step = tl.where(has_step, 1.0, 0.0)
    slope = gate_slope(sigma, LIMIT, Z_MAX)
    put(tape, 3, tl.where(has_step, real(f, 10), 1.0), own, t, rows, units, B, C, 10, Gp)
    put(tape, 5, real(old, R_H) * slope * step, own, t, rows, units, B, C, 10, Gp)
