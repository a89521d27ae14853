"""Kernels that carry gradients back over a chunk, float32 (GRAD-012, GRAD-013, SEQ-004).

Gradients of states are ``[2, 2·L, Bp, Gp]``: two copies, since RevLSTM's kernels read the whole of
one while they write another. Those of pre-activations are ``[2·L, C, B, N, Gp]``. Padding is 0.
"""

import triton
import triton.language as tl

from .arithmetic import of_layer, zeros
from .tiles import RUNTIME, get, tile_of


@triton.jit
def sums_at(own, t, rows, units, B, C, K: tl.constexpr):
    """Return where the gradients of the first gate's pre-activations are, and whether rows exist.

    ``units`` may run on into the gates after the first.
    """
    first = tl.cast(own, tl.int64) * C * B * K.N * K.Gp
    at = first + ((t * B + rows) * K.N)[:, None] * K.Gp + units[None, :]
    return at, (rows < B)[:, None] & (units >= 0)[None, :]


@triton.jit
def dot(x, w, acc):
    """Return ``acc + x @ w`` in float32, without TF32."""
    return tl.dot(x, w, acc=acc, input_precision="ieee")


@triton.jit
def add_outputs_tile(a, task, J, t, now, B, Bp, K: tl.constexpr):
    """Add a step's gradient of the outputs, ``[C, B, 2·G]``, to the top layer's (SEQ-005)."""
    _tile, _first_row, rows, units = tile_of(task, K)
    at = ((now * K.SLOTS + K.SLOTS - 2 + J) * Bp + rows)[:, None] * K.Gp + units[None, :]
    where = ((t * B + rows) * 2 + J)[:, None] * K.G + units[None, :]
    part = tl.load(a.given + where, mask=(rows < B)[:, None] & (units < K.G)[None, :], other=0.0)
    tl.store(a.dh + at, tl.load(a.dh + at) + part)


@triton.jit(do_not_specialize=RUNTIME)
def add_outputs(a, t, now, B, Bp, K: tl.constexpr):
    """Do so with a program a tile."""
    add_outputs_tile(a, tl.program_id(0), tl.program_id(1), t, now, B, Bp, K)


@triton.jit
def to_u_tile(a, task, t, layer, J, B, Bp, C, K: tl.constexpr):
    """Gradients of the pre-activations of z, r and g; and of the view through u (GRAD-012)."""
    _tile, _first_row, rows, units = tile_of(task, K)
    own = 2 * layer + J
    ks = tl.arange(0, K.BK)
    w = of_layer(a.w, layer, 2 * K.N * K.Gp * K.Gp, K)
    du = zeros(tl.float32, K)
    for k in range(0, K.Gp, K.BK):
        d = tl.load(a.dh + (own * Bp + rows)[:, None] * K.Gp + (k + ks)[None, :])
        d *= get(a.tape, 4, (own, t, rows, k + ks, B, C), K.PLANES, K)
        w_at = ((J * 3 + 2) * K.Gp + k + ks)[:, None] * K.Gp + units[None, :]
        du = dot(d, tl.load(w + w_at), du)
    d = tl.load(a.dh + (own * Bp + rows)[:, None] * K.Gp + units[None, :])
    at, ok = sums_at(own, t, rows, units, B, C, K)
    place = (own, t, rows, units, B, C)
    tl.store(a.ds + at, d * get(a.tape, 3, place, K.PLANES, K), mask=ok)
    tl.store(a.ds + at + K.Gp, du * get(a.tape, 7, place, K.PLANES, K), mask=ok)
    tl.store(a.ds + at + 2 * K.Gp, d * get(a.tape, 4, place, K.PLANES, K), mask=ok)
    at = rows[:, None] * K.Gp + units[None, :]
    tl.store(a.through + at, du * get(a.tape, 6, place, K.PLANES, K))


@triton.jit(do_not_specialize=RUNTIME)
def gru_to_u(a, t, layer, J, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    to_u_tile(a, tl.program_id(0), t, layer, J, B, Bp, C, K)


@triton.jit
def to_view_tile(a, task, t, layer, J, B, Bp, C, K: tl.constexpr):
    """Carry the gradients to the other group's state and to the own old one (GRAD-012)."""
    _tile, _first_row, rows, units = tile_of(task, K)
    own = 2 * layer + J
    ks = tl.arange(0, K.BK)
    at = rows[:, None] * K.Gp + units[None, :]
    w = of_layer(a.w, layer, 2 * K.N * K.Gp * K.Gp, K)
    dv = zeros(tl.float32, K)
    for k in range(0, 2 * K.Gp, K.BK):
        s_at, ok = sums_at(own, t, rows, k + ks, B, C, K)
        w_at = (J * 3 * K.Gp + k + ks)[:, None] * K.Gp + units[None, :]
        dv = dot(tl.load(a.ds + s_at, mask=ok, other=0.0), tl.load(w + w_at), dv)
    place = (own, t, rows, units, B, C)
    dv += tl.load(a.through + at)
    dv *= get(a.tape, 1, place, K.PLANES, K)
    other = (own ^ 1) * Bp * K.Gp + at
    tl.store(a.dh + other, tl.load(a.dh + other) + dv)
    if K.FORGET:
        d = tl.load(a.dh + own * Bp * K.Gp + at)
        tl.store(a.dh + own * Bp * K.Gp + at, d * get(a.tape, 2, place, K.PLANES, K))


@triton.jit(do_not_specialize=RUNTIME)
def gru_to_view(a, t, layer, J, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    to_view_tile(a, tl.program_id(0), t, layer, J, B, Bp, C, K)


@triton.jit
def lstm_back_tile(a, task, t, layer, J, now, B, Bp, C, K: tl.constexpr):
    """Carry the gradients back over a group's update (GRAD-013)."""
    _tile, _first_row, rows, units = tile_of(task, K)
    FORGET: tl.constexpr = K.FORGET
    INPUT: tl.constexpr = 1 if K.FORGET else 0
    own = 2 * layer + J
    here = (now * K.SLOTS + own) * Bp
    there = ((1 - now) * K.SLOTS + own) * Bp
    ks = tl.arange(0, K.BK)
    w = of_layer(a.w, layer, 2 * K.N * K.Gp * K.Gp, K)
    dv = zeros(tl.float32, K)
    for k in range(0, K.Gp, K.BK):
        at = (here + rows)[:, None] * K.Gp + (k + ks)[None, :]
        block = (own, t, rows, k + ks, B, C)
        d = tl.load(a.dh + at)
        e = tl.load(a.dc + at) + d * get(a.tape, 4, block, K.PLANES, K)
        w_at = (J * K.N * K.Gp + k + ks)[:, None] * K.Gp + units[None, :]
        for gate in tl.static_range(5):
            if FORGET or ((gate > 0) and (gate < 4)):
                x = get(a.tape, 5 + gate, block, K.PLANES, K)
                if gate < 3:
                    x = x * e
                else:
                    x = x * d
                dv = dot(x, tl.load(w + w_at + (gate - 1 + INPUT) * K.Gp * K.Gp), dv)
    at = rows[:, None] * K.Gp + units[None, :]
    place = (own, t, rows, units, B, C)
    d = tl.load(a.dh + here * K.Gp + at)
    e = tl.load(a.dc + here * K.Gp + at) + d * get(a.tape, 4, place, K.PLANES, K)
    s_at, ok = sums_at(own, t, rows, units, B, C, K)
    if K.FORGET:
        tl.store(a.ds + s_at, e * get(a.tape, 5, place, K.PLANES, K), mask=ok)
        tl.store(a.ds + s_at + 4 * K.Gp, d * get(a.tape, 9, place, K.PLANES, K), mask=ok)
    s_at += INPUT * K.Gp
    tl.store(a.ds + s_at, e * get(a.tape, 6, place, K.PLANES, K), mask=ok)
    tl.store(a.ds + s_at + K.Gp, e * get(a.tape, 7, place, K.PLANES, K), mask=ok)
    tl.store(a.ds + s_at + 2 * K.Gp, d * get(a.tape, 8, place, K.PLANES, K), mask=ok)
    if K.FORGET:
        d *= get(a.tape, 2, place, K.PLANES, K)
        e *= get(a.tape, 3, place, K.PLANES, K)
    tl.store(a.dh + there * K.Gp + at, d)
    tl.store(a.dc + there * K.Gp + at, e)
    # The other group's gradient has moved on already if it came before (J of 1 comes first).
    copy = now if J == 1 else 1 - now
    other = (copy * K.SLOTS + (own ^ 1)) * Bp * K.Gp + at
    dv *= get(a.tape, 1, place, K.PLANES, K)
    tl.store(a.dh + other, tl.load(a.dh + other) + dv)


@triton.jit(do_not_specialize=RUNTIME)
def lstm_back(a, t, layer, J, now, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    lstm_back_tile(a, tl.program_id(0), t, layer, J, now, B, Bp, C, K)


@triton.jit
def layer_below_tile(a, task, below, t, layer, now, B, Bp, C, K: tl.constexpr):
    """Carry a layer's gradients to the state of the layer below (SEQ-004, SEQ-012).

    Axis 1 of the grid is that layer's group; ``w_in`` is float32 ``[2, N, Gp, 2, Gp]``.
    """
    _tile, _first_row, rows, units = tile_of(task, K)
    ks = tl.arange(0, K.BK)
    w_in = of_layer(a.w_in, layer, 4 * K.N * K.Gp * K.Gp, K)
    dx = zeros(tl.float32, K)
    for J in tl.static_range(2):
        for k in range(0, K.N * K.Gp, K.BK):
            s_at, ok = sums_at(2 * layer + J, t, rows, k + ks, B, C, K)
            w_at = ((J * K.N * K.Gp + k + ks) * 2 + below)[:, None] * K.Gp + units[None, :]
            dx = dot(tl.load(a.ds + s_at, mask=ok, other=0.0), tl.load(w_in + w_at), dx)
    own = 2 * layer - 2 + below
    dx *= get(a.lower, 1, (own, t, rows, units, B, C), 2, K)
    at = ((now * K.SLOTS + own) * Bp + rows)[:, None] * K.Gp + units[None, :]
    tl.store(a.dh + at, tl.load(a.dh + at) + dx)


@triton.jit(do_not_specialize=RUNTIME)
def to_layer_below(a, t, layer, now, B, Bp, C, K: tl.constexpr):
    """Do so with a program a tile."""
    layer_below_tile(a, tl.program_id(0), tl.program_id(1), t, layer, now, B, Bp, C, K)
