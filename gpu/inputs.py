"""The first layer's input parts of a chunk, all steps at once (PROD-004)."""

import triton
import triton.language as tl

from .arithmetic import multiply, together, zeros
from .tiles import RUNTIME, tile_of


@triton.jit(do_not_specialize=RUNTIME)
def input_part(x, wh, wl, bias, part, M, width, K: tl.constexpr):
    """Compute ``part`` int64 ``[M, 2, N, G]`` from operands int16 ``[M, width]``.

    The weights are byte planes ``[2, N, Gp, Ip]``; axis 1 of the grid is group and gate.
    """
    _tile, _first_row, rows, units = tile_of(tl.program_id(0), K)
    gate = tl.program_id(1)
    hh = zeros(tl.int32, K)
    mid = zeros(tl.int32, K)
    ll = zeros(tl.int32, K)
    ks = tl.arange(0, K.BK)
    for k in range(0, K.Ip, K.BK):
        at = rows[:, None] * width + (k + ks)[None, :]
        inside = (rows < M)[:, None] & (k + ks < width)[None, :]
        a = tl.load(x + at, mask=inside, other=0).to(tl.int32)
        high = (a + 128) >> 8
        a_h = high.to(tl.int8)
        a_l = (a - (high << 8)).to(tl.int8)
        w_at = (gate * K.Gp + units)[None, :] * K.Ip + (k + ks)[:, None]
        hh, mid, ll = multiply(hh, mid, ll, a_h, a_l, wh, wl, w_at)
    s = together(hh, mid, ll) + tl.load(bias + gate * K.Gp + units)[None, :].to(tl.int64)
    at = (rows * 2 * K.N + gate)[:, None] * K.G + units[None, :]
    tl.store(part + at, s, mask=(rows < M)[:, None] & (units < K.G)[None, :])
