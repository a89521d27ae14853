"""Tasks of a compiled call side by side, without Python.

A handler that XLA calls may not wait for the interpreter's lock, so threads are the operating
system's. A core at rest takes a fifth of a millisecond until it begins, as long as a small task, so
helpers look for the next task for half a millisecond before they end. Whoever calls takes tasks
too, and waits for none that nobody has begun: on a busy machine it does all of them by itself.
A job is one call after another, each of all its tasks: none of the next begins before.
Where the system has no POSIX threads, or gives none, it does so anyway. A caller whose process has
OpenMP's threads, as PyTorch's, can have those instead, which then do not compete with helpers.

Jobs are put up on a board, that is a number of places which callers take and helpers look at.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .atomics import add_now, load_now, pause, store_now, take
from .compiling import Array, callback, hold, i64, inner

_intrinsic: Any = intrinsic
_ExternalFunction: Any = types.ExternalFunction
_insert: Any = cgutils.get_or_insert_function
_LONG: Any = types.int64
_INT: Any = types.int32

# Whether threads can be had.
POSIX: Final = os.name == "posix"
# Of the system: pthread_create(where its number goes, 0, function, argument), pthread_detach,
# sched_yield, and clock_gettime(which, where seconds and nanoseconds go).
_create = _ExternalFunction("pthread_create", _INT(_LONG, _LONG, _LONG, _LONG))
_detach = _ExternalFunction("pthread_detach", _INT(_LONG))
_yield = _ExternalFunction("sched_yield", _INT())
_clock = _ExternalFunction("clock_gettime", _INT(_INT, _LONG))
_CLOCK: Final = getattr(time, "CLOCK_MONOTONIC", 0)

# Of the board, int64: the functions of helpers and of members of a region, how many helpers there
# are, whether they are to end, and places from the next cache line on. Of a place: whether it is
# taken, its job's address, and how many helpers look at it. Of a job: how many calls it is, how
# many threads are expected, how many have come, whether a task has failed, and calls. Of a call:
# its function, where its tasks are, bytes of one, how many there are, how many are done, and where
# it is noted which of them somebody has begun.
_SERVE, _MEMBER, _ACTIVE, _STOP, _FIRST = 0, 1, 2, 3, 8
_TAKEN, _JOB, _READERS = 0, 1, 2
_CALLS, _THREADS, _COME, _FAILED, _HEAD = range(5)
_FUNCTION, _TASKS, _WIDTH, _COUNT, _DONE, _BEGUN, _CALL = range(7)
_PLACES: Final = 8
# How long a helper without work looks for some, in nanoseconds, and how often between two looks at
# the clock; how often a caller looks before it lets others have its core.
_IDLE: Final = 500_000
_LOOKS: Final = 16
_PATIENCE: Final = 4096

_room = np.zeros(_FIRST + 8 * _PLACES + 8, np.int64)
_at = -_room.ctypes.data % 64 // 8
_board = _room[_at : _at + _FIRST + 8 * _PLACES]


def make_known(name: str, address: int) -> None:
    """Let LLVM know an address by a name, for :func:`address_of`."""
    binding.add_symbol(name, address)


def _address_of(typingctx: Any, name: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        function = _insert(builder.module, ir.FunctionType(word, [word]), name.literal_value)
        return builder.ptrtoint(function, word)

    return _LONG(name), codegen


def _call(typingctx: Any, address: Any, argument: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(word, [word]).as_pointer()
        return builder.call(builder.inttoptr(values[0], function), [values[1]])

    return _LONG(types.int64, types.int64), codegen


def _begin(typingctx: Any, parallel: Any, member: Any, job: Any, threads: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word, number = ir.IntType(64), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [word, word, number, number]).as_pointer()
        count = builder.trunc(values[3], number)
        function = builder.inttoptr(values[0], kind)
        builder.call(function, [values[1], values[2], count, number(0)])
        return context.get_dummy_value()

    return types.void(_LONG, _LONG, _LONG, _LONG), codegen


# Of a name's address, and the call of a function of one.
address_of, call = _intrinsic(prefer_literal=True)(_address_of), _intrinsic(_call)
_begin_region = _intrinsic(_begin)

make_known("revrnn_board", _board.ctypes.data)


@inner
def _work(job: int) -> bool:
    """Do tasks of a job that nobody has begun, call after call; return whether there was one.

    Each thread begins with tasks of its own, the same ones in each call, as far as others leave
    them: what they read and wrote before is in its core's caches.
    """
    did, last, threads = False, load_now(job + 8 * _CALLS) - 1, load_now(job + 8 * _THREADS)
    own = add_now(job + 8 * _COME, i64(1)) % threads
    for n in range(last + 1):
        at = job + 8 * (_HEAD + _CALL * n)
        function, tasks = load_now(at + 8 * _FUNCTION), load_now(at + 8 * _TASKS)
        width, count = load_now(at + 8 * _WIDTH), load_now(at + 8 * _COUNT)
        begun = load_now(at + 8 * _BEGUN)
        for i in range(count):
            k = (own * count // threads + i) % count
            if take(begun + 8 * k):
                if call(function, tasks + width * k):
                    store_now(job + 8 * _FAILED, i64(1))
                add_now(at + 8 * _DONE, i64(1))
                did = True
        looks = 0
        while n < last and load_now(at + 8 * _DONE) < count:
            pause()
            looks += 1
            if looks > _PATIENCE:
                _yield()
        if load_now(job + 8 * _FAILED):
            break
    return did


def _join(job: int) -> int:
    """Do so as a member of an OpenMP region."""
    _work(job)
    return 0


def _serve(board: int) -> int:
    """Do tasks that are put up, until there have been none for a while."""
    now, since = np.zeros(2, np.int64), i64(-1)
    while load_now(board + 8 * _STOP) == 0:
        did = False
        for _ in range(_LOOKS):
            for place in range(_PLACES):
                at = board + 8 * (_FIRST + 8 * place)
                if load_now(at + 8 * _JOB):
                    add_now(at + 8 * _READERS, i64(1))
                    job = load_now(at + 8 * _JOB)
                    if job and _work(job):
                        did = True
                    add_now(at + 8 * _READERS, i64(-1))
            pause()
        _clock(_CLOCK, now.ctypes.data)
        moment = now[0] * 1_000_000_000 + now[1]
        if did or since < 0:
            since = moment
        elif moment - since > _IDLE:
            break
    add_now(board + 8 * _ACTIVE, i64(-1))
    return 0


def job_of(calls: Sequence[tuple[int, Array]]) -> Array:
    """Return a job of calls: each a function's address, and its tasks int64 ``[K, n]``.

    A function is called with the address of a row, and must not raise. Where it returns another
    number than 0, the calls after its own are left out.
    """
    first = _HEAD + _CALL * len(calls)
    job = np.zeros(first + sum(len(tasks) for _, tasks in calls), np.int64)
    job[_CALLS], begun = len(calls), job.ctypes.data + 8 * first
    for own, (function, tasks) in zip(job[_HEAD:first].reshape(-1, _CALL), calls, strict=True):
        own[:] = function, tasks.ctypes.data, tasks.strides[0], len(tasks), 0, begun
        begun += 8 * len(tasks)
    return job


@inner
def run(function: int, tasks: Array, threads: int, region: int) -> None:
    """Run a job of one call, see :func:`job_of` and :func:`run_job`."""
    count, first = tasks.shape[0], _HEAD + _CALL
    job = np.zeros(first + count, np.int64)
    job[_CALLS], own = 1, job[_HEAD:]
    own[_FUNCTION], own[_TASKS], own[_WIDTH] = function, tasks.ctypes.data, 8 * tasks.shape[1]
    own[_COUNT], own[_BEGUN] = count, job.ctypes.data + 8 * first
    run_job(job, threads, region)


@inner
def run_job(job: Array, threads: int, region: int) -> None:
    """Run a job by so many threads, this one among them.

    They are helpers or, with the address of ``GOMP_parallel``, those of an OpenMP region.
    """
    most, job[_THREADS] = i64(0), max(threads, 1)
    for n in range(job[_CALLS]):
        most = max(most, job[_HEAD + _CALL * n + _COUNT])
    address, at = job.ctypes.data, i64(0)
    board = address_of("revrnn_board")
    member, helpers = load_now(board + 8 * _MEMBER), min(threads, most) - 1
    if region and helpers > 0 and member:
        _begin_region(region, member, address, threads)
        hold(job)
        return
    if POSIX and helpers > 0 and load_now(board + 8 * _SERVE):
        for place in range(_PLACES):
            if at == 0 and take(board + 8 * (_FIRST + 8 * place + _TAKEN)):
                at = board + 8 * (_FIRST + 8 * place)
    if at:
        store_now(at + 8 * _JOB, address)
        _call_helpers(board, helpers)
    _work(address)
    if at:
        store_now(at + 8 * _JOB, i64(0))
        looks = 0
        while load_now(at + 8 * _READERS):
            pause()
            looks += 1
            if looks > _PATIENCE:
                _yield()
        store_now(at + 8 * _TAKEN, i64(0))
    hold(job)


@inner
def _call_helpers(board: int, wanted: int) -> None:
    """Start helpers where there are fewer than that."""
    number = np.zeros(1, np.int64)
    for _ in range(wanted - load_now(board + 8 * _ACTIVE)):
        add_now(board + 8 * _ACTIVE, i64(1))
        if _create(number.ctypes.data, i64(0), load_now(board + 8 * _SERVE), board):
            add_now(board + 8 * _ACTIVE, i64(-1))
            return
        _detach(number[0])


def prepare() -> None:
    """Compile what helpers do; until then every caller does its tasks by itself."""
    global _compiled
    if POSIX and not _compiled:
        _compiled = callback(_serve), callback(_join)
        _board[_SERVE], _board[_MEMBER] = (made.address for made in _compiled)
        os.register_at_fork(after_in_child=_forget)
        atexit.register(_end)


_compiled: tuple[Any, ...] = ()


def _forget() -> None:
    """Clear the board: a child process has none of its parent's threads."""
    _board[_ACTIVE] = _board[_STOP] = 0
    _board[_FIRST:] = 0


def _end() -> None:
    """Let helpers end before the code that they run is gone."""
    _board[_STOP] = 1
    deadline = time.monotonic() + 1
    while _board[_ACTIVE] and time.monotonic() < deadline:
        time.sleep(1e-4)
