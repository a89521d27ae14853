"""Rows of states set aside, put back or at rest; outputs, slices, stored states of a step (SEQ)."""

from __future__ import annotations

from .compiling import Array, f32, inner


@inner
def begin_anew(h: Array, at: Array, aside: Array) -> None:
    """Begin rows of ``[L, 2, R, G]`` anew (SEQ-013).

    Args:
        h: states.
        at: int32 ``[R]``: where a row that starts anew is set aside, else −1.
        aside: ``[n, L, 2, G]``; what finds no room there is let go.
    """
    for b in range(at.size):
        if at[b] >= 0:
            if at[b] < aside.shape[0]:
                copy_states(h[:, :, b], aside[at[b]])
            for k in range(h.shape[0]):
                clear_row(h[k, 0], b)
                clear_row(h[k, 1], b)


@inner
def put_back(h: Array, at: Array, aside: Array) -> None:
    """Undo :func:`begin_anew`."""
    for b in range(at.size):
        if 0 <= at[b] < aside.shape[0]:
            copy_states(aside[at[b]], h[:, :, b])


@inner
def put_stored(h: Array, at: Array, states: Array) -> None:
    """Undo :func:`begin_anew` from all states ``[L, 2, R, G]`` before it."""
    for b in range(at.size):
        if at[b] >= 0:
            copy_states(states[:, :, b], h[:, :, b])


@inner
def copy_states(source: Array, out: Array) -> None:
    """Copy the states of one row, ``[L, 2, G]``."""
    layers, _, units = source.shape
    for k in range(layers):
        for j in range(2):
            for i in range(units):
                out[k, j, i] = source[k, j, i]


@inner
def clear_row(h: Array, b: int) -> None:
    """Write zeros to a row of ``[R, G]``."""
    for i in range(h.shape[1]):
        h[b, i] = 0


@inner
def clear_rows(h: Array, at: Array) -> None:
    """Write zeros to rows of ``[R, G]`` that start anew."""
    for b in range(h.shape[0]):
        if at[b] >= 0:
            clear_row(h, b)


@inner
def idle(
    pieces: Array, place: int, size: int, units: int, count: int, kept: int, also_kept: int
) -> None:
    """Write the factors of a row that does not have the step (GRAD-015).

    Args:
        pieces: float32, flat.
        place: where the row begins in its first piece.
        size: of a piece.
        units: G.
        count: how many pieces there are of factors.
        kept: one of what is kept, all of it here.
        also_kept: another one, or the same.
    """
    for piece in range(count):
        value = f32(1) if piece in (kept, also_kept) else f32(0)
        for i in range(units):
            pieces[piece * size + place + i] = value


@inner
def write_outputs(h: Array, b0: int, out: Array) -> None:
    """Write both groups ``[2, R, G]`` of the top layer to rows of ``[B, H]`` from ``b0`` on."""
    _, rows, units = h.shape
    for b in range(rows):
        for j in range(2):
            for i in range(units):
                out[b0 + b, j * units + i] = h[j, b, i]


@inner
def copy_columns(source: Array, out: Array) -> None:
    """Copy as many columns of each row as ``out`` and ``source`` both have."""
    rows, depth = out.shape
    for b in range(rows):
        for i in range(min(depth, source.shape[1])):
            out[b, i] = source[b, i]


@inner
def copy_all(source: Array, out: Array) -> None:
    """Copy ``[L, 2, R, G]``."""
    flat, to = source.reshape(-1), out.reshape(-1)
    for i in range(to.size):
        to[i] = flat[i]
