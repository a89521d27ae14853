"""The handlers that XLA calls, and shares of their work: forward, back, gradients, by cell.

Arguments and results by number are those of :mod:`revrnn.jax_impl.native.stack` and
:mod:`revrnn.jax_impl.native.gradient`. What a handler changes in place XLA
has made a result of already.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import chunk_shares, gradient_shares, gru, lstm_rows
from .compiling import i64
from .frames import (
    argument,
    asks_for_metadata,
    buffers,
    floats_3,
    floats_4,
    ints_2,
    ints_4,
    out_of_memory,
    result,
    shorts_3,
    unexpected,
)
from .own_rows import put_states, states_of
from .tasks import AGAIN, FRAME, Handler, failed, number_of, part_of, say_failed, share_of, task_at
from .threads import address_of

# What is expected of a frame, in the order of :mod:`revrnn.jax_impl.native.stack`: the weights'
# packed stack, steps, states and buffer, rows set aside.
_STACK = ("i64[1]", "i32[1]", "i16[1]", "i16[2]", "i16[3]", "i16[3]", "i64[2]", "i32[2]")
_STEPS = ("i16[3]", "u8[2]", "i32[2]", "i32[4]")
_STATES = ("i32[4]", "i32[4]", "i32[2]")
_STORE, _ASIDE = ("i16[1]", "i64[1]"), ("i32[4]", "i32[4]")
_PARTS = "i32[2]"
_CHUNK = (*_STACK, *_STEPS, *_STATES, *_STORE, *_ASIDE, _PARTS)
_TOLD = ("i32[3]", "i32[3]", "i32[6]", "i64[2]", "i64[1]", "i64[1]")
_ADVANCED = (buffers(*_CHUNK), buffers(*_STATES, *_STORE, *_ASIDE, *_TOLD, _PARTS))
_RECOVERED = (
    buffers(*_CHUNK, "i32[3]", "i32[6]", "f32[1]"),
    buffers(*_STATES, "i64[1]", "i32[3]", "f32[1]", "f32[1]", "f32[1]", _PARTS),
)
# In the order of :mod:`revrnn.jax_impl.native.gradient`.
_WEIGHTS = ("f32[2]", "f32[3]", "f32[3]", "f32[3]")
_TAPE = ("f32[1]", "f32[1]", "f32[1]", "i32[2]", "i16[3]", "f32[3]")
_PULLED = buffers(*_TAPE, *_WEIGHTS, "f32[4]", "f32[4]", "i32[1]")
_GRADIENTS = buffers("f32[4]", "f32[4]", "f32[3]")
_OF_LAYER, _NONE = buffers("f32[2]", "f32[2]", "f32[1]"), buffers()
# Arguments that are changed in place, and the results that they become.
_CHANGED = np.array([*((12 + n, n) for n in range(7)), (19, 13)])
_KEPT = np.array([(12, 0), (13, 1), (14, 2), (16, 3), (19, 8)])
_ADDED = np.array([(10, 0), (11, 1)])
_EXPECTED = {
    "advance": (*_ADVANCED, _NONE, _CHANGED),
    "recover": (*_RECOVERED, _NONE, _KEPT),
    "pull": (_PULLED, _GRADIENTS, _OF_LAYER, _ADDED),
}

# Pieces of the tape.
_VIEW, _U, _OF_LSTM = gru.VIEW, gru.U, lstm_rows.VIEW


def _of_chunk(back: bool, gru: bool, forgetting: bool) -> Handler:
    """Return what takes a share of a chunk forward or back; flags are constants in it."""

    def share(address: int) -> Any:
        frame = number_of(address, FRAME)
        first, end = part_of(task_at(address), ints_4(result(frame, 0)).shape[2], i64(1))
        w_u = shorts_3(argument(frame, 5)) if gru else None
        heads = ints_2(result(frame, 2))[first:end] if forgetting else None
        try:
            c = None if gru else states_of(ints_4(result(frame, 1)), first, end)
            if back:
                chunk_shares.take_back_share(address, w_u, c, heads)
            else:
                chunk_shares.advance_share(address, w_u, c, heads)
            if not gru:
                put_states(ints_4(result(frame, 1)), first, c)
        except Exception:  # the only one that there can be: memory is short
            say_failed(address)
        return failed(address)

    return share


def _of_gradient(gru: bool, forgetting: bool) -> Handler:
    """Return what does a share of a chunk's gradient, in two turns."""
    view, of_u = (_VIEW, _U) if gru else (_OF_LSTM, -1)

    def share(address: int) -> Any:
        frame = number_of(address, FRAME)
        first, end = part_of(task_at(address), floats_4(result(frame, 0)).shape[2], i64(1))
        w_u = floats_3(argument(frame, 9)) if gru else None
        try:
            if number_of(address, AGAIN):
                gradient_shares.parameters_share(address, view, of_u)
            else:
                dc = None if gru else states_of(floats_4(result(frame, 1)), first, end)
                gradient_shares.carry_back_share(address, w_u, dc, forgetting)
                if not gru:
                    put_states(floats_4(result(frame, 1)), first, dc)
        except Exception:
            say_failed(address)
        return failed(address)

    return share


def _name(kind: str, cell: str, forgetting: bool) -> str:
    """Return the name that LLVM knows a share's function by."""
    return f"revrnn_{kind}_{cell}_{'forgetting' if forgetting else 'plain'}"


def share(kind: str, cell: str, forgetting: bool) -> Any:
    """Return what does a share of a chunk's work, compiled when it is first asked for.

    It is a function of a task's address (:mod:`.tasks`), and threads begin with it.
    """
    gru = cell == "revgru"

    def function() -> Handler:
        if kind == "pull":
            return _of_gradient(gru, forgetting)
        return _of_chunk(kind == "recover", gru, forgetting)

    return share_of(_name(kind, cell, forgetting), function)


@cache
def handler(kind: str, cell: str, forgetting: bool) -> Handler:
    """Return a handler to be compiled: ``"advance"``, ``"recover"`` or ``"pull"``.

    It calls :func:`share`'s function of the same kind, which must have been compiled before.
    """
    name = _name(kind, cell, forgetting)
    given, made, layer, same = _EXPECTED[kind]
    back, gradient = kind == "recover", kind == "pull"

    def handle(frame: int) -> Any:
        if asks_for_metadata(frame):
            return 0
        error = unexpected(frame, given, made, layer, same)
        if error != 0:
            return error
        own = address_of(name)
        try:
            if gradient:
                enough = gradient_shares.pull_back(frame, own)
            elif back:
                enough = chunk_shares.take_back(frame, own)
            else:
                enough = chunk_shares.advance(frame, own)
        except Exception:  # the only one that there can be
            return out_of_memory(frame)
        return 0 if enough else out_of_memory(frame)

    return handle
