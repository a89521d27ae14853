"""RevGRU's kernels: a group's update is two, with an exchange between all units after each.

``gru_gates`` gives z's sigmoid and ``u`` (CELL-010, 011), forward and back; ``gru_state`` the
candidate and the new state (CELL-012).
"""

import triton
import triton.language as tl

from .arithmetic import (
    clip_gate,
    load_operand,
    product,
    round_shift,
    sigmoid_fixed,
    store_bytes,
    tanh_fixed,
    unclipped_gate,
)
from .tiles import RUNTIME, add_input, publish, rows_with_step
from .words import push_tile, refill_tile


@triton.jit(do_not_specialize=RUNTIME)
def gru_gates(
    t,
    layer,
    J,
    slots,
    last_op,
    last_t,
    last_depth,
    part,
    mask,
    wh,
    wl,
    table,
    high,
    low,
    sigmas,
    resets,
    heads,
    counts,
    words,
    tops,
    B,
    Bp,
    G: tl.constexpr,
    Gp: tl.constexpr,
    FIRST: tl.constexpr,
    GAINS: tl.constexpr,
    MASK: tl.constexpr,
    R_S: tl.constexpr,
    REFILL: tl.constexpr,
    CP: tl.constexpr,
    NP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Compute z (programs of axis 1: 0) or r and u (1); first refill the last operation's heads."""
    NT: tl.constexpr = Gp // BN
    tile = tl.program_id(0) % NT
    first_row = (tl.program_id(0) // NT) * BM
    rows = first_row + tl.arange(0, BM)
    units = tile * BN + tl.arange(0, BN)
    gate = tl.program_id(1)
    at = rows[:, None] * Gp + units[None, :]
    other = 2 * layer + 1 - J
    below = 2 * layer - 2
    if GAINS:
        below += slots
    outs = (J * 3 + gate) * Gp + units
    s = product(high, low, wh, wl, other, below, rows, outs, Bp, Gp, FIRST, BM, BN, BK)
    s = add_input(s, part, t, J, gate, rows, units, B, G, Gp, 3, FIRST, 0)
    sigma = sigmoid_fixed(s, table, R_S)
    if gate == 0:
        tl.store(sigmas + at, sigma)
        if REFILL:
            if last_op >= 0:
                has_step = rows_with_step(mask, last_t, rows, B, MASK)[:, None]
                active = has_step & ((units >= last_depth) & (units < G))[None, :]
                head = refill_tile(
                    tl.load(heads + at),
                    active,
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
                tl.store(heads + at, head)
    else:
        tl.store(resets + at, sigma)
        v = load_operand(high, low, other * Bp * Gp + at)
        planes = 2 * slots if GAINS else slots
        store_bytes(high, low, planes * Bp * Gp + at, round_shift(sigma * v, 15), at >= 0)


@triton.jit
def candidate(
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
    G: tl.constexpr,
    Gp: tl.constexpr,
    FIRST: tl.constexpr,
    GAINS: tl.constexpr,
    R_S: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Return g from the published u (CELL-012)."""
    below = 2 * layer - 2
    planes = slots
    if GAINS:
        below += slots
        planes += slots
    outs = (J * 3 + 2) * Gp + units
    s = product(high, low, wh, wl, planes, below, rows, outs, Bp, Gp, FIRST, BM, BN, BK)
    s = add_input(s, part, t, J, 2, rows, units, B, G, Gp, 3, FIRST, 0)
    return tanh_fixed(s, table, R_S)


@triton.jit(do_not_specialize=RUNTIME)
def gru_state(
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
    h,
    heads,
    stage,
    counts,
    wraps,
    outputs,
    past_h,
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
    LIMIT: tl.constexpr,
    Z_MAX: tl.constexpr,
    FORGET: tl.constexpr,
    KEEP: tl.constexpr,
    WRAPS: tl.constexpr,
    RECORD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Compute a group's new state, push, and publish it."""
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
    z = clip_gate(unclipped_gate(tl.load(sigmas + at), LIMIT), Z_MAX)
    change = round_shift((1024 - z) * g, 25 - R_H)
    has_step = rows_with_step(mask, t, rows, B, MASK)[:, None] & (units < G)[None, :]
    old = tl.load(h + own * Bp * Gp + at)
    kept = old  # CELL-030
    if FORGET:
        active = has_step & (units >= depth)[None, :]
        residue, head = push_tile(
            tl.load(heads + at),
            old & 1023,
            z,
            active,
            tile,
            op,
            rows,
            stage,
            counts,
            Bp,
            Gp,
            BN,
            KEEP,
        )
        tl.store(heads + at, head)
        kept = (old >> 10) * z + tl.where(active, residue, 0)  # MUL-001, MUL-005
    total = kept + change
    if WRAPS:
        wrapped = has_step & (((kept ^ total) & (change ^ total)) < 0)  # MUL-006
        tl.atomic_add(wraps, tl.sum(wrapped.to(tl.int32)))
    new = tl.where(has_step, total, old)
    publish(h, high, low, gains, new, t, layer, J, slots, rows, units, B, Bp, G, Gp, SHIFT, GAINS)
    inside = (rows < B)[:, None] & (units < G)[None, :]
    if own >= slots - 2:
        tl.store(outputs + ((t * B + rows) * 2 + J)[:, None] * G + units[None, :], new, mask=inside)
    if RECORD:
        row = tl.cast(t + 1, tl.int64) * slots + own
        tl.store(past_h + (row * B + rows[:, None]) * G + units[None, :], new, mask=inside)
