"""A chunk of steps forward and back, for some rows of a batch, in one call each (SEQ).

What a configuration does not have is ``None``: cell states of RevGRU, weights of RevLSTM's
candidate, heads without forgetting. Numba then leaves out what would be done with it.
"""

from __future__ import annotations

from typing import Any

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
from .compiling import Array, Maybe, f32, i64, inner
from .copies import (
    begin_anew,
    clear_rows,
    copy_all,
    copy_columns,
    put_back,
    put_stored,
    write_outputs,
)
from .packing import padded_columns
from .records import (
    Back,
    Counted,
    Factor,
    Factors,
    GroupStep,
    Inputs,
    Kept,
    Numbers,
    Operand,
    Outputs,
    Stack,
    Steps,
)
from .rooms import input_room, make_room, together
from .sums import BIAS, CANDIDATE, INPUT, VIEW, input_sums, recurrent_sums


@inner
def _first_sums(stack: Stack, x: Array, room: Inputs) -> Any:
    """Write layer 0's input sums of some steps ``[n, R, I]``; return their bound."""
    steps, rows, length = x.shape
    norm, most = stack.norms[0, INPUT], stack.norms[0, BIAS]
    return input_sums(x.reshape(-1), steps * rows, length // 2, stack.w_x, norm, most, room)


@inner
def _sums_above(stack: Stack, k: int, a: Array, rows: int, room: Inputs) -> Any:
    """Return the input sums of a layer above the first, from its operands."""
    norm, most = stack.norms[k, INPUT], stack.norms[k, BIAS]
    pairs = a.size // (2 * rows)
    room = Inputs(room.sums, room.wide, i64(0), i64(0), stack.bias[k], room.shift)
    bound = input_sums(a, rows, pairs, stack.w_l[k - 1], norm, most, room)
    return Inputs(room.sums, room.wide, bound, i64(0), room.bias, room.shift)


@inner
def forward(
    numbers: Numbers,
    stack: Stack,
    w_u: Maybe,
    h: Array,
    c: Maybe,
    heads: Maybe,
    steps: Steps,
    kept: Kept,
    outputs: Outputs,
    counted: Counted,
) -> None:
    """Take a chunk of C steps of R rows forward.

    Args:
        numbers: of the configuration.
        stack: the weights.
        w_u: packed weights of RevGRU's candidate, ``[L, 2, …]``; ``None`` for RevLSTM.
        h: int32 ``[L, 2, R, G]``, carried on in place; as is ``c``, ``None`` for RevGRU.
        c: see ``h``.
        heads: int32 ``[R, G]``, carried on in place; ``None`` without forgetting.
        steps: the steps.
        kept: what is kept to go back, to be written.
        outputs: to be written.
        counted: to be added to; words must be kept where gates are counted.
    """
    count, rows, _ = steps.x.shape
    layers, _, _, units = h.shape
    plan, bias, norms, w_h, tally = numbers.plan, stack.bias, stack.norms, stack.w_h, kept.tally
    x, active, aside_at, gains = steps.x, steps.active, steps.aside_at, steps.gains
    own_columns = bias.shape[1] // 2
    of_view = 2 * units if c is None else own_columns
    room, number = make_room(rows, units), together(count, rows)
    operand, u, by_row, pairs = room.operand, room.u, room.by_row, (units + 1) // 2
    of_first = input_room(number * rows, bias[0], plan[INPUT_SHIFT])
    above = input_room(rows, bias[0], plan[LAYER_SHIFT])
    below = np.empty(rows * 2 * units, np.int16)
    width, largest = padded_columns(own_columns), np.empty(1, np.int64)
    sums_room, zeros = np.empty(rows * width, np.int32), np.zeros(width, np.int32)
    no_gains = np.empty((0, 0), np.int32)
    nothing = np.empty(0, np.float32)
    no_factors = Factors(nothing, nothing, nothing)
    to_view = plan[STATE_BITS] - plan[VIEW_BITS]
    if kept.slices.shape[0]:
        copy_columns(h[layers - 1, 0], kept.slices[0])
    if kept.states.shape[0]:
        copy_all(h, kept.states[0, 0])
        if c is not None:
            copy_all(c, kept.states[0, 1])
    bound = i64(0)
    for t in range(count):
        s = t % number
        if s == 0:
            bound = _first_sums(stack, x[t : min(t + number, count)], of_first)
        if aside_at.shape[0]:
            begin_anew(h, aside_at[t], kept.aside_h)
            if c is not None:
                begin_anew(c, aside_at[t], kept.aside_c)
        for k in range(layers):
            inputs = Inputs(
                of_first.sums, of_first.wide, bound, i64(s * rows), bias[0], of_first.shift
            )
            if k:
                own_gains = gains[t, k - 1] if gains.shape[0] else no_gains
                layer_input(h[k - 1], own_gains, plan, below, no_factors, i64(-1))
                inputs = _sums_above(stack, k, below, rows, above)
            top = tally[TOP]
            for j in range(2):
                at, depth = j * own_columns, plan[SLICES] if k == layers - 1 and j == 0 else 0
                views(h[k, 1 - j], to_view, operand, by_row, largest)
                a = Operand(operand, by_row, rows, pairs, largest[0])
                f = Factor(w_h[k, j], norms[k, VIEW + j], of_view)
                sums = recurrent_sums(a, f, plan[VIEW_SHIFT], inputs, at, sums_room, zeros)
                if w_u is not None:
                    gru.gates(sums, numbers, rows, room)
                    a = Operand(u, by_row, rows, pairs, largest[0])
                    f, at = Factor(w_u[k, j], norms[k, CANDIDATE + j], units), at + 2 * units
                    sums = recurrent_sums(a, f, i64(0), inputs, at, sums_room, zeros)
                    step = GroupStep(h[k, j], None, active[t], depth, kept.words, kept.keep, tally)
                    gru.advance(sums, numbers, step, heads, room, counted.gates[k])
                if c is not None:
                    step = GroupStep(
                        h[k, j], c[k, j], active[t], depth, kept.words, kept.keep, tally
                    )
                    lstm.advance(sums, numbers, step, heads, room, counted.gates[k])
            counted.pushed[k] += tally[TOP] - top
        if counted.tops.shape[0]:
            counted.tops[t] = tally[TOP]
        if outputs.h.shape[0]:
            write_outputs(h[layers - 1], outputs.b0, outputs.h[t])
        if kept.slices.shape[0]:
            copy_columns(h[layers - 1, 0], kept.slices[t + 1])
        if kept.states.shape[0]:
            copy_all(h, kept.states[t + 1, 0])
            if c is not None:
                copy_all(c, kept.states[t + 1, 1])


@inner
def recover(
    numbers: Numbers,
    stack: Stack,
    w_u: Maybe,
    h: Array,
    c: Maybe,
    heads: Maybe,
    steps: Steps,
    kept: Kept,
    outputs: Outputs,
    factors: Factors,
    batch: int,
    scale: float,
) -> None:
    """Take a chunk back, or look its states up, and write what its gradients are made of.

    Arguments are those of :func:`forward`, and:
        factors: to be written.
        batch: rows of the whole batch, which ``factors`` has room for.
        scale: of forget gates, m in GRAD-010.
    """
    count, rows, _ = steps.x.shape
    layers, _, _, units = h.shape
    plan, bias, norms, w_h, tally = numbers.plan, stack.bias, stack.norms, stack.w_h, kept.tally
    x, active, aside_at, gains = steps.x, steps.active, steps.aside_at, steps.gains
    own_columns = bias.shape[1] // 2
    of_view = 2 * units if c is None else own_columns
    room, number = make_room(rows, units), together(count, rows)
    operand, u, by_row, pairs = room.operand, room.u, room.by_row, (units + 1) // 2
    of_first = input_room(number * rows, bias[0], plan[INPUT_SHIFT])
    above = input_room(rows, bias[0], plan[LAYER_SHIFT])
    below = np.empty(rows * 2 * units, np.int16)
    width, largest = padded_columns(own_columns), np.empty(1, np.int64)
    sums_room, zeros = np.empty(rows * width, np.int32), np.zeros(width, np.int32)
    no_gains = np.empty((0, 0), np.int32)
    old_h, old_c = np.zeros((rows, units), np.int32), np.zeros((rows, units), np.int32)
    to_view = plan[STATE_BITS] - plan[VIEW_BITS]
    unit_h, unit_view = f32(2.0 ** -plan[STATE_BITS]), f32(2.0 ** -plan[VIEW_BITS])
    stored, size = kept.states.shape[0] > 0, layers * 2 * count * batch * units
    piece = gru.VIEW if c is None else lstm_rows.VIEW
    bound = i64(0)
    for down in range(count):
        t = count - 1 - down
        s = t % number
        if down == 0 or s == number - 1:
            bound = _first_sums(stack, x[t - s : t + 1], of_first)
        if outputs.h.shape[0]:
            write_outputs(h[layers - 1], outputs.b0, outputs.h[t])
        for layer in range(layers):
            k = layers - 1 - layer
            inputs = Inputs(
                of_first.sums, of_first.wide, bound, i64(s * rows), bias[0], of_first.shift
            )
            if k:
                base = (((k - 1) * count + t) * batch + outputs.b0) * 2 * units
                own_gains = gains[t, k - 1] if gains.shape[0] else no_gains
                layer_input(h[k - 1], own_gains, plan, below, factors, base)
                inputs = _sums_above(stack, k, below, rows, above)
            for j in (1, 0):
                at, depth = j * own_columns, plan[SLICES] if k == layers - 1 and j == 0 else 0
                base = (((k * 2 + j) * count + t) * batch + outputs.b0) * units
                back = Back(
                    old_h,
                    old_c,
                    i64(not stored),
                    unit_h,
                    unit_view,
                    f32(scale),
                    factors.pieces,
                    base,
                    size,
                )
                if stored:
                    copy_columns(kept.states[t, 0, k, j], old_h)
                    if c is not None:
                        copy_columns(kept.states[t, 1, k, j], old_c)
                elif depth:
                    copy_columns(kept.slices[t], old_h)
                if aside_at.shape[0]:
                    clear_rows(old_h, aside_at[t])
                    clear_rows(old_c, aside_at[t])
                real = piece * size + base
                views_back(h[k, 1 - j], to_view, operand, by_row, largest, unit_view, real, back)
                a = Operand(operand, by_row, rows, pairs, largest[0])
                f = Factor(w_h[k, j], norms[k, VIEW + j], of_view)
                sums = recurrent_sums(a, f, plan[VIEW_SHIFT], inputs, at, sums_room, zeros)
                enough = True
                if w_u is not None:
                    gru.gates(sums, numbers, rows, room)
                    a = Operand(u, by_row, rows, pairs, largest[0])
                    f, at = Factor(w_u[k, j], norms[k, CANDIDATE + j], units), at + 2 * units
                    sums = recurrent_sums(a, f, i64(0), inputs, at, sums_room, zeros)
                    step = GroupStep(h[k, j], None, active[t], depth, kept.words, kept.keep, tally)
                    enough = gru.recover(sums, numbers, step, heads, room, back)
                if c is not None:
                    step = GroupStep(
                        h[k, j], c[k, j], active[t], depth, kept.words, kept.keep, tally
                    )
                    enough = lstm.recover(sums, numbers, step, heads, room, back)
                if not enough:
                    tally[UNDERFLOW] = 1
                    return
        if aside_at.shape[0] and stored:
            put_stored(h, aside_at[t], kept.states[t, 0])
            if c is not None:
                put_stored(c, aside_at[t], kept.states[t, 1])
        elif aside_at.shape[0]:
            put_back(h, aside_at[t], kept.aside_h)
            if c is not None:
                put_back(c, aside_at[t], kept.aside_c)
