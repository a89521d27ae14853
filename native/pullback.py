"""Gradients of a chunk of steps: the recurrence, then those of parameters and input (GRAD)."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import gru
from . import lstm_rows as lstm
from .compiling import Array, Maybe, f32, inner, native
from .copies import clear_rows
from .lanes import Group, Lanes, Place
from .packing import padded_columns
from .products import add_outer_products, add_row, float_product
from .vectors import Kernel, kernel


@kernel
def gru_to_gates(
    k: Kernel, n: Any, tape: Place, size: Any, dh: Place, to_z: Place, to_g: Place
) -> None:
    """Write the gradients of z's and g's pre-activations in a row (GRAD-012)."""

    def write(group: Group) -> None:
        d = group.load(dh)
        group.store(to_z, d * group.load(tape))
        group.store(to_g, d * group.load(k.piece(tape, size, 1)))

    k.each(n, write)


@kernel
def multiply_row(k: Kernel, n: Any, a: Place, b: Place, out: Place) -> None:
    """Write ``a·b``."""
    k.each(n, lambda group: group.store(out, group.load(a) * group.load(b)))


@kernel
def add_multiplied_row(k: Kernel, n: Any, a: Place, b: Place, out: Place) -> None:
    """Add ``a·b``."""

    def add(group: Group) -> None:
        group.store(out, group.load(out) + group.load(a) * group.load(b))

    k.each(n, add)


@kernel
def gru_to_states(
    k: Kernel,
    n: Any,
    tape: Place,
    size: Any,
    du: Place,
    dv: Place,
    other: Place,
    own: Place,
    forgetting: Any,
) -> None:
    """Carry a row's gradients on to both states (GRAD-002, GRAD-011, GRAD-012)."""
    forgets = k.truth(forgetting)

    def write(group: Group) -> None:
        through_u = group.load(du) * group.load(k.piece(tape, size, gru.R))
        passed = (group.load(dv) + through_u) * group.load(k.piece(tape, size, gru.PASSES))
        group.store(other, group.load(other) + passed)
        d = group.load(own)
        group.store(own, forgets.choose(d * group.load(k.piece(tape, size, gru.KEPT)), d))

    k.each(n, write)


@inner
def pull_gru(
    dh: Array,
    group: int,
    tape: Array,
    base: int,
    size: int,
    ds: Array,
    at: int,
    w_h: Array,
    w_u: Array,
    forgetting: bool,
    du: Array,
    dv: Array,
) -> None:
    """Carry gradients back over an update of RevGRU (GRAD-012).

    Args:
        dh: float32 ``[2, R, G]``, of both groups.
        group: which was updated.
        tape: see :mod:`.gru`.
        base: where the step begins in a piece of the tape.
        size: of a piece.
        ds: float32, flat, rows of 3·G: of the pre-activations.
        at: where the step begins there.
        w_h: packed weights of z and r.
        w_u: packed weights of g.
        forgetting: whether ``h`` was multiplied.
        du: float32, flat, room for R times whole panels; as is ``dv``.
        dv: see ``du``.
    """
    _, rows, units = dh.shape
    flat, wide = dh.reshape(-1), padded_columns(units)
    own, other = group * rows * units, (1 - group) * rows * units
    for b in range(rows):
        to, place = at + b * 3 * units, base + b * units
        gru_to_gates(units, tape, place, size, flat, own + b * units, ds, to, ds, to + 2 * units)
    float_product(ds, at + 2 * units, 3 * units, rows, units, w_u, units, du)
    for b in range(rows):
        to, place = at + b * 3 * units + units, gru.OF_U * size + base + b * units
        multiply_row(units, du, b * wide, tape, place, ds, to)
    float_product(ds, at, 3 * units, rows, 2 * units, w_h, units, dv)
    for b in range(rows):
        gru_to_states(
            units,
            tape,
            base + b * units,
            size,
            du,
            b * wide,
            dv,
            b * wide,
            flat,
            other + b * units,
            flat,
            own + b * units,
            forgetting,
        )


def _lstm_to_gates(
    k: Kernel, n: Any, tape: Place, size: Any, dh: Place, dc: Place, ds: Place, skip: int
) -> None:
    def write(group: Group) -> None:
        def factor(piece: int) -> Lanes:
            return group.load(k.piece(tape, size, piece))

        of_h = group.load(dh)
        of_c = group.load(dc) + of_h * factor(lstm.OF_C)
        for gate in range(skip, 5 - skip):
            d = of_c if gate < 3 else of_h
            group.store(k.piece(ds, n, gate - skip), d * factor(gate))
        group.store(dc, of_c if skip else of_c * factor(lstm.KEPT_C))
        if not skip:
            group.store(dh, of_h * factor(lstm.KEPT_H))

    k.each(n, write)


@kernel
def lstm_to_gates(
    k: Kernel, n: Any, tape: Place, size: Any, dh: Place, dc: Place, ds: Place
) -> None:
    """Write a row's gradients of pre-activations, and carry those of states on (GRAD-013)."""
    _lstm_to_gates(k, n, tape, size, dh, dc, ds, 0)


@kernel
def plain_lstm_to_gates(
    k: Kernel, n: Any, tape: Place, size: Any, dh: Place, dc: Place, ds: Place
) -> None:
    """Do so without forgetting."""
    _lstm_to_gates(k, n, tape, size, dh, dc, ds, 1)


@inner
def pull_lstm(
    dh: Array,
    dc: Array,
    group: int,
    tape: Array,
    base: int,
    size: int,
    ds: Array,
    at: int,
    w_h: Array,
    forgetting: bool,
    dv: Array,
) -> None:
    """Carry gradients back over an update of RevLSTM (GRAD-013); ``dc`` is as ``dh``."""
    _, rows, units = dh.shape
    flat_h, flat_c, wide = dh.reshape(-1), dc.reshape(-1), padded_columns(units)
    own, other, count = group * rows * units, (1 - group) * rows * units, 5 if forgetting else 3
    for b in range(rows):
        n, place, to = own + b * units, base + b * units, at + b * count * units
        if forgetting:
            lstm_to_gates(units, tape, place, size, flat_h, n, flat_c, n, ds, to)
        else:
            plain_lstm_to_gates(units, tape, place, size, flat_h, n, flat_c, n, ds, to)
    float_product(ds, at, count * units, rows, count * units, w_h, units, dv)
    for b in range(rows):
        place = lstm.PASSES * size + base + b * units
        add_multiplied_row(units, dv, b * wide, tape, place, flat_h, other + b * units)


@native
def pull(
    dh: Array,
    dc: Maybe,
    grad_outputs: Array,
    b0: int,
    tape: Array,
    slopes: Array,
    aside_at: Array,
    w_l: Array,
    w_h: Array,
    w_u: Maybe,
    forgetting: bool,
    ds: Array,
) -> None:
    """Carry gradients back over a chunk of C steps of R rows.

    Args:
        dh: float32 ``[L, 2, R, G]``, carried on in place; as is ``dc``, ``None`` for RevGRU.
        dc: see ``dh``.
        grad_outputs: float32 ``[C, B, H]``, read from row ``b0`` on, or of no rows.
        b0: see ``grad_outputs``.
        tape: see :func:`.sweeps.recover`, as for ``slopes``.
        slopes: see ``tape``.
        aside_at: see :func:`.sweeps.forward`.
        w_l: packed float32 input weights of the layers above the first, ``[L−1, 2, …]``.
        w_h: packed float32 weights of the view, ``[L, 2, …]``.
        w_u: of RevGRU's candidate; ``None`` for RevLSTM.
        forgetting: whether ``h`` was multiplied.
        ds: float32 ``[L, 2, C, B, N·G]``, to be written.
    """
    layers, _, rows, units = dh.shape
    _, _, steps, batch, columns = ds.shape
    flat, size, hidden = ds.reshape(-1), layers * 2 * steps * batch * units, 2 * units
    wide, wide_hidden = padded_columns(units), padded_columns(hidden)
    du, dv = np.empty(rows * wide, np.float32), np.empty(rows * wide, np.float32)
    below = np.empty(rows * wide_hidden, np.float32)
    for back in range(steps):
        t = steps - 1 - back
        if grad_outputs.shape[1]:
            given, top = grad_outputs.reshape(-1), dh[layers - 1].reshape(-1)
            for b in range(rows):
                for j in range(2):
                    place = (t * batch + b0 + b) * hidden + j * units
                    add_row(units, given, place, top, (j * rows + b) * units)
        for down in range(layers):
            k = layers - 1 - down
            for j in (1, 0):
                row = ((k * 2 + j) * steps + t) * batch + b0
                base, at = row * units, row * columns
                if w_u is not None:
                    pull_gru(
                        dh[k],
                        j,
                        tape,
                        base,
                        size,
                        flat,
                        at,
                        w_h[k, j],
                        w_u[k, j],
                        forgetting,
                        du,
                        dv,
                    )
                if dc is not None:
                    pull_lstm(
                        dh[k], dc[k], j, tape, base, size, flat, at, w_h[k, j], forgetting, dv
                    )
            if k:
                own = dh[k - 1].reshape(-1)
                for j in range(2):
                    at = (((k * 2 + j) * steps + t) * batch + b0) * columns
                    float_product(flat, at, columns, rows, columns, w_l[k - 1, j], hidden, below)
                    for b in range(rows):
                        place = (((k - 1) * steps + t) * batch + b0 + b) * hidden
                        for q in range(2):  # GRAD-016
                            n = q * units
                            add_multiplied_row(
                                units,
                                below,
                                b * wide_hidden + n,
                                slopes,
                                place + n,
                                own,
                                (q * rows + b) * units,
                            )
        if aside_at.shape[0]:
            for k in range(layers):  # SEQ-013: what was before has no part in what follows
                for j in range(2):
                    clear_rows(dh[k, j], aside_at[t])
                    if dc is not None:
                        clear_rows(dc[k, j], aside_at[t])


@native
def add_bias(ds: Array, into: Array, first: int) -> None:
    """Add the sums of ``ds``, ``[K, N·G]``, to a bias from ``first`` on (GRAD-014)."""
    length, columns = ds.shape
    flat, total = ds.reshape(-1), np.zeros(columns, np.float32)
    for k in range(length):
        add_row(columns, flat, k * columns, total, 0)
    add_row(columns, total, 0, into, first)


@native
def add_weights(
    ds: Array, first: int, rows: int, columns: int, packed: Array, width: int, into: Array, to: int
) -> None:
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
    to, part = dx.reshape(-1), np.empty(some * wide, np.float32)
    for i in range(to.size):
        to[i] = f32(0)
    for begin in range(0, count, some):
        rows = min(some, count - begin)
        for j in range(2):
            at = (j * total + first + begin) * columns
            float_product(flat, at, columns, rows, columns, w[j], length, part)
            for r in range(rows):
                add_row(length, part, r * wide, to, (begin + r) * length)
