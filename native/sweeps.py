"""A chunk of steps forward and back, for some rows of a batch, in one call each (SEQ).

What a configuration does not have is ``None``: cell states of RevGRU, weights of RevLSTM's
candidate, heads without forgetting. Numba then leaves out what would be done with it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from . import gru, lstm, lstm_rows
from .arithmetic import (
    INPUT_SHIFT,
    LAYER_SHIFT,
    SLICES,
    STATE_BITS,
    VIEW_BITS,
    VIEW_SHIFT,
    layer_input,
    views,
    views_back,
)
from .buffers import TOP, UNDERFLOW
from .compiling import Array, Maybe, f32, i64, inner, native
from .copies import begin_anew, clear_rows, copy_all, copy_columns, put_back, write_outputs
from .packing import padded_columns
from .sums import input_sums, recurrent_sums
from .tiles import LANES

# Rows (steps times batch) whose input sums are computed together.
_TOGETHER: Final = 80
# Places in a layer's norms.
INPUT: Final = 0
VIEW: Final = 1
CANDIDATE: Final = 3
BIAS: Final = 5
NORMS: Final = 6


@inner
def _room_for_sums(together: int, rows: int, columns: int) -> Any:
    """Return room for sums: recurrent, of the input, of a layer's; both in int64; zeros; a norm."""
    room = padded_columns(columns) + LANES
    return (
        np.empty(rows * room, np.int32),
        np.empty(together * rows * room, np.int32),
        np.empty(rows * room, np.int32),
        np.empty((together * rows, columns), np.int64),
        np.empty((rows, columns), np.int64),
        np.zeros(room, np.int32),
        np.zeros(1, np.int64),
    )


@inner
def _room_for_units(rows: int, units: int, by_row: int) -> Any:
    """Return room for views, RevGRU's operands, inputs of a layer above, and two gates."""
    return (
        np.zeros(rows * by_row, np.int16),
        np.zeros(rows * by_row, np.int16),
        np.zeros(rows * 2 * units, np.int16),
        np.empty(rows * units, np.int32),
        np.empty(rows * units, np.int32),
    )


@native
def forward(
    plan: Array,
    table: Array,
    x: Array,
    h: Array,
    c: Maybe,
    heads: Maybe,
    w_x: Array,
    w_l: Array,
    w_h: Array,
    w_u: Maybe,
    norms: Array,
    bias: Array,
    active: Array,
    aside_at: Array,
    aside: Array,
    gains: Array,
    words: Array,
    keep: int,
    tally: Array,
    outputs: Array,
    b0: int,
    slices: Array,
    states: Array,
    counts: Array,
    pushed: Array,
) -> None:
    """Take a chunk of C steps of R rows forward.

    Args:
        plan: numbers of the configuration.
        table: of tanh.
        x: operands, int16 ``[C, R, I]``, I even.
        h: int32 ``[L, 2, R, G]``, carried on in place; as is ``c``, ``None`` for RevGRU.
        c: see ``h``.
        heads: int32 ``[R, G]``, carried on in place; ``None`` without forgetting.
        w_x: packed input weights of layer 0.
        w_l: of the layers above, ``[L−1, …]``.
        w_h: packed weights of the view, ``[L, 2, …]``.
        w_u: of RevGRU's candidate; ``None`` for RevLSTM.
        norms: of all, and the largest bias, int64 ``[L, 6]``.
        bias: int32 ``[L, 2·N·G]``.
        active: uint8 ``[C, R]`` (SEQ-002).
        aside_at: int32 ``[C, R]``: where a row that starts anew is set aside, else −1; no steps
            where none does (SEQ-013).
        aside: int32 ``[n, 1 or 2, L, 2, G]``.
        gains: int32 ``[C, L−1, R, H]``, or of no steps (SEQ-012).
        words: int16, with room for a vector more than can be pushed.
        keep: whether to keep words, 1 or 0.
        tally: see :mod:`.buffers`.
        outputs: int32 ``[C, B, H]``, or of no steps; written from row ``b0`` on.
        b0: see ``outputs``.
        slices: int32 ``[C+1, R, D]``, or of no steps (SEQ-007).
        states: int32 ``[C+1, 1 or 2, L, 2, R, G]``, or of no steps (GRAD-020).
        counts: int64 ``[L, 1025]``, or ``[L, 0]``.
        pushed: int64 ``[L]``, counted with the gates; words must be kept then.
    """
    steps, rows, length = x.shape
    layers, _, _, units = h.shape
    columns = bias.shape[1]
    own_columns = columns // 2
    of_view = 2 * units if c is None else own_columns
    together = max(1, min(steps, _TOGETHER // rows))
    by_row, pairs = -(-units // LANES) * LANES, (units + 1) // 2
    sums, first_x, more_x, first_wide, more_wide, zeros, most = _room_for_sums(
        together, rows, columns
    )
    view, u, operand, y, r = _room_for_units(rows, units, by_row)
    no_floats, no_gains = np.empty(0, np.float32), np.empty((0, 0), np.int32)
    z = np.empty(rows * units, np.int32)
    later = np.empty(rows * units + LANES, np.int16)
    to_view, depth = plan[STATE_BITS] - plan[VIEW_BITS], plan[SLICES]
    if slices.shape[0]:
        copy_columns(h[layers - 1, 0], slices[0])
    if states.shape[0]:
        copy_all(h, states[0, 0])
        if c is not None:
            copy_all(c, states[0, 1])
    first_bound = i64(0)
    for t in range(steps):
        s = t % together
        if s == 0:
            some = min(together, steps - t)
            first_bound = input_sums(
                x[t : t + some].reshape(-1),
                some * rows,
                length // 2,
                w_x,
                norms[0, INPUT],
                bias[0],
                norms[0, BIAS],
                plan[INPUT_SHIFT],
                first_x,
                first_wide,
            )
        if aside_at.shape[0]:
            begin_anew(h, aside_at[t], aside, 0)
            if c is not None:
                begin_anew(c, aside_at[t], aside, 1)
        for k in range(layers):
            bound, xs, wide, first, shift = first_bound, first_x, first_wide, s * rows, INPUT_SHIFT
            if k:
                largest = layer_input(
                    h[k - 1],
                    gains[t, k - 1] if gains.shape[0] else no_gains,
                    to_view,
                    2 * units,
                    operand,
                    no_floats,
                    no_floats,
                    i64(-1),
                    plan[VIEW_BITS],
                )
                xs, wide, first, shift = more_x, more_wide, 0, LAYER_SHIFT
                bound = input_sums(
                    operand,
                    rows,
                    units,
                    w_l[k - 1],
                    norms[k, INPUT],
                    bias[k],
                    norms[k, BIAS],
                    plan[LAYER_SHIFT],
                    more_x,
                    more_wide,
                )
            top = tally[TOP]
            for j in range(2):
                at = j * own_columns
                sliced = depth if k == layers - 1 and j == 0 else 0
                views(h[k, 1 - j], to_view, view, by_row, most)
                largest = most[0]
                more = recurrent_sums(
                    view,
                    by_row,
                    largest,
                    pairs,
                    w_h[k, j],
                    norms[k, VIEW + j],
                    of_view,
                    plan[VIEW_SHIFT],
                    sums,
                    bound,
                    xs,
                    first,
                    wide,
                    bias[k],
                    at,
                    plan[shift],
                    zeros,
                )
                span = padded_columns(of_view)
                if w_u is not None:
                    gru.gates(sums, span, *more, plan, table, view, by_row, units, y, r, u)
                    more = recurrent_sums(
                        u,
                        by_row,
                        largest,
                        pairs,
                        w_u[k, j],
                        norms[k, CANDIDATE + j],
                        units,
                        i64(0),
                        sums,
                        bound,
                        xs,
                        first,
                        wide,
                        bias[k],
                        at + 2 * units,
                        plan[shift],
                        zeros,
                    )
                    gru.advance(
                        sums,
                        padded_columns(units),
                        *more,
                        plan,
                        table,
                        y,
                        h[k, j],
                        heads,
                        z,
                        active[t],
                        sliced,
                        words,
                        keep,
                        tally,
                        counts[k],
                    )
                if c is not None:
                    lstm.advance(
                        sums,
                        span,
                        *more,
                        plan,
                        table,
                        c[k, j],
                        h[k, j],
                        heads,
                        z,
                        y,
                        active[t],
                        sliced,
                        words,
                        later,
                        keep,
                        tally,
                        counts[k],
                    )
            pushed[k] += tally[TOP] - top
        if outputs.shape[0]:
            write_outputs(h[layers - 1], b0, outputs[t])
        if slices.shape[0]:
            copy_columns(h[layers - 1, 0], slices[t + 1])
        if states.shape[0]:
            copy_all(h, states[t + 1, 0])
            if c is not None:
                copy_all(c, states[t + 1, 1])


@native
def recover(
    plan: Array,
    table: Array,
    x: Array,
    h: Array,
    c: Maybe,
    heads: Maybe,
    w_x: Array,
    w_l: Array,
    w_h: Array,
    w_u: Maybe,
    norms: Array,
    bias: Array,
    active: Array,
    aside_at: Array,
    aside: Array,
    gains: Array,
    words: Array,
    tally: Array,
    outputs: Array,
    b0: int,
    batch: int,
    slices: Array,
    states: Array,
    scale: float,
    tape: Array,
    operands: Array,
    slopes: Array,
) -> None:
    """Take a chunk back, or look its states up, and write its tape.

    Arguments are those of :func:`forward`, and:
        batch: rows of the whole batch, which the tape has room for.
        scale: of forget gates, m in GRAD-010.
        tape: float32, flat: by piece ``[L, 2, C, B, G]``; see :mod:`.gru` and :mod:`.lstm`.
        operands: float32, flat ``[L−1, C, B, H]``: inputs of the layers above the first.
        slopes: the same: their derivatives by the states below.
    """
    steps, rows, length = x.shape
    layers, _, _, units = h.shape
    columns = bias.shape[1]
    own_columns = columns // 2
    of_view = 2 * units if c is None else own_columns
    together = max(1, min(steps, _TOGETHER // rows))
    by_row, pairs = -(-units // LANES) * LANES, (units + 1) // 2
    sums, first_x, more_x, first_wide, more_wide, zeros, most = _room_for_sums(
        together, rows, columns
    )
    view, u, operand, y, r = _room_for_units(rows, units, by_row)
    no_gains = np.empty((0, 0), np.int32)
    old_h, old_c = np.zeros((rows, units), np.int32), np.zeros((rows, units), np.int32)
    to_view, depth = plan[STATE_BITS] - plan[VIEW_BITS], plan[SLICES]
    unit_h, unit_view = f32(2.0 ** -plan[STATE_BITS]), f32(2.0 ** -plan[VIEW_BITS])
    stored, size = states.shape[0] > 0, layers * 2 * steps * batch * units
    first_bound = i64(0)
    for back in range(steps):
        t = steps - 1 - back
        s = t % together
        if back == 0 or s == together - 1:
            some = s + 1
            first_bound = input_sums(
                x[t - s : t + 1].reshape(-1),
                some * rows,
                length // 2,
                w_x,
                norms[0, INPUT],
                bias[0],
                norms[0, BIAS],
                plan[INPUT_SHIFT],
                first_x,
                first_wide,
            )
        if outputs.shape[0]:
            write_outputs(h[layers - 1], b0, outputs[t])
        for down in range(layers):
            k = layers - 1 - down
            bound, xs, wide, first, shift = first_bound, first_x, first_wide, s * rows, INPUT_SHIFT
            if k:
                layer_input(
                    h[k - 1],
                    gains[t, k - 1] if gains.shape[0] else no_gains,
                    to_view,
                    2 * units,
                    operand,
                    operands,
                    slopes,
                    (((k - 1) * steps + t) * batch + b0) * 2 * units,
                    plan[VIEW_BITS],
                )
                xs, wide, first, shift = more_x, more_wide, 0, LAYER_SHIFT
                bound = input_sums(
                    operand,
                    rows,
                    units,
                    w_l[k - 1],
                    norms[k, INPUT],
                    bias[k],
                    norms[k, BIAS],
                    plan[LAYER_SHIFT],
                    more_x,
                    more_wide,
                )
            for j in (1, 0):
                at = j * own_columns
                base = (((k * 2 + j) * steps + t) * batch + b0) * units
                sliced = depth if k == layers - 1 and j == 0 else 0
                if stored:
                    copy_columns(states[t, 0, k, j], old_h)
                    if c is not None:
                        copy_columns(states[t, 1, k, j], old_c)
                elif sliced:
                    copy_columns(slices[t], old_h)
                if aside_at.shape[0]:
                    clear_rows(old_h, aside_at[t])
                    clear_rows(old_c, aside_at[t])
                piece = gru.VIEW if c is None else lstm_rows.VIEW
                views_back(
                    h[k, 1 - j],
                    to_view,
                    view,
                    by_row,
                    most,
                    unit_view,
                    tape,
                    piece * size + base,
                    (piece + 1) * size + base,
                )
                largest = most[0]
                more = recurrent_sums(
                    view,
                    by_row,
                    largest,
                    pairs,
                    w_h[k, j],
                    norms[k, VIEW + j],
                    of_view,
                    plan[VIEW_SHIFT],
                    sums,
                    bound,
                    xs,
                    first,
                    wide,
                    bias[k],
                    at,
                    plan[shift],
                    zeros,
                )
                span, enough = padded_columns(of_view), True
                if w_u is not None:
                    gru.gates(sums, span, *more, plan, table, view, by_row, units, y, r, u)
                    more = recurrent_sums(
                        u,
                        by_row,
                        largest,
                        pairs,
                        w_u[k, j],
                        norms[k, CANDIDATE + j],
                        units,
                        i64(0),
                        sums,
                        bound,
                        xs,
                        first,
                        wide,
                        bias[k],
                        at + 2 * units,
                        plan[shift],
                        zeros,
                    )
                    enough = gru.recover(
                        sums,
                        padded_columns(units),
                        *more,
                        plan,
                        table,
                        y,
                        r,
                        u,
                        by_row,
                        h[k, j],
                        heads,
                        old_h,
                        active[t],
                        sliced,
                        stored,
                        words,
                        tally,
                        unit_h,
                        unit_view,
                        scale,
                        tape,
                        base,
                        size,
                    )
                if c is not None:
                    enough = lstm.recover(
                        sums,
                        span,
                        *more,
                        plan,
                        table,
                        c[k, j],
                        h[k, j],
                        heads,
                        old_c,
                        old_h,
                        active[t],
                        sliced,
                        stored,
                        words,
                        tally,
                        unit_h,
                        scale,
                        tape,
                        base,
                        size,
                    )
                if not enough:
                    tally[UNDERFLOW] = 1
                    return
        if aside_at.shape[0]:
            put_back(h, aside_at[t], aside, states, t, 0)
            if c is not None:
                put_back(c, aside_at[t], aside, states, t, 1)
