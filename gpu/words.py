"""Kernels for words: staged by tiles in the forward pass, located by sums in the reversal.

Operations are numbered within a chunk in program order. A tile's row of an operation stages its
words together, with their count; the order of BUF-005 (row, then unit) comes from running sums.
"""

import triton
import triton.language as tl

from .arithmetic import floor_divide, pop_digits, push_digits
from .tiles import RUNTIME, tile_of, with_step


@triton.jit
def push_tile(a, head, low, z, active, tile, op, rows, Bp, K: tl.constexpr):
    """Push digits, stage the words (BUF-031); return residues and new heads."""
    full = active & ((head >> 21) >= z)
    if K.KEEP:
        ones = full.to(tl.int32)
        rank = tl.cumsum(ones, 1) - 1
        at = (op * Bp + rows) * K.NT + tile
        tl.store(a.stage + at[:, None] * K.BN + rank, head.to(tl.int16), mask=full)
        tl.store(a.counts + at, tl.sum(ones, 1))
    residue, new = push_digits(tl.where(full, head >> 16, head), low, z)
    return residue, tl.where(active, new, head)


@triton.jit
def multiplied(a, head, old, z, has_step, depth, tile, op, rows, units, Bp, K: tl.constexpr):
    """Multiply states by gates and push digits (MUL-001, MUL-005); return products and heads."""
    active = has_step & (units >= depth)[None, :]
    residue, head = push_tile(a, head, old & 1023, z, active, tile, op, rows, Bp, K)
    return (old >> 10) * z + tl.where(active, residue, 0), head


@triton.jit
def divided(a, head, product, z, has_step, depth, tile, op, rows, units, Bp, K: tl.constexpr):
    """Undo ``multiplied`` (MUL-003); return states and heads, which may lack a word."""
    quotient = floor_divide(product, z)
    active = has_step & (units >= depth)[None, :]
    digit, old = pop_digits(head, product - quotient * z, z)
    old = tl.where(active, old, head)
    short = active & (old < 32768)
    tl.store(a.counts + (op * Bp + rows) * K.NT + tile, tl.sum(short.to(tl.int32), 1))
    return (quotient << 10) + digit, old


@triton.jit
def refill_tile(a, head, active, tile, first_row, op, rows, Bp, K: tl.constexpr):
    """Return the heads of an operation that was undone, with the words that they lack (BUF-032)."""
    flat = tl.arange(0, K.CP)
    all_counts = tl.load(a.counts + op * Bp * K.NT + flat, mask=flat < Bp * K.NT, other=0)
    base = tl.load(a.tops + op + 1) - tl.sum(all_counts)
    tl.store(a.tops + op, base, mask=(tile == 0) & (first_row == 0))
    base += tl.sum(tl.where(flat < first_row * K.NT, all_counts, 0))
    tiles = tl.arange(0, K.NP)
    at = (op * Bp + rows)[:, None] * K.NT + tiles[None, :]
    own = tl.load(a.counts + at, mask=tiles[None, :] < K.NT, other=0)
    row = tl.sum(own, 1)
    before = base + tl.cumsum(row, 0) - row
    before += tl.sum(tl.where(tiles[None, :] < tile, own, 0), 1)
    short = active & (head < 32768)
    place = before[:, None] + tl.cumsum(short.to(tl.int32), 1) - 1
    word = tl.load(a.words + place, mask=short & (place >= 0), other=0).to(tl.int32) & 0xFFFF
    return tl.where(short, (head << 16) | word, head)


@triton.jit(do_not_specialize=RUNTIME)
def compact(a, places, into, room, K: tl.constexpr):
    """Copy the words of one row of one operation to their places (BUF-005).

    ``places`` is the running sum of the counts; there is room for ``room`` words.
    """
    row = tl.program_id(0)
    lane = tl.arange(0, K.BN)
    for tile in range(K.NT):
        at = row * K.NT + tile
        n = tl.load(a.counts + at)
        to = tl.load(places + at) - n
        word = tl.load(a.stage + at * K.BN + lane, mask=lane < n, other=0)
        tl.store(into + to + lane, word, mask=(lane < n) & (to + lane < room))


@triton.jit(do_not_specialize=RUNTIME)
def refill(a, last_op, last_t, last_depth, B, Bp, K: tl.constexpr):
    """Give the heads of the last operation that was undone their words."""
    tile, first_row, rows, units = tile_of(tl.program_id(0), K)
    at = rows[:, None] * K.Gp + units[None, :]
    active = with_step(a, last_t, rows, units, B, K) & (units >= last_depth)[None, :]
    head = refill_tile(a, tl.load(a.heads + at), active, tile, first_row, last_op, rows, Bp, K)
    tl.store(a.heads + at, head)
