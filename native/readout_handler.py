"""A linear readout by one call: losses of some rows, and their gradients.

XLA calls a handler with a frame, whose arguments and results by number are those of
:mod:`revrnn.jax_impl.native.readout`; PyTorch has :func:`read` called with a frame of the same
kind. Rows are taken block by block, as many at a time as there is room for the logits of; shares of
a block are some classes, a panel of rows, or some columns, so that no bit depends on how many there
are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from .compiling import Array, hold, i64, inner, native
from .frames import (
    argument,
    asks_for_metadata,
    buffers,
    floats_1,
    floats_2,
    ints_1,
    out_of_memory,
    pointer,
    result,
    unexpected,
)
from .packing import room_of_floats
from .readout import (
    ROWS,
    add_to_weight,
    cross_entropy,
    pack_outputs,
    sizes_of_outputs,
    write_gradients,
    write_logits,
)
from .tasks import COUNT, FRAME, INDEX, part_of, run_all, say_failed, share_of, task_at, tasks_of
from .threads import address_of
from .tiles import TALL

_carray: Any = carray
_FLOAT: Any = types.float32

# What is expected of a frame: the weight, the bias, outputs, class numbers, what each row's loss
# counts, what its gradient is multiplied by, and on how many threads; what is added to.
_GIVEN = buffers("f32[2]", "f32[1]", "f32[2]", "i32[1]", "f32[1]", "f32[1]", "i32[1]")
_INTO = buffers("f32[2]", "f32[1]")
_ARGUMENTS = np.concatenate([_GIVEN, _INTO])
# Losses, the gradient of the outputs, what was added to, and room for logits.
_RESULTS = np.concatenate([buffers("f32[1]", "f32[2]"), _INTO, buffers("f32[1]")])
_ADDED = np.array([(7, 2), (8, 3)])
_NONE = buffers()

# What a share is told beside which of how many it is: what to do, the block's first row and the
# one after its last, and where its packed outputs are, by row and by term.
_WORK, _BEGIN, _END, _BY_ROW, _BY_TERM = range(3, 8)
_LOGITS, _LOSSES, _OUTPUTS, _WEIGHTS = range(4)
# Shares of classes for each thread, so that one which is late takes fewer of them.
_FINER: Final = 4

_NAME: Final = "revrnn_readout"


def room(rows: int, classes: int, most: int) -> int:
    """Return how many logits to make room for: equal blocks of rows, each at most ``most``."""
    panels = max(1, -(-rows // ROWS))
    blocks = -(-panels // max(1, most // (classes * ROWS)))
    return -(-panels // blocks) * classes * ROWS


@inner
def _do(address: int) -> None:
    """Do a share's work."""
    task = task_at(address)
    frame, begin, end = task[FRAME], task[_BEGIN], task[_END]
    w = floats_2(argument(frame, 0))
    classes, length = w.shape
    panels, space = -(-(end - begin) // ROWS), floats_1(result(frame, 4))
    logits = space[: panels * classes * ROWS].reshape(panels, classes * ROWS)
    of_rows, of_terms = sizes_of_outputs(panels, length)
    parted = length if task[_WORK] == _OUTPUTS else classes
    first, last = part_of(task, parted, i64(TALL))
    if task[_WORK] == _LOSSES:
        p = task[INDEX]
        first, last = begin + p * ROWS, min(begin + (p + 1) * ROWS, end)
        labels, counts = ints_1(argument(frame, 3)), floats_1(argument(frame, 4))
        factors, losses = floats_1(argument(frame, 5)), floats_1(result(frame, 0))
        given = labels[first:last], counts[first:last], factors[first:last]
        cross_entropy(logits[p], *given, losses[first:last])
    elif first >= last:
        return
    elif task[_WORK] == _LOGITS:
        by_row = _carray(pointer(task[_BY_ROW], _FLOAT), (panels, of_rows))
        write_logits(w, floats_1(argument(frame, 1)), by_row, first, last, logits)
    elif task[_WORK] == _OUTPUTS:
        write_gradients(w, logits, first, last, floats_2(result(frame, 1))[begin:end])
    else:
        by_term = _carray(pointer(task[_BY_TERM], _FLOAT), of_terms)
        into = floats_2(result(frame, 2)), floats_1(result(frame, 3))
        add_to_weight(logits, by_term, first, last, *into)


def _do_or_say(address: int) -> Any:
    try:
        _do(address)
    except Exception:  # the only one that there can be: memory is short
        say_failed(address)
    return 0


@inner
def _tell(tasks: Array, first: int, count: int, work: int) -> None:
    """Tell so many shares what to do."""
    for k in range(count):
        tasks[first + k, INDEX], tasks[first + k, COUNT] = k, count
        tasks[first + k, _WORK] = work


@inner
def _tasks(frame: int, count: int, begin: int, end: int, by_row: Array, by_term: Array) -> Any:
    """Return tasks of a block's shares."""
    tasks = tasks_of(frame, count)
    for k in range(count):
        tasks[k, _BEGIN], tasks[k, _END] = begin, end
        tasks[k, _BY_ROW], tasks[k, _BY_TERM] = by_row.ctypes.data, by_term.ctypes.data
    return tasks


@inner
def _read(frame: int, own: int, shares: int, threads: int, region: int) -> bool:
    """Do all rows; return whether there was memory."""
    w, x = floats_2(argument(frame, 0)), floats_2(argument(frame, 2))
    (classes, length), rows = w.shape, x.shape[0]
    most = floats_1(result(frame, 4)).size // (classes * ROWS) * ROWS
    trained = floats_1(argument(frame, 5)).size > 0
    many = i64(1 if shares == 1 else shares * _FINER)
    for begin in range(0, rows, most):
        end = min(begin + most, rows)
        panels = -(-(end - begin) // ROWS)
        of_rows, of_terms = sizes_of_outputs(panels, length)
        by_row, by_term = (
            room_of_floats(panels * of_rows),
            room_of_floats(of_terms[0] * of_terms[1]),
        )
        packed = by_row.reshape(panels, of_rows), by_term.reshape(of_terms)
        pack_outputs(x[begin:end], *packed)
        tasks = _tasks(frame, many, begin, end, by_row, by_term)
        _tell(tasks, 0, many, _LOGITS)
        enough: bool = run_all(own, tasks, threads, region)
        tasks = _tasks(frame, panels, begin, end, by_row, by_term)
        _tell(tasks, 0, panels, _LOSSES)
        enough &= run_all(own, tasks, threads, region)
        if trained:
            tasks = _tasks(frame, shares + many, begin, end, by_row, by_term)
            _tell(tasks, 0, shares, _OUTPUTS)
            _tell(tasks, shares, many, _WEIGHTS)
            enough &= run_all(own, tasks, threads, region)
        hold(by_row)
        hold(by_term)
        if not enough:
            return False
    return True


def share() -> Any:
    """Return what does a share of a block, compiled when it is first asked for."""
    return share_of(_NAME, lambda: _do_or_say)


@native
def read(frame: int, own: int, shares: int, threads: int, region: int) -> bool:
    """Do all rows for a caller in Python; return whether there was memory.

    Args:
        frame: the address of a frame.
        own: the address of :func:`share`'s function.
        shares: for how many threads the work is divided.
        threads: how many do it.
        region: what begins theirs (:func:`.threads.run`), or 0.
    """
    enough: bool = _read(frame, own, shares, threads, region)
    return enough


def handle(frame: int) -> Any:
    """Compute losses and gradients: the handler, to be compiled once :func:`share` has been."""
    if asks_for_metadata(frame):
        return 0
    error = unexpected(frame, _ARGUMENTS, _RESULTS, _NONE, _ADDED)
    if error != 0:
        return error
    try:
        threads = i64(ints_1(argument(frame, 6))[0])
        enough = _read(frame, address_of(_NAME), threads, threads, i64(0))
    except Exception:  # the only one that there can be
        return out_of_memory(frame)
    return 0 if enough else out_of_memory(frame)
