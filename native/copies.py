"""Rows of states set aside, put back or at rest; outputs, slices, stored states of a step (SEQ)."""

from __future__ import annotations

from .compiling import Array, f32, inner


@inner
def begin_anew(h: Array, at: Array, aside: Array, which: int) -> None:
    """Begin rows of ``[L, 2, R, G]`` anew (SEQ-013).

    Args:
        h: states.
        at: int32 ``[R]``: where a row that starts anew is set aside, else −1.
        aside: ``[n, 1 or 2, L, 2, G]``, or of no entries.
        which: of the states there.
    """
    layers, _, rows, units = h.shape
    for b in range(rows):
        if at[b] >= 0:
            for k in range(layers):
                for j in range(2):
                    for i in range(units):
                        if aside.shape[0]:
                            aside[at[b], which, k, j, i] = h[k, j, b, i]
                        h[k, j, b, i] = 0


@inner
def put_back(h: Array, at: Array, aside: Array, states: Array, t: int, which: int) -> None:
    """Undo :func:`begin_anew`, or take states from ``[C+1, 1 or 2, L, 2, R, G]`` at ``t``."""
    layers, _, rows, units = h.shape
    for b in range(rows):
        if at[b] >= 0:
            for k in range(layers):
                for j in range(2):
                    for i in range(units):
                        if states.shape[0]:
                            h[k, j, b, i] = states[t, which, k, j, b, i]
                        else:
                            h[k, j, b, i] = aside[at[b], which, k, j, i]


@inner
def clear_rows(h: Array, at: Array) -> None:
    """Write zeros to rows of ``[R, G]`` that start anew."""
    rows, units = h.shape
    for b in range(rows):
        if at[b] >= 0:
            for i in range(units):
                h[b, i] = 0


@inner
def idle(
    tape: Array, place: int, size: int, units: int, pieces: int, kept: int, also_kept: int
) -> None:
    """Write the factors of a row that does not have the step (GRAD-015).

    Args:
        tape: float32, flat.
        place: where the row begins in its first piece.
        size: of a piece.
        units: G.
        pieces: how many pieces there are of factors.
        kept: one of what is kept, all of it here.
        also_kept: another one, or the same.
    """
    for piece in range(pieces):
        value = f32(1) if piece in (kept, also_kept) else f32(0)
        for i in range(units):
            tape[piece * size + place + i] = value


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
