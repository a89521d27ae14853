"""The first layer's input parts of a chunk, all steps at once (PROD-004)."""

import triton
import triton.language as tl

from .arithmetic import multiply, together
from .tiles import RUNTIME


@triton.jit(do_not_specialize=RUNTIME)
def input_part(
    x,
    wh,
    wl,
    bias,
    part,
    M,
    width,
    Ip: tl.constexpr,
    G: tl.constexpr,
    Gp: tl.constexpr,
    N: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Compute ``part`` int64 ``[M, 2, N, G]`` from operands int16 ``[M, width]``.

    The weights are byte planes ``[2, N, Gp, Ip]``; axis 1 of the grid is group and gate.
    """
    NT: tl.constexpr = Gp // BN
    rows = (tl.program_id(0) // NT) * BM + tl.arange(0, BM)
    units = (tl.program_id(0) % NT) * BN + tl.arange(0, BN)
    gate = tl.program_id(1)
    hh = tl.zeros((BM, BN), tl.int32)
    mid = tl.zeros((BM, BN), tl.int32)
    ll = tl.zeros((BM, BN), tl.int32)
    ks = tl.arange(0, BK)
    for k in range(0, Ip, BK):
        at = rows[:, None] * width + (k + ks)[None, :]
        inside = (rows < M)[:, None] & (k + ks < width)[None, :]
        a = tl.load(x + at, mask=inside, other=0).to(tl.int32)
        high = (a + 128) >> 8
        a_h = high.to(tl.int8)
        a_l = (a - (high << 8)).to(tl.int8)
        w_at = (gate * Gp + units)[None, :] * Ip + (k + ks)[:, None]
        hh, mid, ll = multiply(hh, mid, ll, a_h, a_l, wh, wl, w_at)
    s = together(hh, mid, ll) + tl.load(bias + gate * Gp + units)[None, :].to(tl.int64)
    at = (rows * 2 * N + gate)[:, None] * G + units[None, :]
    tl.store(part + at, s, mask=(rows < M)[:, None] & (units < G)[None, :])
