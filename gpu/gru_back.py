"""RevGRU's kernel that recovers a group's old state and writes its tape.

The planes of the tape: v, passes, keep, and the factors of z, g, u, r, and of u in r (GRAD-010 to
012).
"""

import triton
import triton.language as tl

from .arithmetic import clip_gate, gate_slope, load_operand, real, round_shift, unclipped_gate
from .gru import candidate
from .tiles import RUNTIME, deliver, operand_of, past_at, publish, put, restored, tile_of, with_step
from .words import divided


@triton.jit
def unstate_tile(a, task, t, layer, J, op, depth, B, Bp, C, K: tl.constexpr):
    """Recover a group's old state (CELL-040), or look it up, and write the tape."""
    tile, _first_row, rows, units = tile_of(task, K)
    at = rows[:, None] * K.Gp + units[None, :]
    own = 2 * layer + J
    g = candidate(a, t, layer, J, rows, units, B, Bp, K)
    sigma = tl.load(a.sigmas + at)
    z = clip_gate(unclipped_gate(sigma, K.LIMIT), K.Z_MAX)
    has_step = with_step(a, t, rows, units, B, K)
    inside = (rows < B)[:, None] & (units < K.G)[None, :]
    new = tl.load(a.h + own * Bp * K.Gp + at)
    deliver(a, new, t, layer, J, rows, units, B, C, K)
    if K.STORED:
        old = tl.load(a.past_h + past_at(own, t, rows, units, B, K), mask=inside, other=0)
    else:
        old = new - round_shift((1024 - z) * g, 25 - K.R_H)
        if K.FORGET:
            head = tl.load(a.heads + at)
            old, head = divided(a, head, old, z, has_step, depth, tile, op, rows, units, Bp, K)
            tl.store(a.heads + at, head)
            old = restored(a, old, t, depth, rows, units, B, K)
        old = tl.where(has_step, old, new)
    publish(a, old, t - 1, layer, J, rows, units, B, Bp, K)
    v, passes = operand_of(tl.load(a.h + (own ^ 1) * Bp * K.Gp + at), K)
    gf = real(g, 15)
    zf = real(z, 10)
    part_of_z = -gf
    if K.FORGET:
        part_of_z += real(old, K.R_H)
    step = tl.where(has_step, 1.0, 0.0)
    r = real(tl.load(a.aside + at), 15)
    u = load_operand(a.high, a.low, K.U_SLOT * Bp * K.Gp + at)
    vf = real(v, K.VIEW)
    place = (own, t, rows, units, B, C)
    put(a.tape, 0, vf, place, K.PLANES, K)
    put(a.tape, 1, tl.where(passes, 1.0, 0.0), place, K.PLANES, K)
    put(a.tape, 2, tl.where(has_step, zf, 1.0), place, K.PLANES, K)
    slope = gate_slope(sigma, K.LIMIT, K.Z_MAX)
    put(a.tape, 3, part_of_z * slope * step, place, K.PLANES, K)
    put(a.tape, 4, (1.0 - zf) * (1.0 - gf * gf) * step, place, K.PLANES, K)
    put(a.tape, 5, real(u, K.VIEW), place, K.PLANES, K)
    put(a.tape, 6, r, place, K.PLANES, K)
    put(a.tape, 7, vf * (r - r * r), place, K.PLANES, K)


@triton.jit(do_not_specialize=RUNTIME)
def gru_unstate(a, t, layer, J, op, depth, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    unstate_tile(a, tl.program_id(0), t, layer, J, op, depth, B, Bp, C, K)
