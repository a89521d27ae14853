"""RevLSTM's kernels that recover a group's old state and write its tape.

``lstm_unhide`` undoes ``h`` (CELL-022), ``lstm_uncell`` ``c`` (CELL-021), when the head, which both
operations use, has its word again. The planes of the tape: v, passes, keep of h, keep of c, of h in
c, and the factors of f, i, g, o, p (GRAD-010, 011, 013).
"""

import triton
import triton.language as tl

from .arithmetic import (
    clip_gate,
    gate_slope,
    real,
    round_shift,
    sigmoid_fixed,
    tanh_fixed,
    unclipped_gate,
)
from .lstm import gate_sums
from .tiles import RUNTIME, deliver, operand_of, past_at, publish, put, restored, tile_of, with_step
from .words import divided, refill_tile


@triton.jit
def unhide_tile(a, task, t, layer, J, op, depth, last_op, last_t, B, Bp, C, K: tl.constexpr):
    """Recover a group's old ``h``, or look it up; without forgetting, also its old ``c``."""
    tile, first_row, rows, units = tile_of(task, K)
    at = rows[:, None] * K.Gp + units[None, :]
    own = 2 * layer + J
    sf, si, sg, so, sp = gate_sums(a, t, layer, J, rows, units, B, Bp, K)
    has_step = with_step(a, t, rows, units, B, K)
    inside = (rows < B)[:, None] & (units < K.G)[None, :]
    step = tl.where(has_step, 1.0, 0.0)
    i = sigmoid_fixed(si, a.table, K.R_S)
    g = tanh_fixed(sg, a.table, K.R_S)
    o = sigmoid_fixed(so, a.table, K.R_S)
    new = tl.load(a.h + own * Bp * K.Gp + at)
    new_c = tl.load(a.c + own * Bp * K.Gp + at)
    tan = tanh_fixed(new_c, a.table, K.R_H)
    c_change = round_shift(i * g, 30 - K.R_H)
    deliver(a, new, t, layer, J, rows, units, B, C, K)
    place = (own, t, rows, units, B, C)
    if K.STORED:
        old = tl.load(a.past_h + past_at(own, t, rows, units, B, K), mask=inside, other=0)
    else:
        old = new - round_shift(o * tan, 30 - K.R_H)
    if K.FORGET:
        sigma_p = sigmoid_fixed(sp, a.table, K.R_S)
        p = clip_gate(unclipped_gate(sigma_p, K.LIMIT), K.P_MAX)
        if not K.STORED:
            head = tl.load(a.heads + at)
            if last_op >= 0:
                had = with_step(a, last_t, rows, units, B, K)
                head = refill_tile(a, head, had, tile, first_row, last_op, rows, Bp, K)
            old, head = divided(a, head, old, p, has_step, depth, tile, op + 1, rows, units, Bp, K)
            tl.store(a.heads + at, head)
            old = restored(a, old, t, depth, rows, units, B, K)
        put(a.tape, 2, tl.where(has_step, real(p, 10), 1.0), place, K.PLANES, K)
    if not K.STORED:
        old = tl.where(has_step, old, new)
    publish(a, old, t - 1, layer, J, rows, units, B, Bp, K)
    i_f, g_f, o_f, t_f = real(i, 15), real(g, 15), real(o, 15), real(tan, 15)
    v, passes = operand_of(tl.load(a.h + (own ^ 1) * Bp * K.Gp + at), K)
    put(a.tape, 0, real(v, K.VIEW), place, K.PLANES, K)
    put(a.tape, 1, tl.where(passes, 1.0, 0.0), place, K.PLANES, K)
    put(a.tape, 4, o_f * (1.0 - t_f * t_f) * step, place, K.PLANES, K)
    put(a.tape, 6, g_f * (i_f - i_f * i_f) * step, place, K.PLANES, K)
    put(a.tape, 7, i_f * (1.0 - g_f * g_f) * step, place, K.PLANES, K)
    put(a.tape, 8, t_f * (o_f - o_f * o_f) * step, place, K.PLANES, K)
    if K.FORGET:
        slope = gate_slope(sigma_p, K.LIMIT, K.P_MAX)
        put(a.tape, 9, real(old, K.R_H) * slope * step, place, K.PLANES, K)
        tl.store(a.sigmas + at, sigmoid_fixed(sf, a.table, K.R_S))
        tl.store(a.aside + at, c_change)
    else:
        if K.STORED:
            old_c = tl.load(a.past_c + past_at(own, t, rows, units, B, K), mask=inside, other=0)
        else:
            old_c = tl.where(has_step, new_c - c_change, new_c)
        tl.store(a.c + own * Bp * K.Gp + at, old_c)


@triton.jit(do_not_specialize=RUNTIME)
def lstm_unhide(a, t, layer, J, op, depth, last_op, last_t, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    unhide_tile(a, tl.program_id(0), t, layer, J, op, depth, last_op, last_t, B, Bp, C, K)


@triton.jit
def uncell_tile(a, task, t, layer, J, op, depth, B, Bp, C, K: tl.constexpr):
    """Recover a group's old ``c``, when the head has the word that ``h`` lacked."""
    tile, first_row, rows, units = tile_of(task, K)
    at = rows[:, None] * K.Gp + units[None, :]
    own = 2 * layer + J
    has_step = with_step(a, t, rows, units, B, K)
    inside = (rows < B)[:, None] & (units < K.G)[None, :]
    sigma = tl.load(a.sigmas + at)
    f = clip_gate(unclipped_gate(sigma, K.LIMIT), K.Z_MAX)
    new = tl.load(a.c + own * Bp * K.Gp + at)
    if K.STORED:
        old = tl.load(a.past_c + past_at(own, t, rows, units, B, K), mask=inside, other=0)
    else:
        active = has_step & (units >= depth)[None, :]
        head = tl.load(a.heads + at)
        head = refill_tile(a, head, active, tile, first_row, op + 1, rows, Bp, K)
        old = new - tl.load(a.aside + at)
        old, head = divided(a, head, old, f, has_step, 0, tile, op, rows, units, Bp, K)
        tl.store(a.heads + at, head)
        old = tl.where(has_step, old, new)
    tl.store(a.c + own * Bp * K.Gp + at, old)
    step = tl.where(has_step, 1.0, 0.0)
    slope = gate_slope(sigma, K.LIMIT, K.Z_MAX)
    place = (own, t, rows, units, B, C)
    put(a.tape, 3, tl.where(has_step, real(f, 10), 1.0), place, K.PLANES, K)
    put(a.tape, 5, real(old, K.R_H) * slope * step, place, K.PLANES, K)


@triton.jit(do_not_specialize=RUNTIME)
def lstm_uncell(a, t, layer, J, op, depth, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    uncell_tile(a, tl.program_id(0), t, layer, J, op, depth, B, Bp, C, K)
