"""RevGRU's kernel that recovers a group's old state and writes its tape.

The planes of the tape: v, passes, keep, and the factors of z, g, u, r, and of u in r (GRAD-010 to
012).
"""

import triton
import triton.language as tl

from .arithmetic import (
    clip_gate,
    floor_divide,
    gate_slope,
    load_operand,
    real,
    round_shift,
    unclipped_gate,
)
from .gru import candidate
from .tiles import RUNTIME, deliver, operand_of, publish, put, rows_with_step
from .words import pop_tile


@triton.jit(do_not_specialize=RUNTIME)
def gru_unstate(
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
    sigmas,
    resets,
    h,
    heads,
    counts,
    restore,
    outputs,
    lower,
    tape,
    past_h,
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
    VIEW: tl.constexpr,
    LIMIT: tl.constexpr,
    Z_MAX: tl.constexpr,
    FORGET: tl.constexpr,
    STORED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Recover a group's old state (CELL-040), or look it up, and write the tape."""
    NT: tl.constexpr = Gp // BN
    tile = tl.program_id(0) % NT
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = tile * BN + tl.arange(0, BN)
    at = rows[:, None] * Gp + units[None, :]
    own = 2 * layer + J
    g = candidate(
        t,
        layer,
        J,
        slots,
        part,
        wh,
        wl,
        table,
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
        R_S,
        BM,
        BN,
        BK,
    )
    sigma = tl.load(sigmas + at)
    z = clip_gate(unclipped_gate(sigma, LIMIT), Z_MAX)
    has_step = rows_with_step(mask, t, rows, B, MASK)[:, None] & (units < G)[None, :]
    inside = (rows < B)[:, None] & (units < G)[None, :]
    new = tl.load(h + own * Bp * Gp + at)
    deliver(
        outputs, lower, gains, new, t, layer, J, slots, rows, units, B, C, G, Gp, SHIFT, VIEW, GAINS
    )
    if STORED:
        row = tl.cast(t, tl.int64) * slots + own
        old = tl.load(past_h + (row * B + rows[:, None]) * G + units[None, :], mask=inside, other=0)
    else:
        old = new - round_shift((1024 - z) * g, 25 - R_H)
        if FORGET:
            a = floor_divide(old, z)
            active = has_step & (units >= depth)[None, :]
            digit, head = pop_tile(
                tl.load(heads + at), old - a * z, z, active, tile, op, rows, counts, Bp, Gp, BN
            )
            tl.store(heads + at, head)
            old = (a << 10) + digit
            sliced = inside & (units < depth)[None, :]
            where = (t * B + rows)[:, None] * depth + units[None, :]
            old = tl.where(sliced, tl.load(restore + where, mask=sliced, other=0), old)
        old = tl.where(has_step, old, new)
    publish(
        h, high, low, gains, old, t - 1, layer, J, slots, rows, units, B, Bp, G, Gp, SHIFT, GAINS
    )
    other_h = tl.load(h + (own ^ 1) * Bp * Gp + at)
    v, passes = operand_of(other_h, SHIFT)
    gf = real(g, 15)
    zf = real(z, 10)
    part_of_z = -gf
    if FORGET:
        part_of_z += real(old, R_H)
    step = tl.where(has_step, 1.0, 0.0)
    r = real(tl.load(resets + at), 15)
    planes = 2 * slots if GAINS else slots
    u = load_operand(high, low, planes * Bp * Gp + at)
    vf = real(v, VIEW)
    put(tape, 0, vf, own, t, rows, units, B, C, 8, Gp)
    put(tape, 1, tl.where(passes, 1.0, 0.0), own, t, rows, units, B, C, 8, Gp)
    put(tape, 2, tl.where(has_step, zf, 1.0), own, t, rows, units, B, C, 8, Gp)
    slope = gate_slope(sigma, LIMIT, Z_MAX)
    put(tape, 3, part_of_z * slope * step, own, t, rows, units, B, C, 8, Gp)
    put(tape, 4, (1.0 - zf) * (1.0 - gf * gf) * step, own, t, rows, units, B, C, 8, Gp)
    put(tape, 5, real(u, VIEW), own, t, rows, units, B, C, 8, Gp)
    put(tape, 6, r, own, t, rows, units, B, C, 8, Gp)
    put(tape, 7, vf * (r - r * r), own, t, rows, units, B, C, 8, Gp)
