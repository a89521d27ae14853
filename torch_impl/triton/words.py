"""Kernels for words: staged by tiles in the forward pass, found again by sums in reverse.

Operations are numbered within a chunk in program order. A tile's row of an operation stages its
words together, with their count; the order of BUF-005 (row, then unit) comes from running sums.
"""

import triton
import triton.language as tl

from .arithmetic import pop_digits, push_digits
from .tiles import RUNTIME, rows_with_step


@triton.jit
def push_tile(
    head,
    low,
    z,
    active,
    tile,
    op,
    rows,
    stage,
    counts,
    Bp,
    Gp: tl.constexpr,
    BN: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Push digits, stage the words (BUF-031); return residues and new heads."""
    NT: tl.constexpr = Gp // BN
    full = active & ((head >> 21) >= z)
    if KEEP:
        ones = full.to(tl.int32)
        rank = tl.cumsum(ones, 1) - 1
        at = (op * Bp + rows) * NT + tile
        tl.store(stage + at[:, None] * BN + rank, head.to(tl.int16), mask=full)
        tl.store(counts + at, tl.sum(ones, 1))
    residue, new = push_digits(tl.where(full, head >> 16, head), low, z)
    return residue, tl.where(active, new, head)


@triton.jit
def pop_tile(
    head, residue, z, active, tile, op, rows, counts, Bp, Gp: tl.constexpr, BN: tl.constexpr
):
    """Pop digits; return them and the heads, which may want a word (BUF-002, BUF-032)."""
    NT: tl.constexpr = Gp // BN
    digit, old = pop_digits(head, residue, z)
    old = tl.where(active, old, head)
    short = active & (old < 32768)
    tl.store(counts + (op * Bp + rows) * NT + tile, tl.sum(short.to(tl.int32), 1))
    return digit, old


@triton.jit
def refill_tile(
    head,
    active,
    tile,
    first_row,
    op,
    rows,
    counts,
    words,
    tops,
    Bp,
    Gp: tl.constexpr,
    BN: tl.constexpr,
    CP: tl.constexpr,
    NP: tl.constexpr,
):
    """Return the heads of an operation that was undone, with the words that they want (BUF-032).

    ``CP`` and ``NP`` are powers of two that hold the counts of the operation and of a row.
    """
    NT: tl.constexpr = Gp // BN
    flat = tl.arange(0, CP)
    all_counts = tl.load(counts + op * Bp * NT + flat, mask=flat < Bp * NT, other=0)
    base = tl.load(tops + op + 1) - tl.sum(all_counts)
    tl.store(tops + op, base, mask=(tile == 0) & (first_row == 0))
    base += tl.sum(tl.where(flat < first_row * NT, all_counts, 0))
    tiles = tl.arange(0, NP)
    at = (op * Bp + rows)[:, None] * NT + tiles[None, :]
    own = tl.load(counts + at, mask=tiles[None, :] < NT, other=0)
    row = tl.sum(own, 1)
    before = base + tl.cumsum(row, 0) - row
    before += tl.sum(tl.where(tiles[None, :] < tile, own, 0), 1)
    short = active & (head < 32768)
    place = before[:, None] + tl.cumsum(short.to(tl.int32), 1) - 1
    word = tl.load(words + place, mask=short & (place >= 0), other=0).to(tl.int32) & 0xFFFF
    return tl.where(short, (head << 16) | word, head)


@triton.jit
def compact(stage, counts, places, words, NT: tl.constexpr, BN: tl.constexpr):
    """Bring the words of one row of one operation to their places (BUF-005).

    ``places`` is the running sum of ``counts``.
    """
    row = tl.program_id(0)
    lane = tl.arange(0, BN)
    for tile in range(NT):
        at = row * NT + tile
        n = tl.load(counts + at)
        to = tl.load(places + at) - n
        word = tl.load(stage + at * BN + lane, mask=lane < n, other=0)
        tl.store(words + to + lane, word, mask=lane < n)


@triton.jit(do_not_specialize=RUNTIME)
def refill(
    last_op,
    last_t,
    last_depth,
    mask,
    heads,
    counts,
    words,
    tops,
    B,
    Bp,
    G: tl.constexpr,
    Gp: tl.constexpr,
    MASK: tl.constexpr,
    CP: tl.constexpr,
    NP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Give the heads of the last operation that was undone their words."""
    NT: tl.constexpr = Gp // BN
    tile = tl.program_id(0) % NT
    first_row = (tl.program_id(0) // NT) * BM
    rows = first_row + tl.arange(0, BM)
    units = tile * BN + tl.arange(0, BN)
    at = rows[:, None] * Gp + units[None, :]
    has_step = rows_with_step(mask, last_t, rows, B, MASK)[:, None]
    active = has_step & ((units >= last_depth) & (units < G))[None, :]
    head = refill_tile(
        tl.load(heads + at),
        active,
        tile,
        first_row,
        last_op,
        rows,
        counts,
        words,
        tops,
        Bp,
        Gp,
        BN,
        CP,
        NP,
    )
    tl.store(heads + at, head)
