"""Kernels that carry gradients back over a chunk, float32 (GRAD-012, GRAD-013, SEQ-004).

Gradients of states are ``[2, 2·L, Bp, Gp]``: two copies, since RevLSTM's kernels read the whole of
one while they write another. Those of pre-activations are ``[2·L, C, B, N, Gp]``. Padding is 0.
"""

import triton
import triton.language as tl

from .tiles import RUNTIME, get


@triton.jit
def sums_at(own, t, rows, units, gate, B, C, N: tl.constexpr, Gp: tl.constexpr):
    """Return where gradients of a gate's pre-activations lie, and whether the row is there."""
    first = tl.cast(own, tl.int64) * C * B * N * Gp
    at = first + ((t * B + rows) * N + gate)[:, None] * Gp + units[None, :]
    return at, (rows < B)[:, None] & (units >= 0)[None, :]


@triton.jit(do_not_specialize=RUNTIME)
def add_outputs(
    t,
    slots,
    now,
    dh,
    given,
    B,
    Bp,
    G: tl.constexpr,
    Gp: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Add a step's gradient of the outputs, ``[C, B, 2·G]``, to the top layer's (SEQ-005)."""
    NT: tl.constexpr = Gp // BN
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    J = tl.program_id(1)
    at = ((now * slots + slots - 2 + J) * Bp + rows)[:, None] * Gp + units[None, :]
    where = ((t * B + rows) * 2 + J)[:, None] * G + units[None, :]
    part = tl.load(given + where, mask=(rows < B)[:, None] & (units < G)[None, :], other=0.0)
    tl.store(dh + at, tl.load(dh + at) + part)


@triton.jit(do_not_specialize=RUNTIME)
def gru_to_u(
    t,
    layer,
    J,
    slots,
    tape,
    w,
    dh,
    ds,
    through,
    B,
    Bp,
    C,
    Gp: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Gradients of the pre-activations of z, r and g; and of the view through u (GRAD-012)."""
    NT: tl.constexpr = Gp // BN
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    own = 2 * layer + J
    ks = tl.arange(0, BK)
    du = tl.zeros((BM, BN), tl.float32)
    for k in range(0, Gp, BK):
        d = tl.load(dh + (own * Bp + rows)[:, None] * Gp + (k + ks)[None, :])
        d *= get(tape, 4, own, t, rows, k + ks, B, C, 8, Gp)
        w_at = ((J * 3 + 2) * Gp + k + ks)[:, None] * Gp + units[None, :]
        du = tl.dot(d, tl.load(w + w_at), acc=du, input_precision="ieee")
    d = tl.load(dh + (own * Bp + rows)[:, None] * Gp + units[None, :])
    at, ok = sums_at(own, t, rows, units, 0, B, C, 3, Gp)
    tl.store(ds + at, d * get(tape, 3, own, t, rows, units, B, C, 8, Gp), mask=ok)
    tl.store(ds + at + Gp, du * get(tape, 7, own, t, rows, units, B, C, 8, Gp), mask=ok)
    tl.store(ds + at + 2 * Gp, d * get(tape, 4, own, t, rows, units, B, C, 8, Gp), mask=ok)
    at = rows[:, None] * Gp + units[None, :]
    tl.store(through + at, du * get(tape, 6, own, t, rows, units, B, C, 8, Gp))


@triton.jit(do_not_specialize=RUNTIME)
def gru_to_view(
    t,
    layer,
    J,
    slots,
    tape,
    w,
    dh,
    ds,
    through,
    B,
    Bp,
    C,
    Gp: tl.constexpr,
    FORGET: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Carry the gradients to the other group's state and to the own old one (GRAD-012)."""
    NT: tl.constexpr = Gp // BN
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    own = 2 * layer + J
    ks = tl.arange(0, BK)
    at = rows[:, None] * Gp + units[None, :]
    dv = tl.zeros((BM, BN), tl.float32)
    for k in range(0, 2 * Gp, BK):
        s_at, ok = sums_at(own, t, rows, k + ks, 0, B, C, 3, Gp)
        w_at = (J * 3 * Gp + k + ks)[:, None] * Gp + units[None, :]
        d = tl.load(ds + s_at, mask=ok, other=0.0)
        dv = tl.dot(d, tl.load(w + w_at), acc=dv, input_precision="ieee")
    dv += tl.load(through + at)
    dv *= get(tape, 1, own, t, rows, units, B, C, 8, Gp)
    other = (own ^ 1) * Bp * Gp + at
    tl.store(dh + other, tl.load(dh + other) + dv)
    if FORGET:
        d = tl.load(dh + own * Bp * Gp + at)
        keep = get(tape, 2, own, t, rows, units, B, C, 8, Gp)
        tl.store(dh + own * Bp * Gp + at, d * keep)


@triton.jit(do_not_specialize=RUNTIME)
def lstm_back(
    t,
    layer,
    J,
    slots,
    now,
    tape,
    w,
    dh,
    dc,
    ds,
    B,
    Bp,
    C,
    Gp: tl.constexpr,
    FORGET: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Carry the gradients back over a group's update (GRAD-013)."""
    NT: tl.constexpr = Gp // BN
    N: tl.constexpr = 5 if FORGET else 3
    INPUT: tl.constexpr = 1 if FORGET else 0
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    own = 2 * layer + J
    here = (now * slots + own) * Bp
    there = ((1 - now) * slots + own) * Bp
    ks = tl.arange(0, BK)
    dv = tl.zeros((BM, BN), tl.float32)
    for k in range(0, Gp, BK):
        at = (here + rows)[:, None] * Gp + (k + ks)[None, :]
        d = tl.load(dh + at)
        e = tl.load(dc + at) + d * get(tape, 4, own, t, rows, k + ks, B, C, 10, Gp)
        w_at = (J * N * Gp + k + ks)[:, None] * Gp + units[None, :]
        for gate in tl.static_range(5):
            if FORGET or ((gate > 0) and (gate < 4)):
                x = get(tape, 5 + gate, own, t, rows, k + ks, B, C, 10, Gp)
                if gate < 3:
                    x = x * e
                else:
                    x = x * d
                w_gate = tl.load(w + w_at + (gate - 1 + INPUT) * Gp * Gp)
                dv = tl.dot(x, w_gate, acc=dv, input_precision="ieee")
    at = rows[:, None] * Gp + units[None, :]
    d = tl.load(dh + here * Gp + at)
    e = tl.load(dc + here * Gp + at) + d * get(tape, 4, own, t, rows, units, B, C, 10, Gp)
    s_at, ok = sums_at(own, t, rows, units, 0, B, C, N, Gp)
    if FORGET:
        tl.store(ds + s_at, e * get(tape, 5, own, t, rows, units, B, C, 10, Gp), mask=ok)
        part = d * get(tape, 9, own, t, rows, units, B, C, 10, Gp)
        tl.store(ds + s_at + 4 * Gp, part, mask=ok)
    s_at += INPUT * Gp
    tl.store(ds + s_at, e * get(tape, 6, own, t, rows, units, B, C, 10, Gp), mask=ok)
    tl.store(ds + s_at + Gp, e * get(tape, 7, own, t, rows, units, B, C, 10, Gp), mask=ok)
    tl.store(ds + s_at + 2 * Gp, d * get(tape, 8, own, t, rows, units, B, C, 10, Gp), mask=ok)
    if FORGET:
        d *= get(tape, 2, own, t, rows, units, B, C, 10, Gp)
        e *= get(tape, 3, own, t, rows, units, B, C, 10, Gp)
    tl.store(dh + there * Gp + at, d)
    tl.store(dc + there * Gp + at, e)
    # The other group's gradient has moved on already if it came before (J of 1 comes first).
    copy = now if J == 1 else 1 - now
    other = (copy * slots + (own ^ 1)) * Bp * Gp + at
    dv *= get(tape, 1, own, t, rows, units, B, C, 10, Gp)
    tl.store(dh + other, tl.load(dh + other) + dv)


@triton.jit(do_not_specialize=RUNTIME)
def to_layer_below(
    t,
    layer,
    slots,
    now,
    lower,
    w,
    dh,
    ds,
    B,
    Bp,
    C,
    Gp: tl.constexpr,
    N: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Carry a layer's gradients to the state of the layer below (SEQ-004, SEQ-012).

    Axis 1 of the grid is that layer's group; ``w`` is float32 ``[2, N, Gp, 2, Gp]``.
    """
    NT: tl.constexpr = Gp // BN
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    below = tl.program_id(1)
    ks = tl.arange(0, BK)
    dx = tl.zeros((BM, BN), tl.float32)
    for J in tl.static_range(2):
        for k in range(0, N * Gp, BK):
            s_at, ok = sums_at(2 * layer + J, t, rows, k + ks, 0, B, C, N, Gp)
            w_at = ((J * N * Gp + k + ks) * 2 + below)[:, None] * Gp + units[None, :]
            d = tl.load(ds + s_at, mask=ok, other=0.0)
            dx = tl.dot(d, tl.load(w + w_at), acc=dx, input_precision="ieee")
    own = 2 * layer - 2 + below
    dx *= get(lower, 1, own, t, rows, units, B, C, 2, Gp)
    at = ((now * slots + own) * Bp + rows)[:, None] * Gp + units[None, :]
    tl.store(dh + at, tl.load(dh + at) + dx)
