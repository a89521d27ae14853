"""Device functions of all kernels for one tile: its inputs, states, tape and outputs.

A *place* in the tape is ``(own, t, rows, units, B, C)``: a group's slot, a step, rows and units,
the numbers of rows and of steps.
"""

import triton
import triton.language as tl

from .arithmetic import clip_operand, real, round_shift, store_bytes

# Arguments that differ from launch to launch: kernels are not compiled again for them.
RUNTIME = [
    *("t", "layer", "J", "op", "depth", "now"),
    *("last_op", "last_t", "last_depth", "B", "Bp", "C", "M", "width", "room"),
]


@triton.jit
def tile_of(task, K: tl.constexpr):
    """Return a task's tile of units, its first row, its rows and its units."""
    tile = task % K.NT
    first_row = (task // K.NT) * K.BM
    return tile, first_row, first_row + tl.arange(0, K.BM), tile * K.BN + tl.arange(0, K.BN)


@triton.jit
def add_input(s, a, t, layer, J, gate, rows, units, B, K: tl.constexpr):
    """Return a pre-activation from its recurrent product (PROD-004).

    ``part`` is the first layer's input part with its bias, int64 ``[C, B, 2, N, G]``, or above
    the biases, int32 ``[L−1, 2, N, Gp]``.
    """
    s = s << K.XS
    if K.FIRST:
        at = ((t * B + rows) * 2 + J)[:, None] * (K.N * K.G) + gate * K.G + units[None, :]
        s += tl.load(a.part + at, mask=(rows < B)[:, None] & (units < K.G)[None, :], other=0)
    else:
        at = ((2 * layer - 2 + J) * K.N + gate) * K.Gp + units
        s += tl.load(a.part + at)[None, :].to(tl.int64)
    return s


@triton.jit
def rows_with_step(a, t, rows, B, K: tl.constexpr):
    """Say which rows have step ``t`` (SEQ-002)."""
    if K.MASK:
        has = tl.load(a.mask + t * B + rows, mask=rows < B, other=0) != 0
    else:
        has = rows < B
    return has


@triton.jit
def with_step(a, t, rows, units, B, K: tl.constexpr):
    """Say where a tile has rows with step ``t`` and units that are no padding."""
    return rows_with_step(a, t, rows, B, K)[:, None] & (units < K.G)[None, :]


@triton.jit
def operand_of(h, K: tl.constexpr):
    """Return a state's view, and where it did not saturate (FMT-004, GRAD-002)."""
    rounded = round_shift(h, K.SHIFT)
    v = clip_operand(rounded)
    return v, v == rounded


@triton.jit
def with_gain(v, a, t, layer, J, rows, units, B, K: tl.constexpr):
    """Return a layer's input operand, where it did not saturate, and the gain (SEQ-012).

    Gains are int32 ``[C, L−1, B, 2·G]``.
    """
    above = K.SLOTS // 2 - 1
    at = (((t * above + layer) * B + rows) * 2 + J)[:, None] * K.G + units[None, :]
    gain = tl.load(a.gains + at, mask=(rows < B)[:, None] & (units < K.G)[None, :], other=0)
    rounded = round_shift(v * gain, 12)
    operand = clip_operand(rounded)
    return operand, operand == rounded, gain


@triton.jit
def publish(a, new, t, layer, J, rows, units, B, Bp, K: tl.constexpr):
    """Store a group's state and its bytes; with gains also the input of the layer above.

    ``t`` is the step whose gains count.
    """
    own = 2 * layer + J
    at = (own * Bp + rows)[:, None] * K.Gp + units[None, :]
    tl.store(a.h + at, new)
    v, _fitted = operand_of(new, K)
    store_bytes(a.high, a.low, at, v, at >= 0)
    if K.GAINS:
        if own < K.SLOTS - 2:
            if t >= 0:
                operand, _fits, _gain = with_gain(v, a, t, layer, J, rows, units, B, K)
                store_bytes(a.high, a.low, K.SLOTS * Bp * K.Gp + at, operand, at >= 0)


@triton.jit
def finish(a, kept, change, old, has_step, t, layer, J, rows, units, B, Bp, K: tl.constexpr):
    """Add a group's change to its ``h``, publish it and write the top layer's output.

    Returns the new state, with the old one in rows without the step.
    """
    own = 2 * layer + J
    new = add_change(a, kept, change, old, has_step, K)
    publish(a, new, t, layer, J, rows, units, B, Bp, K)
    inside = (rows < B)[:, None] & (units < K.G)[None, :]
    if own >= K.SLOTS - 2:
        at = ((t * B + rows) * 2 + J)[:, None] * K.G + units[None, :]
        tl.store(a.outputs + at, new, mask=inside)
    if K.STORED:
        tl.store(a.past_h + past_at(own, t + 1, rows, units, B, K), new, mask=inside)
    return new


@triton.jit
def add_change(a, kept, change, old, has_step, K: tl.constexpr):
    """Return ``kept + change`` where there is the step, else ``old``; count wraps (MUL-006)."""
    total = kept + change
    if K.WRAPS:
        wrapped = has_step & (((kept ^ total) & (change ^ total)) < 0)
        tl.atomic_add(a.wraps, tl.sum(wrapped.to(tl.int32)))
    return tl.where(has_step, total, old)


@triton.jit
def past_at(own, t, rows, units, B, K: tl.constexpr):
    """Return where the stored states before step ``t`` are, in ``[C+1, 2·L, B, G]``."""
    row = (tl.cast(t, tl.int64) * K.SLOTS + own) * B + rows[:, None]
    return row * K.G + units[None, :]


@triton.jit
def restored(a, old, t, depth, rows, units, B, K: tl.constexpr):
    """Return a group's old state with the sliced units that were kept (SEQ-007)."""
    sliced = (rows < B)[:, None] & (units < K.G)[None, :] & (units < depth)[None, :]
    at = (t * B + rows)[:, None] * depth + units[None, :]
    return tl.where(sliced, tl.load(a.restore + at, mask=sliced, other=0), old)


@triton.jit
def put(tape, plane, value, place, PLANES: tl.constexpr, K: tl.constexpr):
    """Write a factor into the tape, float32 ``[2·L, PLANES, C, B, Gp]``."""
    own, t, rows, units, B, C = place
    first = (tl.cast(own, tl.int64) * PLANES + plane) * C * B * K.Gp
    at = (t * B + rows)[:, None] * K.Gp + units[None, :]
    tl.store(tape + first + at, value, mask=(rows < B)[:, None] & (units >= 0)[None, :])


@triton.jit
def get(tape, plane, place, PLANES: tl.constexpr, K: tl.constexpr):
    """Read a factor from the tape; 0 for padded rows."""
    own, t, rows, units, B, C = place
    first = (tl.cast(own, tl.int64) * PLANES + plane) * C * B * K.Gp
    at = (t * B + rows)[:, None] * K.Gp + units[None, :]
    return tl.load(tape + first + at, mask=(rows < B)[:, None] & (units >= 0)[None, :], other=0.0)


@triton.jit
def deliver(a, new, t, layer, J, rows, units, B, C, K: tl.constexpr):
    """Write the input of the layer above after step ``t``, or the output of the top layer.

    Outputs are int32 ``[C, B, 2·G]``; ``lower`` is float32 ``[2·L, 2, C, B, Gp]``: the operand and
    its derivative by the state (SEQ-004, GRAD-002, GRAD-016).
    """
    own = 2 * layer + J
    if own >= K.SLOTS - 2:
        at = ((t * B + rows) * 2 + J)[:, None] * K.G + units[None, :]
        tl.store(a.outputs + at, new, mask=(rows < B)[:, None] & (units < K.G)[None, :])
    else:
        v, passes = operand_of(new, K)
        slope = tl.where(passes, 1.0, 0.0)
        if K.GAINS:
            v, fits, gain = with_gain(v, a, t, layer, J, rows, units, B, K)
            slope = tl.where(fits, slope, 0.0) * real(gain, 12)
        place = (own, t, rows, units, B, C)
        put(a.lower, 0, real(v, K.VIEW), place, 2, K)
        put(a.lower, 1, slope, place, 2, K)


@triton.jit(do_not_specialize=RUNTIME)
def prepare(a, t, B, Bp, K: tl.constexpr):
    """Publish the current states of all groups, before a chunk."""
    _tile, _first_row, rows, units = tile_of(tl.program_id(0), K)
    own = tl.program_id(1)
    held = tl.load(a.h + (own * Bp + rows)[:, None] * K.Gp + units[None, :])
    publish(a, held, t, own // 2, own % 2, rows, units, B, Bp, K)
