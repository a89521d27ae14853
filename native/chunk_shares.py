"""Chunks of steps, forward and back, each share of the rows by itself, and handlers of those.

A share takes copies of its rows; one that has all rows works on the arrays themselves. Arguments
and results by number are those of :mod:`revrnn.jax_impl.native.stack`, and of
:mod:`revrnn.torch_impl.native.work`, which calls shares itself; what a handler changes in
place XLA has made a result of already. Words of a chunk lie on the stack share by share, and how
many each has pushed is kept beside them; with one share the order is BUF-005's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from . import buffers
from .compiling import Array, Maybe, hold, i64, inner
from .frames import (
    argument,
    bytes_2,
    floats_1,
    ints_1,
    ints_2,
    ints_3,
    ints_4,
    ints_6,
    longs_1,
    longs_2,
    pointer,
    result,
    shorts_1,
    shorts_2,
    shorts_3,
)
from .own_rows import columns_of, give_rows, put_states, states_of, take_rows
from .records import Counted, Factors, Kept, Numbers, Outputs, Stack, Steps
from .sweeps import forward, recover
from .tasks import (
    FRAME,
    GATES,
    KEEP,
    LEFT,
    PUSHED,
    ROOM,
    SHORT,
    SIZE,
    TOPS,
    WORDS,
    WRAPS,
    last_chunk,
    part_of,
    run_by_helpers,
    task_at,
    tasks_of,
)
from .tiles import LANES

_carray: Any = carray
_SHORT: Any = types.int16
_LONG: Any = types.int64


@inner
def _stack(frame: int) -> Any:
    w_x, w_l = shorts_1(argument(frame, 2)), shorts_2(argument(frame, 3))
    w_h, norms = shorts_3(argument(frame, 4)), longs_2(argument(frame, 6))
    return Stack(w_x, w_l, w_h, norms, ints_2(argument(frame, 7)))


@inner
def _numbers(frame: int) -> Any:
    return Numbers(longs_1(argument(frame, 0)), ints_1(argument(frame, 1)))


@inner
def _steps(frame: int, begin: int, stop: int, first: int, end: int) -> Any:
    """Return a share's own rows of some steps, from the first to the end of both."""
    x, active = shorts_3(argument(frame, 8))[begin:stop], bytes_2(argument(frame, 9))[begin:stop]
    aside_at, gains = ints_2(argument(frame, 10)), ints_4(argument(frame, 11))
    aside_at, gains = aside_at[begin:stop], gains[begin:stop]
    steps, batch, length = x.shape
    rows = end - first
    own, own_gains = x, gains
    if rows < batch:
        own = np.empty((steps, rows, length), np.int16)
        take_rows(x.ctypes.data, steps, batch, 2 * length, first, rows, own.ctypes.data)
        some, above, _, hidden = gains.shape
        own_gains, each = np.empty((some, above, rows, hidden), np.int32), 4 * hidden
        to = own_gains.ctypes.data
        take_rows(gains.ctypes.data, some * above, batch, each, first, rows, to)
    return Steps(own, columns_of(active, first, end), columns_of(aside_at, first, end), own_gains)


@inner
def advance_share(address: int, w_u: Maybe, c: Maybe, heads: Maybe) -> None:
    """Take a share's rows forward over a chunk; ``c`` and ``heads`` are those rows' own."""
    task = task_at(address)
    frame, h = task[FRAME], ints_4(result(task[FRAME], 0))
    first, end = part_of(task, h.shape[2], i64(1))
    steps = _steps(frame, i64(0), bytes_2(argument(frame, 9)).shape[0], first, end)
    own = states_of(h, first, end)
    aside_h, aside_c = ints_4(result(frame, 5)), ints_4(result(frame, 6))
    slices, states = ints_3(result(frame, 8)), ints_6(result(frame, 9))
    own_slices, own_states = slices, states
    if end - first < h.shape[2]:
        own_slices = np.empty((slices.shape[0], end - first, slices.shape[2]), np.int32)
        n, arrays, layers, _, _, units = states.shape
        own_states = np.empty((n, arrays, layers, 2, end - first, units), np.int32)
    room = _carray(pointer(task[ROOM], _SHORT), (task[SIZE],))
    bins, tally = longs_2(result(frame, 10)).shape[1], np.zeros(buffers.TALLIES, np.int64)
    gates = _carray(pointer(task[GATES], _LONG), (h.shape[0], bins))
    asked = steps.active.shape[0] if task[TOPS] else 0
    tops = _carray(pointer(task[TOPS], _LONG), (asked,))
    pushed = _carray(pointer(task[PUSHED], _LONG), (h.shape[0],))
    kept = Kept(room, task[KEEP], tally, aside_h, aside_c, own_slices, own_states)
    outputs = Outputs(ints_3(result(frame, 7)), first)
    counted = Counted(gates, pushed, tops)
    numbers, stack = _numbers(frame), _stack(frame)
    forward(numbers, stack, w_u, own, c, heads, steps, kept, outputs, counted)
    put_states(h, first, own)
    if end - first < h.shape[2]:
        n, batch, depth = slices.shape
        of_own, rows = own_slices.ctypes.data, end - first
        give_rows(slices.ctypes.data, n, batch, 4 * depth, first, rows, of_own)
        n, arrays, layers, _, _, units = states.shape
        outer, of_own = n * arrays * layers * 2, own_states.ctypes.data
        give_rows(states.ctypes.data, outer, batch, 4 * units, first, rows, of_own)
        hold(own_slices)
        hold(own_states)
    task[WORDS], task[WRAPS] = tally[buffers.TOP], tally[buffers.WRAPS]


@inner
def take_back_share(address: int, w_u: Maybe, c: Maybe, heads: Maybe) -> None:
    """Take a share's rows back over a chunk; ``c`` and ``heads`` are those rows' own."""
    task = task_at(address)
    frame, h = task[FRAME], ints_4(result(task[FRAME], 0))
    first, end = part_of(task, h.shape[2], i64(1))
    begin, stop = last_chunk(task, bytes_2(argument(frame, 9)).shape[0])
    steps = _steps(frame, begin, stop, first, end)
    own = states_of(h, first, end)
    aside_h, aside_c = ints_4(argument(frame, 17)), ints_4(argument(frame, 18))
    room = _carray(pointer(task[ROOM], _SHORT), (task[SIZE],))
    tally = np.zeros(buffers.TALLIES, np.int64)
    tally[buffers.TOP] = task[WORDS]
    slices, states = ints_3(argument(frame, 20))[begin:], ints_6(argument(frame, 21))[begin:]
    own_slices, own_states = slices, states
    if end - first < h.shape[2]:
        n, batch, depth = slices.shape
        rows = end - first
        own_slices = np.empty((n, rows, depth), np.int32)
        to = own_slices.ctypes.data
        take_rows(slices.ctypes.data, n, batch, 4 * depth, first, rows, to)
        n, arrays, layers, _, _, units = states.shape
        own_states = np.empty((n, arrays, layers, 2, rows, units), np.int32)
        outer, to = n * arrays * layers * 2, own_states.ctypes.data
        take_rows(states.ctypes.data, outer, batch, 4 * units, first, rows, to)
    kept = Kept(room, i64(1), tally, aside_h, aside_c, own_slices, own_states)
    outputs = Outputs(ints_3(result(frame, 4))[begin:stop], first)
    f = (floats_1(result(frame, 5)), floats_1(result(frame, 6)), floats_1(result(frame, 7)))
    factors, scale = Factors(f[0], f[1], f[2]), floats_1(argument(frame, 22))[0]
    more = (factors, h.shape[2], scale)
    numbers, stack = _numbers(frame), _stack(frame)
    recover(numbers, stack, w_u, own, c, heads, steps, kept, outputs, *more)
    put_states(h, first, own)
    task[WORDS], task[SHORT] = tally[buffers.TOP], tally[buffers.UNDERFLOW]
    task[LEFT] = begin


@inner
def _most(frame: int, task: Array) -> Any:
    """Return how many words a share can push in a chunk."""
    active, h = bytes_2(argument(frame, 9)), ints_4(result(frame, 0))
    operations = i64(2) if ints_4(result(frame, 1)).shape[0] else i64(1)
    first, end = part_of(task, h.shape[2], i64(1))
    return active.shape[0] * (end - first) * h.shape[0] * 2 * h.shape[3] * operations


@inner
def _give_room(frame: int, tasks: Array) -> Any:
    """Return room for the words of all shares, each its own, and a vector more."""
    count = len(tasks)
    total = i64(0)
    for k in range(count):
        tasks[k, SIZE] = _most(frame, tasks[k]) + LANES
        total += tasks[k, SIZE]
    room, at = np.empty(total, np.int16), i64(0)
    for k in range(count):
        tasks[k, ROOM] = room.ctypes.data + 2 * at
        at += tasks[k, SIZE]
    return room


@inner
def add_up(own: Array, first: int, to: Array, count: int) -> None:
    """Write the sums of so many rows that lie one after the other."""
    for i in range(to.size):
        to[i] = 0
        for k in range(count):
            to[i] += own[first + k * to.size + i]


@inner
def advance(frame: int, share: int) -> bool:
    """Take a chunk forward, all shares; return whether there was memory."""
    words, length = shorts_1(result(frame, 3)), longs_1(result(frame, 4))
    counts, tops, parts = (
        longs_2(result(frame, 10)),
        longs_1(result(frame, 11)),
        ints_2(result(frame, 13)),
    )
    tasks = tasks_of(frame, parts.shape[1])
    room = _give_room(frame, tasks)
    layers = counts.shape[0]
    own = np.zeros(len(tasks) * (counts.size + tops.size + layers), np.int64)
    of_tops = len(tasks) * counts.size
    of_layers = of_tops + len(tasks) * tops.size
    for k in range(len(tasks)):
        tasks[k, KEEP] = 1
        tasks[k, GATES] = own.ctypes.data + 8 * k * counts.size
        tasks[k, TOPS] = own.ctypes.data + 8 * (of_tops + k * tops.size)
        tasks[k, PUSHED] = own.ctypes.data + 8 * (of_layers + k * layers)
    if not run_by_helpers(share, tasks):
        return False
    add_up(own, i64(0), counts.reshape(-1), len(tasks))
    add_up(own, of_tops, tops, len(tasks))
    at, wraps, chunks = i64(0), i64(0), i64(0)
    if parts.shape[0]:
        parts[0, 0] += 1
        chunks = i64(parts[0, 0])
    for k in range(len(tasks)):
        for i in range(min(tasks[k, WORDS], words.size - length[0])):
            words[length[0] + i] = room[at + i]
        length[0] += tasks[k, WORDS]
        wraps += tasks[k, WRAPS]
        at += tasks[k, SIZE]
        if 0 < chunks < parts.shape[0]:
            parts[chunks, k] = tasks[k, WORDS]
    longs_1(result(frame, 12))[0] = wraps
    return True


@inner
def take_back(frame: int, share: int) -> bool:
    """Take a chunk back, all shares; return whether there was memory."""
    words, length = shorts_1(argument(frame, 15)), longs_1(result(frame, 3))
    parts = ints_2(result(frame, 8))
    tasks, chunks = tasks_of(frame, parts.shape[1]), i64(0)
    room = _give_room(frame, tasks)
    if parts.shape[0]:
        chunks = i64(parts[0, 0])
        parts[0, 0] -= 1
    at, last = room.size, len(tasks) - 1
    top = length[0]
    for down in range(len(tasks)):  # the last one's words lie on top
        k = last - down
        most = tasks[k, SIZE] - LANES
        count = top if len(tasks) == 1 else i64(0)
        if 0 < chunks < parts.shape[0]:
            count = i64(parts[chunks, k])
        count = max(min(count, top, most), i64(0))
        top -= count
        at -= tasks[k, SIZE]
        for i in range(count):
            room[at + i] = words[top + i] if top + i < words.size else 0
        tasks[k, WORDS] = count
    enough = run_by_helpers(share, tasks)
    hold(room)
    if not enough:
        return False
    for k in range(len(tasks)):
        top += tasks[k, WORDS]
    length[0] = top
    for k in range(len(tasks)):
        # Words that a share of several leaves would be another's: they are not its chunk's.
        if tasks[k, SHORT] or (tasks[k, WORDS] and len(tasks) > 1):
            length[0] = -1
    return True
