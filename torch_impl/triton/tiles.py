"""What the kernels of both cells do alike with one tile: inputs, states, tapes."""

import triton
import triton.language as tl

from .arithmetic import clip_operand, real, round_shift, store_bytes

# What differs from launch to launch: no kernel is compiled again for it.
RUNTIME = [
    *("t", "layer", "J", "slots", "op", "depth", "now"),
    *("last_op", "last_t", "last_depth", "B", "Bp", "C", "M", "width"),
]


@triton.jit
def add_input(
    s,
    part,
    t,
    J,
    gate,
    rows,
    units,
    B,
    G: tl.constexpr,
    Gp: tl.constexpr,
    N: tl.constexpr,
    FIRST: tl.constexpr,
    XS: tl.constexpr,
):
    """Return a pre-activation from its recurrent product (PROD-004).

    ``part`` is the first layer's input part with its bias, int64 ``[C, B, 2, N, G]``, or above
    the bias, int32 ``[2, N, Gp]``.
    """
    s = s << XS
    if FIRST:
        at = ((t * B + rows) * 2 + J)[:, None] * (N * G) + gate * G + units[None, :]
        s += tl.load(part + at, mask=(rows < B)[:, None] & (units < G)[None, :], other=0)
    else:
        s += tl.load(part + (J * N + gate) * Gp + units)[None, :].to(tl.int64)
    return s


@triton.jit
def rows_with_step(mask, t, rows, B, MASK: tl.constexpr):
    """Say which rows have step ``t`` (SEQ-002)."""
    if MASK:
        has = tl.load(mask + t * B + rows, mask=rows < B, other=0) != 0
    else:
        has = rows < B
    return has


@triton.jit
def operand_of(h, SHIFT: tl.constexpr):
    """Return a state's view, and where it did not saturate (FMT-004, GRAD-002)."""
    rounded = round_shift(h, SHIFT)
    v = clip_operand(rounded)
    return v, v == rounded


@triton.jit
def with_gain(v, gains, t, layer, J, rows, units, B, above, G: tl.constexpr):
    """Return a layer's input operand, where it did not saturate, and the gain (SEQ-012).

    ``gains`` is int32 ``[C, above, B, 2·G]``, ``above`` being the number of layers but one.
    """
    at = (((t * above + layer) * B + rows) * 2 + J)[:, None] * G + units[None, :]
    gain = tl.load(gains + at, mask=(rows < B)[:, None] & (units < G)[None, :], other=0)
    rounded = round_shift(v * gain, 12)
    a = clip_operand(rounded)
    return a, a == rounded, gain


@triton.jit
def publish(
    h,
    high,
    low,
    gains,
    new,
    t,
    layer,
    J,
    slots,
    rows,
    units,
    B,
    Bp,
    G: tl.constexpr,
    Gp: tl.constexpr,
    SHIFT: tl.constexpr,
    GAINS: tl.constexpr,
):
    """Store a group's state and its bytes; with gains also what the layer above takes in.

    ``t`` is the step whose gains count; ``slots`` is 2·L.
    """
    own = 2 * layer + J
    at = (own * Bp + rows)[:, None] * Gp + units[None, :]
    tl.store(h + at, new)
    v, _fitted = operand_of(new, SHIFT)
    store_bytes(high, low, at, v, at >= 0)
    if GAINS:
        if own < slots - 2:
            if t >= 0:
                a, _fits, _gain = with_gain(
                    v, gains, t, layer, J, rows, units, B, slots // 2 - 1, G
                )
                store_bytes(high, low, slots * Bp * Gp + at, a, at >= 0)


@triton.jit
def put(tape, plane, value, own, t, rows, units, B, C, PLANES: tl.constexpr, Gp: tl.constexpr):
    """Write a factor into the tape, float32 ``[2·L, PLANES, C, B, Gp]``."""
    first = (tl.cast(own, tl.int64) * PLANES + plane) * C * B * Gp
    at = (t * B + rows)[:, None] * Gp + units[None, :]
    tl.store(tape + first + at, value, mask=(rows < B)[:, None] & (units >= 0)[None, :])


@triton.jit
def get(tape, plane, own, t, rows, units, B, C, PLANES: tl.constexpr, Gp: tl.constexpr):
    """Read a factor from the tape; 0 for rows that are not there."""
    first = (tl.cast(own, tl.int64) * PLANES + plane) * C * B * Gp
    at = (t * B + rows)[:, None] * Gp + units[None, :]
    return tl.load(tape + first + at, mask=(rows < B)[:, None] & (units >= 0)[None, :], other=0.0)


@triton.jit
def deliver(
    outputs,
    lower,
    gains,
    new,
    t,
    layer,
    J,
    slots,
    rows,
    units,
    B,
    C,
    G: tl.constexpr,
    Gp: tl.constexpr,
    SHIFT: tl.constexpr,
    VIEW: tl.constexpr,
    GAINS: tl.constexpr,
):
    """Write what the layer above took in after step ``t``, or the output of the top layer.

    ``outputs`` is int32 ``[C, B, 2·G]``; ``lower`` float32 ``[2·L, 2, C, B, Gp]``: the operand and
    its derivative by the state (SEQ-004, GRAD-002, GRAD-016).
    """
    own = 2 * layer + J
    if own >= slots - 2:
        at = ((t * B + rows) * 2 + J)[:, None] * G + units[None, :]
        tl.store(outputs + at, new, mask=(rows < B)[:, None] & (units < G)[None, :])
    else:
        v, passes = operand_of(new, SHIFT)
        slope = tl.where(passes, 1.0, 0.0)
        if GAINS:
            v, fits, gain = with_gain(v, gains, t, layer, J, rows, units, B, slots // 2 - 1, G)
            slope = tl.where(fits, slope, 0.0) * real(gain, 12)
        put(lower, 0, real(v, VIEW), own, t, rows, units, B, C, 2, Gp)
        put(lower, 1, slope, own, t, rows, units, B, C, 2, Gp)


@triton.jit
def prepare(
    h,
    high,
    low,
    gains,
    t,
    slots,
    B,
    Bp,
    G: tl.constexpr,
    Gp: tl.constexpr,
    SHIFT: tl.constexpr,
    GAINS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Publish the states of all groups as they stand, before a chunk."""
    NT: tl.constexpr = Gp // BN
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    own = tl.program_id(1)
    held = tl.load(h + (own * Bp + rows)[:, None] * Gp + units[None, :])
    publish(
        h,
        high,
        low,
        gains,
        held,
        t,
        own // 2,
        own % 2,
        slots,
        rows,
        units,
        B,
        Bp,
        G,
        Gp,
        SHIFT,
        GAINS,
    )
