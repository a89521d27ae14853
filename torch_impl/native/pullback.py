"""Gradients of a chunk of steps: the recurrence, then those of parameters and input (GRAD)."""

from __future__ import annotations

import numpy as np

from .compiling import Array, f32, native
from .products import add_outer_products, float_product, padded_columns


@native
def pull_gru(
    dh: Array, group: int, tape: Array, base: int, size: int, ok: Array, ds: Array, at: int,
    w_h: Array, w_u: Array, forgetting: bool, du: Array, dv: Array,
) -> None:  # fmt: skip
    """Carry gradients back over an update of RevGRU (GRAD-012).

    Args:
        dh: float32 ``[2, R, G]``, of both groups.
        group: which was updated.
        tape: see :func:`.gru.factors`.
        base: where the step begins in a piece of the tape.
        size: of a piece.
        ok: as the tape, where the view did not saturate.
        ds: float32, flat, rows of 3·G: of the pre-activations.
        at: where the step begins there.
        w_h: packed weights of z and r.
        w_u: packed weights of g.
        forgetting: whether ``h`` was multiplied.
        du: float32, flat, room for R times whole panels; as is ``dv``.
        dv: see ``du``.
    """
    _, rows, units = dh.shape
    own, other = dh[group], dh[1 - group]
    wide = padded_columns(units)
    for b in range(rows):
        to, place = at + b * 3 * units, base + b * units
        multiply(own[b], tape[place:], ds[to : to + units])
        multiply(own[b], tape[size + place :], ds[to + 2 * units : to + 3 * units])
    float_product(ds, at + 2 * units, 3 * units, rows, units, w_u, units, du)
    for b in range(rows):
        to, place = at + b * 3 * units + units, base + b * units
        multiply(du[b * wide :], tape[4 * size + place :], ds[to : to + units])
    float_product(ds, at, 3 * units, rows, 2 * units, w_h, units, dv)
    for b in range(rows):
        place, given = base + b * units, dv[b * wide : b * wide + units]
        add_multiplied(du[b * wide :], tape[3 * size + place :], given)
        add_passed(given, ok[place:], other[b])
        if forgetting:
            multiply(own[b], tape[2 * size + place :], own[b])  # GRAD-011


@native
def multiply(a: Array, b: Array, out: Array) -> None:
    """Write ``a·b``."""
    for i in range(out.size):
        out[i] = a[i] * b[i]


@native
def add_multiplied(a: Array, b: Array, out: Array) -> None:
    """Add ``a·b``."""
    for i in range(out.size):
        out[i] += a[i] * b[i]


@native
def add_to(out: Array, a: Array) -> None:
    """Add ``a``."""
    for i in range(out.size):
        out[i] += a[i]


@native
def add_passed(a: Array, ok: Array, out: Array) -> None:
    """Add ``a`` where the view did not saturate (GRAD-002)."""
    for i in range(out.size):
        out[i] += a[i] * f32(ok[i])


@native
def pull_lstm(
    dh: Array, dc: Array, group: int, tape: Array, base: int, size: int, ok: Array, ds: Array,
    at: int, w_h: Array, forgetting: bool, dv: Array,
) -> None:  # fmt: skip
    """Carry gradients back over an update of RevLSTM (GRAD-013); ``dc`` is as ``dh``."""
    _, rows, units = dh.shape
    own, other, cell = dh[group], dh[1 - group], dc[group]
    count, skip = (5, 0) if forgetting else (3, 1)
    wide = padded_columns(units)
    for b in range(rows):
        place = base + b * units
        add_multiplied(own[b], tape[5 * size + place :], cell[b])
        for q in range(count):
            to, piece = at + (b * count + q) * units, (q + skip) * size + place
            if q + skip < 3:
                multiply(cell[b], tape[piece:], ds[to : to + units])
            else:
                multiply(own[b], tape[piece:], ds[to : to + units])
        if forgetting:
            multiply(cell[b], tape[6 * size + place :], cell[b])
            multiply(own[b], tape[7 * size + place :], own[b])
    float_product(ds, at, count * units, rows, count * units, w_h, units, dv)
    for b in range(rows):
        add_passed(dv[b * wide :], ok[base + b * units :], other[b])


@native
def pull(
    dh: Array, dc: Array, grad_outputs: Array, b0: int, tape: Array, ok: Array, slopes: Array,
    aside_at: Array, w_l: Array, w_h: Array, w_u: Array, gates: int, forgetting: bool, ds: Array,
) -> None:  # fmt: skip
    """Carry gradients back over a chunk of C steps of R rows.

    Args:
        dh: float32 ``[L, 2, R, G]``, carried on in place; as is ``dc``, of no layers for RevGRU.
        dc: see ``dh``.
        grad_outputs: float32 ``[C, B, H]``, read from row ``b0`` on, or of no rows.
        b0: see ``grad_outputs``.
        tape: see :func:`.sweeps.recover`, as for ``ok`` and ``slopes``.
        ok: see ``tape``.
        slopes: see ``tape``.
        aside_at: see :func:`.sweeps.forward`.
        w_l: packed float32 input weights of the layers above the first, ``[L−1, 2, …]``.
        w_h: packed float32 weights of the view, ``[L, 2, …]``.
        w_u: of RevGRU's candidate.
        gates: N.
        forgetting: whether ``h`` was multiplied.
        ds: float32 ``[L, 2, C, B, N·G]``, to be written.
    """
    layers, _, rows, units = dh.shape
    _, _, steps, batch, columns = ds.shape
    flat, size, hidden = ds.reshape(-1), layers * 2 * steps * batch * units, 2 * units
    wide, wide_hidden = padded_columns(units), padded_columns(hidden)
    du, dv = np.empty(rows * wide, np.float32), np.empty(rows * wide, np.float32)
    below = np.empty((2, rows * wide_hidden), np.float32)
    for back in range(steps):
        t = steps - 1 - back
        if grad_outputs.shape[1]:
            for b in range(rows):
                add_to(dh[layers - 1, 0, b], grad_outputs[t, b0 + b])
                add_to(dh[layers - 1, 1, b], grad_outputs[t, b0 + b, units:])
        for down in range(layers):
            k = layers - 1 - down
            for j in (1, 0):
                row = ((k * 2 + j) * steps + t) * batch + b0
                base, at = row * units, row * columns
                if dc.shape[0]:
                    pull_lstm(
                        dh[k], dc[k], j, tape, base, size, ok, flat, at, w_h[k, j], forgetting, dv
                    )
                else:
                    pull_gru(
                        dh[k], j, tape, base, size, ok, flat, at, w_h[k, j], w_u[k, j],
                        forgetting, du, dv,
                    )  # fmt: skip
            if k:
                for j in range(2):
                    at = (((k * 2 + j) * steps + t) * batch + b0) * columns
                    float_product(flat, at, columns, rows, columns, w_l[k - 1, j], hidden, below[j])
                for b in range(rows):
                    place = (((k - 1) * steps + t) * batch + b0 + b) * hidden
                    for j in range(2):
                        n = b * wide_hidden + j * units
                        own = dh[k - 1, j, b]
                        for q in range(2):  # GRAD-016
                            add_multiplied(below[q, n:], slopes[place + j * units :], own)
        if aside_at.shape[0]:
            for b in range(rows):
                if aside_at[t, b] >= 0:  # SEQ-013: what was before has no part in what follows
                    dh[:, :, b] = f32(0)
                    if dc.shape[0]:
                        dc[:, :, b] = f32(0)


@native
def add_bias(ds: Array, into: Array, first: int) -> None:
    """Add the sums of ``ds``, ``[K, N·G]``, to a bias from ``first`` on (GRAD-014)."""
    length, columns = ds.shape
    total = np.zeros(columns, np.float32)
    for k in range(length):
        add_to(total, ds[k])
    add_to(into[first : first + columns], total)


@native
def add_weights(
    ds: Array, first: int, rows: int, columns: int, packed: Array, width: int, into: Array,
    to: int,
) -> None:  # fmt: skip
    """Add to some rows of a weight's gradient (GRAD-014).

    Args:
        ds: float32 ``[K, N·G]``.
        first: first column of it.
        rows: how many.
        columns: its columns N·G.
        packed: the operand, ``[K, width]``, packed.
        width: see ``packed``.
        into: float32 ``[…, width]``.
        to: the row there that belongs to column ``first``.
    """
    length = ds.shape[0]
    add_outer_products(ds.reshape(-1), first, columns, rows, length, packed, width, into, to)


@native
def input_gradient(ds: Array, w: Array, first: int, dx: Array) -> None:
    """Write rows of the gradient of layer 0's input.

    Args:
        ds: float32 ``[2, K, N·G]``.
        w: packed float32 weights, ``[2, …]``.
        first: first row of ``dx`` among the K.
        dx: float32 ``[n, I]``.
    """
    _, total, columns = ds.shape
    count, length = dx.shape
    wide = padded_columns(length)
    flat = ds.reshape(-1)
    some = min(count, 64)
    parts = np.empty((2, some * wide), np.float32)
    for begin in range(0, count, some):
        rows = min(some, count - begin)
        for j in range(2):
            at = (j * total + first + begin) * columns
            float_product(flat, at, columns, rows, columns, w[j], length, parts[j])
        for r in range(rows):
            dx[begin + r] = parts[0, r * wide : r * wide + length]
            add_to(dx[begin + r], parts[1, r * wide :])
