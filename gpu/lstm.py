"""RevLSTM's forward kernel: all gates come from the other group's view (CELL-020)."""

import triton
import triton.language as tl

from .arithmetic import (
    clip_gate,
    multiply,
    of_layer,
    operand_block,
    round_shift,
    sigmoid_fixed,
    tanh_fixed,
    together,
    unclipped_gate,
    zeros,
)
from .tiles import RUNTIME, add_change, add_input, finish, past_at, tile_of, with_step
from .words import multiplied


@triton.jit
def gate_sums(a, t, layer, J, rows, units, B, Bp, K: tl.constexpr):
    """Return the pre-activations of f, i, g, o, p, int64; without forgetting f and p are i and o.

    One pass over the operand serves all gates.
    """
    LENGTH: tl.constexpr = K.Gp if K.FIRST else 3 * K.Gp
    INPUT: tl.constexpr = 1 if K.FORGET else 0
    other = 2 * layer + 1 - J
    below = 2 * layer - 2 + K.INPUT_SLOT
    zero = zeros(tl.int32, K)
    f_hh, f_mid, f_ll = zero, zero, zero
    i_hh, i_mid, i_ll = zero, zero, zero
    g_hh, g_mid, g_ll = zero, zero, zero
    o_hh, o_mid, o_ll = zero, zero, zero
    p_hh, p_mid, p_ll = zero, zero, zero
    gap: tl.constexpr = K.Gp * LENGTH
    wh = of_layer(a.wh, layer, 2 * K.N * gap, K)
    wl = of_layer(a.wl, layer, 2 * K.N * gap, K)
    for k in range(0, LENGTH, K.BK):
        a_h, a_l = operand_block(a, k, other, below, rows, Bp, K)
        w = (J * K.N * K.Gp + units)[None, :] * LENGTH + (k + tl.arange(0, K.BK))[:, None]
        i_hh, i_mid, i_ll = multiply(i_hh, i_mid, i_ll, a_h, a_l, wh, wl, w + INPUT * gap)
        g_hh, g_mid, g_ll = multiply(g_hh, g_mid, g_ll, a_h, a_l, wh, wl, w + (INPUT + 1) * gap)
        o_hh, o_mid, o_ll = multiply(o_hh, o_mid, o_ll, a_h, a_l, wh, wl, w + (INPUT + 2) * gap)
        if K.FORGET:
            f_hh, f_mid, f_ll = multiply(f_hh, f_mid, f_ll, a_h, a_l, wh, wl, w)
            p_hh, p_mid, p_ll = multiply(p_hh, p_mid, p_ll, a_h, a_l, wh, wl, w + 4 * gap)
    i = add_input(together(i_hh, i_mid, i_ll), a, t, layer, J, INPUT, rows, units, B, K)
    g = add_input(together(g_hh, g_mid, g_ll), a, t, layer, J, INPUT + 1, rows, units, B, K)
    o = add_input(together(o_hh, o_mid, o_ll), a, t, layer, J, INPUT + 2, rows, units, B, K)
    f = i
    p = o
    if K.FORGET:
        f = add_input(together(f_hh, f_mid, f_ll), a, t, layer, J, 0, rows, units, B, K)
        p = add_input(together(p_hh, p_mid, p_ll), a, t, layer, J, 4, rows, units, B, K)
    return f, i, g, o, p


@triton.jit
def cell_tile(a, task, t, layer, J, op, depth, B, Bp, K: tl.constexpr):
    """Compute a group's new ``c`` and ``h``, push twice, and publish ``h``."""
    tile, _first_row, rows, units = tile_of(task, K)
    at = rows[:, None] * K.Gp + units[None, :]
    own = 2 * layer + J
    sf, si, sg, so, sp = gate_sums(a, t, layer, J, rows, units, B, Bp, K)
    has_step = with_step(a, t, rows, units, B, K)
    old_c = tl.load(a.c + own * Bp * K.Gp + at)
    old_h = tl.load(a.h + own * Bp * K.Gp + at)
    i, g = sigmoid_fixed(si, a.table, K.R_S), tanh_fixed(sg, a.table, K.R_S)
    c_change = round_shift(i * g, 30 - K.R_H)  # CELL-021
    kept = old_c  # CELL-031
    if K.FORGET:
        head = tl.load(a.heads + at)
        f = clip_gate(unclipped_gate(sigmoid_fixed(sf, a.table, K.R_S), K.LIMIT), K.Z_MAX)
        kept, head = multiplied(a, head, old_c, f, has_step, 0, tile, op, rows, units, Bp, K)
    new_c = add_change(a, kept, c_change, old_c, has_step, K)
    tl.store(a.c + own * Bp * K.Gp + at, new_c)
    o, tan = sigmoid_fixed(so, a.table, K.R_S), tanh_fixed(new_c, a.table, K.R_H)
    h_change = round_shift(o * tan, 30 - K.R_H)  # CELL-022
    kept = old_h
    if K.FORGET:
        p = clip_gate(unclipped_gate(sigmoid_fixed(sp, a.table, K.R_S), K.LIMIT), K.P_MAX)
        kept, head = multiplied(
            a, head, old_h, p, has_step, depth, tile, op + 1, rows, units, Bp, K
        )
        tl.store(a.heads + at, head)
    finish(a, kept, h_change, old_h, has_step, t, layer, J, rows, units, B, Bp, K)
    if K.STORED:
        inside = (rows < B)[:, None] & (units < K.G)[None, :]
        tl.store(a.past_c + past_at(own, t + 1, rows, units, B, K), new_c, mask=inside)


@triton.jit(do_not_specialize=RUNTIME)
def lstm_state(a, t, layer, J, op, depth, B, Bp, K: tl.constexpr):
    """Do so with a program a tile."""
    cell_tile(a, tl.program_id(0), t, layer, J, op, depth, B, Bp, K)
