"""The handlers that XLA calls: forward, back, gradients of a chunk, by cell.

Arguments and results by number are those of :mod:`revrnn.jax_impl.native.stack` and
:mod:`revrnn.jax_impl.native.gradient`. What a handler changes in place XLA
has made a result of already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import gru, lstm_rows
from .buffers import TALLIES, TOP, UNDERFLOW, WRAPS
from .compiling import Maybe, i64, inner
from .frames import (
    argument,
    asks_for_metadata,
    buffers,
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
    out_of_memory,
    result,
    shorts_1,
    shorts_2,
    shorts_3,
    unexpected,
)
from .packing import pack_float, padded_columns
from .parameter_gradients import add_layer, input_gradient
from .pullback import pull
from .records import Counted, Factors, Kept, Numbers, Outputs, Stack, Steps
from .sweeps import forward, recover
from .tiles import LANES

Handler = Callable[[int], int]

# What is expected of a frame, in the order of :mod:`revrnn.jax_impl.native.stack`: the weights'
# packed stack, steps, states and buffer, rows set aside.
_STACK = ("i64[1]", "i32[1]", "i16[1]", "i16[2]", "i16[3]", "i16[3]", "i64[2]", "i32[2]")
_STEPS = ("i16[3]", "u8[2]", "i32[2]", "i32[4]")
_STATES = ("i32[4]", "i32[4]", "i32[2]")
_STORE, _ASIDE = ("i16[1]", "i64[1]"), ("i32[4]", "i32[4]")
_CHUNK = (*_STACK, *_STEPS, *_STATES, *_STORE, *_ASIDE)
_ADVANCED = (
    buffers(*_CHUNK),
    buffers(*_STATES, *_STORE, *_ASIDE, "i32[3]", "i32[3]", "i32[6]", "i64[2]", "i64[1]", "i64[1]"),
)
_RECOVERED = (
    buffers(*_CHUNK, "i32[3]", "i32[6]", "f32[1]"),
    buffers(*_STATES, "i64[1]", "i32[3]", "f32[1]", "f32[1]", "f32[1]"),
)
# In the order of :mod:`revrnn.jax_impl.native.gradient`.
_WEIGHTS = ("f32[2]", "f32[3]", "f32[3]", "f32[3]")
_PULLED = buffers(
    *("f32[1]", "f32[1]", "f32[1]", "i32[2]", "f32[3]", "f32[3]", *_WEIGHTS, "f32[4]", "f32[4]")
)
_GRADIENTS = buffers("f32[4]", "f32[4]", "f32[3]")
_OF_LAYER, _NONE = buffers("f32[2]", "f32[2]", "f32[1]"), buffers()
# Arguments that are changed in place, and the results that they become.
_CHANGED = np.array([(12 + n, n) for n in range(7)])
_KEPT = np.array([(12, 0), (13, 1), (14, 2), (16, 3)])
_ADDED = np.array([(10, 0), (11, 1)])

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
    for k in range(layers):
        of_input, of_state = floats_2(result(frame, 3 + 3 * k)), floats_2(result(frame, 4 + 3 * k))
        of_bias, width = floats_1(result(frame, 5 + 3 * k)), of_input.shape[1]
        below = np.empty(total * padded_columns(width), np.float32)
        if k:
            at = (k - 1) * total * hidden
            pack_float(operands[at : at + total * hidden].reshape(total, hidden), 1.0, below)
        else:
            pack_float(x.reshape(total, length), 1.0, below)
        seen, layer, to = (first, of_u), (i64(k), layers), (of_input, of_state, of_bias)
        add_layer(flat[k], below, pieces, seen, layer, units, *to, i64(0), i64(1))


def _of_chunk(back: bool, gru: bool, forgetting: bool) -> Handler:
    """Return the handler that takes a chunk forward or back; flags are constants in it."""
    given, made = _RECOVERED if back else _ADVANCED
    same = _KEPT if back else _CHANGED

    def handler(frame: int) -> Any:
        if asks_for_metadata(frame):
            return 0
        error = unexpected(frame, given, made, _NONE, same)
        if error != 0:
            return error
        w_u = shorts_3(argument(frame, 5)) if gru else None
        c = None if gru else ints_4(result(frame, 1))
        heads = ints_2(result(frame, 2)) if forgetting else None
        try:
            if back:
                take_back(frame, w_u, c, heads)
            else:
                advance(frame, w_u, c, heads)
        except Exception:  # the only one that there can be
            return out_of_memory(frame)
        return 0

    return handler


def _of_gradient(gru: bool, forgetting: bool) -> Handler:
    """Return the handler of a chunk's gradient."""
    first, of_u = (_VIEW, _U) if gru else (_OF_LSTM, -1)

    def handler(frame: int) -> Any:
        if asks_for_metadata(frame):
            return 0
        error = unexpected(frame, _PULLED, _GRADIENTS, _OF_LAYER, _ADDED)
        if error != 0:
            return error
        w_u = floats_3(argument(frame, 9)) if gru else None
        dc = None if gru else floats_4(result(frame, 1))
        try:
            pull_back(frame, w_u, dc, forgetting, first, of_u)
        except Exception:
            return out_of_memory(frame)
        return 0

    return handler


@cache
def handler(kind: str, cell: str, forgetting: bool) -> Handler:
    """Return a handler to be compiled: ``"advance"``, ``"recover"`` or ``"pull"``."""
    if kind == "pull":
        return _of_gradient(cell == "revgru", forgetting)
    return _of_chunk(kind == "recover", cell == "revgru", forgetting)
