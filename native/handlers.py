"""The handlers that XLA calls: forward, back, gradients of a chunk, by cell.

Arguments and results by number are those of :mod:`revrnn.jax_impl.native.stack` and
:mod:`revrnn.jax_impl.native.gradient`. What a handler changes in place XLA
has made a result of already.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from . import gru, lstm_rows
from .buffers import TALLIES, TOP, UNDERFLOW, WRAPS
from .compiling import Maybe, i64, inner
from .frames import (
    argument,
    asks_for_metadata,
    bytes_2,
    floats_1,
    floats_2,
    floats_3,
    floats_4,
    ints_1,
    ints_2,
    ints_3,
    ints_4,
    ints_6,
    longs_1,
    longs_2,
    result,
    shorts_1,
    shorts_2,
    shorts_3,
)
from .packing import pack_float, padded_columns
from .parameter_gradients import add_bias, add_weights, input_gradient
from .pullback import pull
from .records import Counted, Factors, Kept, Numbers, Outputs, Stack, Steps
from .sweeps import forward, recover
from .tiles import LANES

# Pieces of the tape.
_VIEW, _U, _OF_LSTM = gru.VIEW, gru.U, lstm_rows.VIEW


@inner
def _stack(frame: int) -> Any:
    w_x, w_l = shorts_1(argument(frame, 2)), shorts_2(argument(frame, 3))
    w_h, norms = shorts_3(argument(frame, 4)), longs_2(argument(frame, 6))
    return Stack(w_x, w_l, w_h, norms, ints_2(argument(frame, 7)))


@inner
def _numbers(frame: int) -> Any:
    return Numbers(longs_1(argument(frame, 0)), ints_1(argument(frame, 1)))


@inner
def _steps(frame: int) -> Any:
    x, active = shorts_3(argument(frame, 8)), bytes_2(argument(frame, 9))
    return Steps(x, active, ints_2(argument(frame, 10)), ints_4(argument(frame, 11)))


@inner
def advance(frame: int, w_u: Maybe, c: Maybe, heads: Maybe) -> None:
    """Take a chunk forward."""
    steps, h = _steps(frame), ints_4(result(frame, 0))
    words, length = shorts_1(result(frame, 3)), longs_1(result(frame, 4))
    aside_h, aside_c = ints_4(result(frame, 5)), ints_4(result(frame, 6))
    tally, counts = np.zeros(TALLIES, np.int64), longs_2(result(frame, 10))
    counts[:] = 0
    operations = i64(1) if c is None else i64(2)
    room = np.empty(steps.active.size * h.size // h.shape[2] * operations + LANES, np.int16)
    states = ints_6(result(frame, 9))
    kept = Kept(room, i64(1), tally, aside_h, aside_c, ints_3(result(frame, 8)), states)
    pushed, tops = np.zeros(h.shape[0], np.int64), longs_1(result(frame, 11))
    outputs = Outputs(ints_3(result(frame, 7)), i64(0))
    counted = Counted(counts, pushed, tops)
    forward(_numbers(frame), _stack(frame), w_u, h, c, heads, steps, kept, outputs, counted)
    for i in range(min(tally[TOP], words.size - length[0])):
        words[length[0] + i] = room[i]
    length[0] += tally[TOP]
    longs_1(result(frame, 12))[0] = tally[WRAPS]


@inner
def take_back(frame: int, w_u: Maybe, c: Maybe, heads: Maybe) -> None:
    """Take a chunk back."""
    steps, h = _steps(frame), ints_4(result(frame, 0))
    words, length = shorts_1(argument(frame, 15)), longs_1(result(frame, 3))
    aside_h, aside_c = ints_4(argument(frame, 17)), ints_4(argument(frame, 18))
    tally = np.zeros(TALLIES, np.int64)
    operations = i64(1) if c is None else i64(2)
    most = steps.active.size * h.size // h.shape[2] * operations
    count = max(min(length[0], most), i64(0))
    room = np.empty(count + LANES, np.int16)
    for i in range(count):
        at = length[0] - count + i
        room[i] = words[at] if at < words.size else 0
    tally[TOP] = count
    slices, states = ints_3(argument(frame, 19)), ints_6(argument(frame, 20))
    kept = Kept(room, i64(1), tally, aside_h, aside_c, slices, states)
    outputs = Outputs(ints_3(result(frame, 4)), i64(0))
    f = (floats_1(result(frame, 5)), floats_1(result(frame, 6)), floats_1(result(frame, 7)))
    factors, scale = Factors(f[0], f[1], f[2]), floats_1(argument(frame, 21))[0]
    batch = h.shape[2]
    recover(
        _numbers(frame),
        _stack(frame),
        w_u,
        h,
        c,
        heads,
        steps,
        kept,
        outputs,
        factors,
        batch,
        scale,
    )
    length[0] += tally[TOP] - count
    if tally[UNDERFLOW]:
        length[0] = -1


@inner
def pull_back(frame: int, w_u: Maybe, dc: Maybe, forgetting: bool, first: int, of_u: int) -> None:
    """Carry gradients back over a chunk, and add to those of parameters.

    Args:
        frame: of the call.
        w_u: packed float32 weights of RevGRU's candidate.
        dc: gradients with respect to ``c``.
        forgetting: whether ``h`` was multiplied.
        first: the piece of the tape that has the view.
        of_u: the one that has RevGRU's other operand, or −1.
    """
    pieces, operands = floats_1(argument(frame, 0)), floats_1(argument(frame, 1))
    slopes, aside_at = floats_1(argument(frame, 2)), ints_2(argument(frame, 3))
    x, given = floats_3(argument(frame, 4)), floats_3(argument(frame, 5))
    w_x, w_l = floats_2(argument(frame, 6)), floats_3(argument(frame, 7))
    w_h, dh = floats_3(argument(frame, 8)), floats_4(result(frame, 0))
    layers, _, rows, units = dh.shape
    steps, _, length = x.shape
    total, hidden = steps * rows, 2 * units
    columns = floats_1(result(frame, 5)).size // 2
    ds = np.empty((layers, 2, steps, rows, columns), np.float32)
    factors = Factors(pieces, operands, slopes)
    pull(dh, dc, Outputs(given, i64(0)), factors, aside_at, w_l, w_h, w_u, forgetting, ds)
    dx, flat = floats_3(result(frame, 2)), ds.reshape(layers, 2, total, columns)
    input_gradient(flat[0], w_x, i64(0), dx.reshape(total, length))
    view, size = np.empty(total * padded_columns(units), np.float32), layers * 2 * total * units
    below = np.empty(total * padded_columns(max(length, hidden)), np.float32)
    for k in range(layers):
        of_input, of_state = floats_2(result(frame, 3 + 3 * k)), floats_2(result(frame, 4 + 3 * k))
        of_bias, width = floats_1(result(frame, 5 + 3 * k)), of_input.shape[1]
        if k:
            at = (k - 1) * total * hidden
            pack_float(operands[at : at + total * hidden].reshape(total, hidden), 1.0, below)
        else:
            pack_float(x.reshape(total, length), 1.0, below)
        for j in range(2):
            part, to = flat[k, j], j * columns
            add_bias(part, of_bias, to)
            add_weights(part, i64(0), columns, columns, below, width, of_input, to)
            at, seen = first * size + (k * 2 + j) * total * units, columns if of_u < 0 else hidden
            pack_float(pieces[at : at + total * units].reshape(total, units), 1.0, view)
            add_weights(part, i64(0), seen, columns, view, units, of_state, to)
            if of_u >= 0:
                at = of_u * size + (k * 2 + j) * total * units
                pack_float(pieces[at : at + total * units].reshape(total, units), 1.0, view)
                add_weights(part, seen, units, columns, view, units, of_state, to + seen)


def _advance_gru(frame: int) -> int:
    if not asks_for_metadata(frame):
        advance(frame, shorts_3(argument(frame, 5)), None, ints_2(result(frame, 2)))
    return 0


def _advance_plain_gru(frame: int) -> int:
    if not asks_for_metadata(frame):
        advance(frame, shorts_3(argument(frame, 5)), None, None)
    return 0


def _advance_lstm(frame: int) -> int:
    if not asks_for_metadata(frame):
        advance(frame, None, ints_4(result(frame, 1)), ints_2(result(frame, 2)))
    return 0


def _advance_plain_lstm(frame: int) -> int:
    if not asks_for_metadata(frame):
        advance(frame, None, ints_4(result(frame, 1)), None)
    return 0


def _recover_gru(frame: int) -> int:
    if not asks_for_metadata(frame):
        take_back(frame, shorts_3(argument(frame, 5)), None, ints_2(result(frame, 2)))
    return 0


def _recover_plain_gru(frame: int) -> int:
    if not asks_for_metadata(frame):
        take_back(frame, shorts_3(argument(frame, 5)), None, None)
    return 0


def _recover_lstm(frame: int) -> int:
    if not asks_for_metadata(frame):
        take_back(frame, None, ints_4(result(frame, 1)), ints_2(result(frame, 2)))
    return 0


def _recover_plain_lstm(frame: int) -> int:
    if not asks_for_metadata(frame):
        take_back(frame, None, ints_4(result(frame, 1)), None)
    return 0


def _pull_gru(frame: int) -> int:
    if not asks_for_metadata(frame):
        pull_back(frame, floats_3(argument(frame, 9)), None, True, _VIEW, _U)
    return 0


def _pull_plain_gru(frame: int) -> int:
    if not asks_for_metadata(frame):
        pull_back(frame, floats_3(argument(frame, 9)), None, False, _VIEW, _U)
    return 0


def _pull_lstm(frame: int) -> int:
    if not asks_for_metadata(frame):
        pull_back(frame, None, floats_4(result(frame, 1)), True, _OF_LSTM, -1)
    return 0


def _pull_plain_lstm(frame: int) -> int:
    if not asks_for_metadata(frame):
        pull_back(frame, None, floats_4(result(frame, 1)), False, _OF_LSTM, -1)
    return 0


HANDLERS: Final = {
    ("advance", "revgru", True): _advance_gru,
    ("advance", "revgru", False): _advance_plain_gru,
    ("advance", "revlstm", True): _advance_lstm,
    ("advance", "revlstm", False): _advance_plain_lstm,
    ("recover", "revgru", True): _recover_gru,
    ("recover", "revgru", False): _recover_plain_gru,
    ("recover", "revlstm", True): _recover_lstm,
    ("recover", "revlstm", False): _recover_plain_lstm,
    ("pull", "revgru", True): _pull_gru,
    ("pull", "revgru", False): _pull_plain_gru,
    ("pull", "revlstm", True): _pull_lstm,
    ("pull", "revlstm", False): _pull_plain_lstm,
}
