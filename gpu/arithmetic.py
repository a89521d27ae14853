"""Device functions of all kernels: activations, gates, products by bytes, digits.

Units are padded to ``Gp`` and rows to ``Bp``; a tile is ``BM`` rows by ``BN`` units. Operands of
products are two byte planes (FMT-003) ``[slot, Bp, Gp]``. ``a`` holds all arrays by name
(``arrays.Pointers``), ``K`` all constants (``constants.Constants``).
"""

import triton
import triton.language as tl


@triton.jit
def tanh_fixed(s, table, R: tl.constexpr):
    """Return tanh of int64 or int32 ``s`` (ACT-002); ``table`` as ``activations.packed_table``."""
    s = tl.minimum(tl.maximum(s, -(1 << (R + 3))), 1 << (R + 3)).to(tl.int32)
    u = tl.abs(s)
    packed = tl.load(table + (u >> (R - 7)))
    f = u & ((1 << (R - 7)) - 1)
    t = (packed >> 9) + (((packed & 511) * f + (1 << (R - 8))) >> (R - 7))
    sign = s >> 31
    return (t ^ sign) - sign


@triton.jit
def sigmoid_fixed(s, table, R: tl.constexpr):
    """Return the sigmoid (ACT-003)."""
    return (tanh_fixed(s, table, R + 1) + 32768) >> 1


@triton.jit
def unclipped_gate(sigma, LIMIT: tl.constexpr):
    """Return a forget gate before its clip (ACT-004; ACT-005 where ``LIMIT`` is 0)."""
    if LIMIT == 0:
        z = (sigma + 16) >> 5
    else:
        z = (sigma * ((1 << LIMIT) - 1) + (32768 + (1 << (4 + LIMIT)))) >> (5 + LIMIT)
    return z


@triton.jit
def clip_gate(z, Z_MAX: tl.constexpr):
    """Clip a forget gate."""
    return tl.minimum(tl.maximum(z, 1), Z_MAX)


@triton.jit
def gate_slope(sigma, LIMIT: tl.constexpr, Z_MAX: tl.constexpr):
    """Return a forget gate's derivative by its pre-activation, float32 (GRAD-010)."""
    y = sigma.to(tl.float32) * 0.000030517578125  # 2^-15
    slope = y - y * y
    if LIMIT != 0:
        slope *= 1.0 - 1.0 / (1 << LIMIT)
    z = unclipped_gate(sigma, LIMIT)
    return tl.where((z >= 1) & (z <= Z_MAX), slope, 0.0)


@triton.jit
def real(v, BITS: tl.constexpr):
    """Return the float32 nearest to what ``v`` stands for (GEN-004)."""
    return v.to(tl.float32) * (1.0 / (1 << BITS))


@triton.jit
def round_shift(v, BITS: tl.constexpr):
    """Return ``rs(v, BITS)`` (GEN-003)."""
    if BITS == 0:
        r = v
    else:
        r = ((v >> (BITS - 1)) + 1) >> 1
    return r


@triton.jit
def clip_operand(v):
    """Saturate an operand (FMT-004)."""
    return tl.minimum(tl.maximum(v, -32512), 32512)


@triton.jit
def store_bytes(high, low, at, a, ok):
    """Store operands as two byte planes (FMT-003)."""
    h = (a + 128) >> 8
    tl.store(high + at, h.to(tl.int8), mask=ok)
    tl.store(low + at, (a - (h << 8)).to(tl.int8), mask=ok)


@triton.jit
def load_operand(high, low, at):
    """Load operands from two byte planes."""
    return (tl.load(high + at).to(tl.int32) << 8) + tl.load(low + at).to(tl.int32)


@triton.jit
def multiply(hh, mid, ll, a_h, a_l, wh, wl, at):
    """Add one block of the four byte products to their sums (PROD-003)."""
    w_h = tl.load(wh + at)
    w_l = tl.load(wl + at)
    hh = tl.dot(a_h, w_h, acc=hh, out_dtype=tl.int32)
    mid = tl.dot(a_h, w_l, acc=mid, out_dtype=tl.int32)
    mid = tl.dot(a_l, w_h, acc=mid, out_dtype=tl.int32)
    ll = tl.dot(a_l, w_l, acc=ll, out_dtype=tl.int32)
    return hh, mid, ll


@triton.jit
def together(hh, mid, ll):
    """Return the exact sum, int64; both cross sums lie in ``mid``: lengths below 2^16."""
    return (hh.to(tl.int64) << 16) + (mid.to(tl.int64) << 8) + ll.to(tl.int64)


@triton.jit
def zeros(dtype: tl.constexpr, K: tl.constexpr):
    """Return a tile of zeros."""
    BM: tl.constexpr = K.BM
    BN: tl.constexpr = K.BN
    return tl.zeros((BM, BN), dtype)


@triton.jit
def of_layer(pointer, layer, SIZE: tl.constexpr, K: tl.constexpr):
    """Return where a layer's ``SIZE`` weights begin; those above the first share an array."""
    if not K.FIRST:
        pointer += tl.cast(layer - 1, tl.int64) * SIZE
    return pointer


@triton.jit
def operand_block(a, k, last, below, rows, Bp, K: tl.constexpr):
    """Return high and low bytes of the operands from position ``k`` of a product's sum on.

    In the first layer they are in the slot ``last``; above, the two slots from ``below`` come
    before it.
    """
    slot = last
    if not K.FIRST:
        slot = tl.where(k < 2 * K.Gp, below + k // K.Gp, last)
    at = (slot * Bp + rows)[:, None] * K.Gp + (k % K.Gp + tl.arange(0, K.BK))[None, :]
    return tl.load(a.high + at), tl.load(a.low + at)


@triton.jit
def product(a, layer, last, rows, outs, Bp, K: tl.constexpr):
    """Return ``sum_k a[row, k]·w[out, k]``, int64 (PROD-001); operands by ``operand_block``."""
    LENGTH: tl.constexpr = K.Gp if K.FIRST else 3 * K.Gp
    below = 2 * layer - 2 + K.INPUT_SLOT
    wh = of_layer(a.wh, layer, 2 * K.N * K.Gp * LENGTH, K)
    wl = of_layer(a.wl, layer, 2 * K.N * K.Gp * LENGTH, K)
    hh = zeros(tl.int32, K)
    mid = zeros(tl.int32, K)
    ll = zeros(tl.int32, K)
    for k in range(0, LENGTH, K.BK):
        a_h, a_l = operand_block(a, k, last, below, rows, Bp, K)
        at = outs[None, :] * LENGTH + (k + tl.arange(0, K.BK))[:, None]
        hh, mid, ll = multiply(hh, mid, ll, a_h, a_l, wh, wl, at)
    return together(hh, mid, ll)


@triton.jit
def floor_divide(p, z):
    """Return the floor of int32 ``p`` by gates."""
    q = p // z  # towards zero
    return tl.where(q * z > p, q - 1, q)


@triton.jit
def push_digits(head, low, z):
    """Return residue and new head (BUF-001, BUF-034)."""
    q = head // z
    m = ((head - q * z) << 10) + low
    e = m // z
    return m - e * z, (q << 10) + e


@triton.jit
def pop_digits(head, residue, z):
    """Return digit and old head (BUF-002) in 32 bits."""
    n = (head & 1023) * z + residue
    return n & 1023, (head >> 10) * z + (n >> 10)
