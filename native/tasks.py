"""What the shares of a call are told, and how they are run side by side.

Rows do not see one another (BUF-036), so each share of a batch can be gone over on a thread of its
own, and the parts of large products too.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Final

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from .compiling import Array, callback, i64, inner, native
from .frames import load, pointer, put
from .threads import make_known, prepare, run, run_job

_carray: Any = carray
_LONG: Any = types.int64

Handler = Callable[[int], int]

# What a share is told, int64: the frame, which of how many it is, where its words are, how many
# there is room for and whether they are kept, where it counts words by step (0: nowhere), by layer
# and gates, where gradients of pre-activations are, where packed inputs, whether it is the second
# turn of a gradient, and how many steps are a chunk, 0: all.
FRAME, INDEX, COUNT, ROOM, SIZE, KEEP, TOPS, PUSHED, GATES, DS, BELOW, AGAIN, CHUNK = range(13)
# What it says: whether memory was short, its words, whether it wanted more of them, and wraps. What
# it is told and says: how many steps are left, of which it takes the last chunk.
FAILED, WORDS, SHORT, WRAPS, LEFT = range(13, 18)
NUMBERS: Final = 18

# Compiled functions must live as long as the process.
_shares: Final[dict[str, Any]] = {}
_lock: Final = Lock()


def share_of(name: str, function: Callable[[], Handler]) -> Any:
    """Return a function of a task's address, compiled when it is first asked for.

    Args:
        name: what it is known by to :func:`revrnn.native.threads.address_of`.
        function: gives what is to be compiled.
    """
    with _lock:
        if name not in _shares:
            prepare()
            made = callback(function())
            make_known(name, made.address)
            _shares[name] = made
        return _shares[name]


@inner
def tasks_of(frame: int, count: int) -> Any:
    """Return what each of so many shares is told, int64 ``[K, n]``."""
    tasks = np.zeros((count, NUMBERS), np.int64)
    for k in range(count):
        tasks[k, FRAME], tasks[k, INDEX], tasks[k, COUNT] = frame, k, count
    return tasks


@inner
def run_all(share: int, tasks: Array, threads: int, region: int) -> bool:
    """Call a function of that address for all shares; return whether there was memory."""
    run(share, tasks, threads, region)
    enough = True
    for k in range(len(tasks)):
        enough &= tasks[k, FAILED] == 0
    return enough


@inner
def run_by_helpers(share: int, tasks: Array) -> bool:
    """Do so with a thread for each share."""
    enough: bool = run_all(share, tasks, i64(len(tasks)), i64(0))
    return enough


@native
def run_calls(job: Array, threads: int, region: int) -> None:
    """Run calls one after the other for a caller in Python, see :func:`.threads.job_of`."""
    run_job(job, threads, region)


@inner
def task_at(address: int) -> Any:
    """Return what a share is told."""
    return _carray(pointer(address, _LONG), (NUMBERS,))


@inner
def number_of(address: int, which: int) -> Any:
    """Return one number of what a share is told."""
    return load(address + 8 * which, _LONG)


@inner
def say_failed(address: int) -> None:
    """Say that memory was short."""
    put(address + 8 * FAILED, i64(1))


@inner
def failed(address: int) -> Any:
    """Return 0 if a share has done what it was to do; else what comes after it is left out."""
    return number_of(address, FAILED) | number_of(address, SHORT)


@inner
def part_of(task: Array, length: int, multiple: int) -> Any:
    """Return the first and the end of a share's part of so many, in whole multiples."""
    units = (length + multiple - 1) // multiple
    first = task[INDEX] * units // task[COUNT] * multiple
    return first, min((task[INDEX] + 1) * units // task[COUNT] * multiple, length)


@inner
def last_chunk(task: Array, steps: int) -> Any:
    """Return the first and the end of the steps, of so many, that a share on the way back takes."""
    chunk, left = task[CHUNK], task[LEFT]
    if chunk == 0:
        return i64(0), i64(steps)
    return (left - 1) // chunk * chunk, left


# The same for callers in Python.
tasks_for, part_for = tasks_of.py_func, part_of.py_func
