"""RevLSTM's forward kernel: all gates come from the other group's view (CELL-020)."""

import triton
import triton.language as tl

from .arithmetic import (
    clip_gate,
    multiply,
    round_shift,
    sigmoid_fixed,
    source,
    tanh_fixed,
    together,
    unclipped_gate,
)
from .tiles import RUNTIME, add_input, publish, rows_with_step
from .words import push_tile


@triton.jit
def gate_sums(
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
    G: tl.constexpr,
    Gp: tl.constexpr,
    FIRST: tl.constexpr,
    GAINS: tl.constexpr,
    XS: tl.constexpr,
    FORGET: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Return the pre-activations of f, i, g, o, p, int64; without forgetting f and p are i and o.

    One pass over the operand serves all gates.
    """
    LENGTH: tl.constexpr = Gp if FIRST else 3 * Gp
    N: tl.constexpr = 5 if FORGET else 3
    INPUT: tl.constexpr = 1 if FORGET else 0
    other = 2 * layer + 1 - J
    below = 2 * layer - 2
    if GAINS:
        below += slots
    zero = tl.zeros((BM, BN), tl.int32)
    f_hh, f_mid, f_ll = zero, zero, zero
    i_hh, i_mid, i_ll = zero, zero, zero
    g_hh, g_mid, g_ll = zero, zero, zero
    o_hh, o_mid, o_ll = zero, zero, zero
    p_hh, p_mid, p_ll = zero, zero, zero
    ks = tl.arange(0, BK)
    gap = Gp * LENGTH
    for k in range(0, LENGTH, BK):
        slot = source(k, other, below, Gp, FIRST)
        a_at = (slot * Bp + rows)[:, None] * Gp + (k % Gp + ks)[None, :]
        a_h = tl.load(high + a_at)
        a_l = tl.load(low + a_at)
        w = (J * N * Gp + units)[None, :] * LENGTH + (k + ks)[:, None]
        i_hh, i_mid, i_ll = multiply(i_hh, i_mid, i_ll, a_h, a_l, wh, wl, w + INPUT * gap)
        g_hh, g_mid, g_ll = multiply(g_hh, g_mid, g_ll, a_h, a_l, wh, wl, w + (INPUT + 1) * gap)
        o_hh, o_mid, o_ll = multiply(o_hh, o_mid, o_ll, a_h, a_l, wh, wl, w + (INPUT + 2) * gap)
        if FORGET:
            f_hh, f_mid, f_ll = multiply(f_hh, f_mid, f_ll, a_h, a_l, wh, wl, w)
            p_hh, p_mid, p_ll = multiply(p_hh, p_mid, p_ll, a_h, a_l, wh, wl, w + 4 * gap)
    i = add_input(
        together(i_hh, i_mid, i_ll), part, t, J, INPUT, rows, units, B, G, Gp, N, FIRST, XS
    )
    g = add_input(
        together(g_hh, g_mid, g_ll), part, t, J, INPUT + 1, rows, units, B, G, Gp, N, FIRST, XS
    )
    o = add_input(
        together(o_hh, o_mid, o_ll), part, t, J, INPUT + 2, rows, units, B, G, Gp, N, FIRST, XS
    )
    f = i
    p = o
    if FORGET:
        f = add_input(
            together(f_hh, f_mid, f_ll), part, t, J, 0, rows, units, B, G, Gp, N, FIRST, XS
        )
        p = add_input(
            together(p_hh, p_mid, p_ll), part, t, J, 4, rows, units, B, G, Gp, N, FIRST, XS
        )
    return f, i, g, o, p


@triton.jit(do_not_specialize=RUNTIME)
def lstm_state(
    t,
    layer,
    J,
    slots,
    op,
    depth,
    part,
    mask,
    gains,
    wh,
    wl,
    table,
    high,
    low,
    h,
    c,
    heads,
    stage,
    counts,
    wraps,
    outputs,
    past_h,
    past_c,
    B,
    Bp,
    G: tl.constexpr,
    Gp: tl.constexpr,
    FIRST: tl.constexpr,
    GAINS: tl.constexpr,
    MASK: tl.constexpr,
    R_S: tl.constexpr,
    R_H: tl.constexpr,
    SHIFT: tl.constexpr,
    XS: tl.constexpr,
    LIMIT: tl.constexpr,
    Z_MAX: tl.constexpr,
    P_MAX: tl.constexpr,
    FORGET: tl.constexpr,
    KEEP: tl.constexpr,
    WRAPS: tl.constexpr,
    RECORD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Compute a group's new ``c`` and ``h``, push twice, and publish ``h``."""
    NT: tl.constexpr = Gp // BN
    tile = tl.program_id(0) % NT
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
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
    old_c = tl.load(c + own * Bp * Gp + at)
    old_h = tl.load(h + own * Bp * Gp + at)
    c_change = round_shift(
        sigmoid_fixed(si, table, R_S) * tanh_fixed(sg, table, R_S), 30 - R_H
    )  # CELL-021
    kept = old_c  # CELL-031
    if FORGET:
        head = tl.load(heads + at)
        f = clip_gate(unclipped_gate(sigmoid_fixed(sf, table, R_S), LIMIT), Z_MAX)
        residue, head = push_tile(
            head, old_c & 1023, f, has_step, tile, op, rows, stage, counts, Bp, Gp, BN, KEEP
        )
        kept = (old_c >> 10) * f + tl.where(has_step, residue, 0)
    total = kept + c_change
    if WRAPS:
        wrapped = has_step & (((kept ^ total) & (c_change ^ total)) < 0)
        tl.atomic_add(wraps, tl.sum(wrapped.to(tl.int32)))
    new_c = tl.where(has_step, total, old_c)
    tl.store(c + own * Bp * Gp + at, new_c)
    h_change = round_shift(
        sigmoid_fixed(so, table, R_S) * tanh_fixed(new_c, table, R_H), 30 - R_H
    )  # CELL-022
    kept = old_h
    if FORGET:
        p = clip_gate(unclipped_gate(sigmoid_fixed(sp, table, R_S), LIMIT), P_MAX)
        active = has_step & (units >= depth)[None, :]
        residue, head = push_tile(
            head, old_h & 1023, p, active, tile, op + 1, rows, stage, counts, Bp, Gp, BN, KEEP
        )
        tl.store(heads + at, head)
        kept = (old_h >> 10) * p + tl.where(active, residue, 0)
    total = kept + h_change
    if WRAPS:
        wrapped = has_step & (((kept ^ total) & (h_change ^ total)) < 0)
        tl.atomic_add(wraps, tl.sum(wrapped.to(tl.int32)))
    new = tl.where(has_step, total, old_h)
    publish(h, high, low, gains, new, t, layer, J, slots, rows, units, B, Bp, G, Gp, SHIFT, GAINS)
    inside = (rows < B)[:, None] & (units < G)[None, :]
    if own >= slots - 2:
        tl.store(outputs + ((t * B + rows) * 2 + J)[:, None] * G + units[None, :], new, mask=inside)
    if RECORD:
        row = tl.cast(t + 1, tl.int64) * slots + own
        where = (row * B + rows[:, None]) * G + units[None, :]
        tl.store(past_h + where, new, mask=inside)
        tl.store(past_c + where, new_c, mask=inside)
