"""Gradients of a chunk of steps: the recurrence, then those of parameters and input (GRAD)."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import gru
from . import lstm_rows as lstm
from .compiling import Array, Maybe, inner
from .copies import clear_rows
from .lanes import Group, Lanes, Place
from .packing import padded_columns
from .products import add_row, float_product
from .records import Factors, Outputs, Pull
from .vectors import Kernel, kernel


@kernel
def gru_to_gates(k: Kernel, n: Any, pieces: Place, size: Any, dh: Place, to_z: Place) -> None:
    """Write the gradients of z's and g's pre-activations in a row (GRAD-012)."""
    to_g = k.piece(to_z, n, 2)

    def write(group: Group) -> None:
        d = group.load(dh)
        group.store(to_z, d * group.load(pieces))
        group.store(to_g, d * group.load(k.piece(pieces, size, 1)))

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
    k: Kernel, b: Any, p: Pull, other: Place, own: Place, units: Any, wide: Any
) -> None:
    """Carry a row's gradients on to both states (GRAD-002, GRAD-011, GRAD-012)."""
    forgets, (du, dv) = k.truth(p.forgetting), k.row(b, wide).of(p.du, p.dv)
    (pieces,) = k.row(b, units, p.base).of(p.pieces)

    def factor(group: Group, piece: int) -> Lanes:
        return group.load(k.piece(pieces, p.size, piece))

    def write(group: Group) -> None:
        through_u = group.load(du) * factor(group, gru.R)
        passed = (group.load(dv) + through_u) * factor(group, gru.PASSES)
        group.store(other, group.load(other) + passed)
        d = group.load(own)
        group.store(own, forgets.choose(d * factor(group, gru.KEPT), d))

    k.each(units, write)


@inner
def pull_gru(dh: Array, w_h: Array, w_u: Array, p: Pull) -> None:
    """Carry gradients back over an update of RevGRU (GRAD-012).

    Args:
        dh: float32 ``[2, R, G]``, of both groups.
        w_h: packed weights of z and r.
        w_u: packed weights of g.
        p: which group, and where its factors are.
    """
    _, rows, units = dh.shape
    group, pieces, base, size, ds, at, _, du, dv = p
    wide, own, other = padded_columns(units), group * rows, (1 - group) * rows
    for b in range(rows):
        to, place = at + b * 3 * units, base + b * units
        gru_to_gates(units, pieces, place, size, dh, (own + b) * units, ds, to)
    float_product(ds, at + 2 * units, 3 * units, rows, units, w_u, units, du)
    for b in range(rows):
        to, place = at + b * 3 * units + units, gru.OF_U * size + base + b * units
        multiply_row(units, du, b * wide, pieces, place, ds, to)
    float_product(ds, at, 3 * units, rows, 2 * units, w_h, units, dv)
    for b in range(rows):
        of_other, of_own = (other + b) * units, (own + b) * units
        gru_to_states(b, p, dh, of_other, dh, of_own, units, wide)


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
def pull_lstm(dh: Array, dc: Array, w_h: Array, p: Pull) -> None:
    """Carry gradients back over an update of RevLSTM (GRAD-013); ``dc`` is as ``dh``."""
    _, rows, units = dh.shape
    group, pieces, base, size, ds, at, forgetting, _, dv = p
    wide, count = padded_columns(units), 5 if forgetting else 3
    own, other = group * rows, (1 - group) * rows
    for b in range(rows):
        n, place, to = (own + b) * units, base + b * units, at + b * count * units
        if forgetting:
            lstm_to_gates(units, pieces, place, size, dh, n, dc, n, ds, to)
        else:
            plain_lstm_to_gates(units, pieces, place, size, dh, n, dc, n, ds, to)
    float_product(ds, at, count * units, rows, count * units, w_h, units, dv)
    for b in range(rows):
        place = lstm.PASSES * size + base + b * units
        add_multiplied_row(units, dv, b * wide, pieces, place, dh, (other + b) * units)


@inner
def pull_below(
    ds: Array, at: int, columns: int, w: Array, slopes: Array, under: int, dh: Array, room: Array
) -> None:
    """Carry one group's gradients on to the layer below (GRAD-016).

    Args:
        ds: float32, flat: gradients of pre-activations.
        at: where the group's begin.
        columns: their row length.
        w: packed input weights.
        slopes: float32, flat: of the layer's input, rows of H.
        under: the first row there, times two.
        dh: float32 ``[2, R, G]``: of the layer below.
        room: float32, flat, R times whole panels.
    """
    _, rows, units = dh.shape
    wide = padded_columns(2 * units)
    float_product(ds, at, columns, rows, columns, w, 2 * units, room)
    for b in range(rows):
        for q in range(2):
            of_room, of_slope, to = b * wide + q * units, under + b * 2 + q, (q * rows + b) * units
            add_multiplied_row(units, room, of_room, slopes, of_slope * units, dh, to)


@inner
def pull(
    dh: Array,
    dc: Maybe,
    outputs: Outputs,
    factors: Factors,
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
        outputs: gradients with respect to outputs, float32, read; of no steps if there are none.
        factors: what :func:`.sweeps.recover` wrote.
        aside_at: see :class:`.records.Steps`.
        w_l: packed float32 input weights of the layers above the first, ``[L−1, 2, …]``.
        w_h: packed float32 weights of the view, ``[L, 2, …]``.
        w_u: of RevGRU's candidate; ``None`` for RevLSTM.
        forgetting: whether ``h`` was multiplied.
        ds: float32 ``[L, 2, C, B, N·G]``, to be written.
    """
    layers, _, rows, units = dh.shape
    _, _, steps, batch, columns = ds.shape
    flat, size, b0 = ds.reshape(-1), layers * 2 * steps * batch * units, outputs.b0
    wide = padded_columns(units)
    du, dv = np.empty(rows * wide, np.float32), np.empty(rows * wide, np.float32)
    below = np.empty(rows * padded_columns(2 * units), np.float32)
    for down in range(steps):
        t = steps - 1 - down
        if outputs.h.shape[0]:
            given, top = outputs.h.reshape(-1), dh[layers - 1].reshape(-1)
            for b in range(rows):
                for j in range(2):
                    place = ((t * batch + b0 + b) * 2 + j) * units
                    add_row(units, given, place, top, (j * rows + b) * units)
        for layer in range(layers):
            k = layers - 1 - layer
            for j in (1, 0):
                row = ((k * 2 + j) * steps + t) * batch + b0
                pieces, at = factors.pieces, row * columns
                p = Pull(j, pieces, row * units, size, flat, at, forgetting, du, dv)
                if w_u is not None:
                    pull_gru(dh[k], w_h[k, j], w_u[k, j], p)
                if dc is not None:
                    pull_lstm(dh[k], dc[k], w_h[k, j], p)
            if k:
                for j in range(2):
                    row = ((k * 2 + j) * steps + t) * batch + b0
                    under, at = (((k - 1) * steps + t) * batch + b0) * 2, row * columns
                    pull_below(
                        flat, at, columns, w_l[k - 1, j], factors.slopes, under, dh[k - 1], below
                    )
        if aside_at.shape[0]:
            for k in range(layers):  # SEQ-013: what was before has no part in what follows
                for j in range(2):
                    clear_rows(dh[k, j], aside_at[t])
                    if dc is not None:
                        clear_rows(dc[k, j], aside_at[t])
