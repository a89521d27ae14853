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
from .tiles import RUNTIME, add_input, finish, tile_of, with_step
from .words import multiplied, refill_tile


@triton.jit
def gates_tile(a, task, gate, t, layer, J, last_op, last_t, last_depth, B, Bp, K: tl.constexpr):
    """Compute z (programs of axis 1: 0) or r and u (1); first refill the last operation's heads."""
    tile, first_row, rows, units = tile_of(task, K)
    at = rows[:, None] * K.Gp + units[None, :]
    other = 2 * layer + 1 - J
    outs = (J * 3 + gate) * K.Gp + units
    s = product(a, layer, other, rows, outs, Bp, K)
    s = add_input(s, a, t, layer, J, gate, rows, units, B, K)
    sigma = sigmoid_fixed(s, a.table, K.R_S)
    if gate == 0:
        tl.store(a.sigmas + at, sigma)
        if K.REFILL:
            if last_op >= 0:
                active = with_step(a, last_t, rows, units, B, K) & (units >= last_depth)[None, :]
                head = tl.load(a.heads + at)
                head = refill_tile(a, head, active, tile, first_row, last_op, rows, Bp, K)
                tl.store(a.heads + at, head)
    else:
        tl.store(a.aside + at, sigma)
        v = load_operand(a.high, a.low, other * Bp * K.Gp + at)
        u = round_shift(sigma * v, 15)
        store_bytes(a.high, a.low, K.U_SLOT * Bp * K.Gp + at, u, at >= 0)


@triton.jit(do_not_specialize=RUNTIME)
def gru_gates(a, t, layer, J, last_op, last_t, last_depth, B, Bp, K: tl.constexpr):
    """Do so with a program a tile."""
    gates_tile(
        a, tl.program_id(0), tl.program_id(1), t, layer, J, last_op, last_t, last_depth, B, Bp, K
    )


@triton.jit
def candidate(a, t, layer, J, rows, units, B, Bp, K: tl.constexpr):
    """Return g from the published u (CELL-012)."""
    outs = (J * 3 + 2) * K.Gp + units
    s = product(a, layer, K.U_SLOT, rows, outs, Bp, K)
    return tanh_fixed(add_input(s, a, t, layer, J, 2, rows, units, B, K), a.table, K.R_S)


@triton.jit
def state_tile(a, task, t, layer, J, op, depth, B, Bp, K: tl.constexpr):
    """Compute a group's new state, push, and publish it."""
    tile, _first_row, rows, units = tile_of(task, K)
    at = rows[:, None] * K.Gp + units[None, :]
    g = candidate(a, t, layer, J, rows, units, B, Bp, K)
    z = clip_gate(unclipped_gate(tl.load(a.sigmas + at), K.LIMIT), K.Z_MAX)
    change = round_shift((1024 - z) * g, 25 - K.R_H)
    has_step = with_step(a, t, rows, units, B, K)
    old = tl.load(a.h + (2 * layer + J) * Bp * K.Gp + at)
    kept = old  # CELL-030
    if K.FORGET:
        head = tl.load(a.heads + at)
        kept, head = multiplied(a, head, old, z, has_step, depth, tile, op, rows, units, Bp, K)
        tl.store(a.heads + at, head)
    finish(a, kept, change, old, has_step, t, layer, J, rows, units, B, Bp, K)


@triton.jit(do_not_specialize=RUNTIME)
def gru_state(a, t, layer, J, op, depth, B, Bp, K: tl.constexpr):
    """Do so with a program a tile."""
    state_tile(a, tl.program_id(0), t, layer, J, op, depth, B, Bp, K)
