"""What the shares of a handler's call are told, and how they are run side by side.

Rows do not see one another (BUF-036), so each share of a batch can be gone over on a thread of its
own, and the parts of large products too.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from .compiling import Array, i64, inner
from .frames import load, pointer, put
from .threads import run

_carray: Any = carray
_LONG: Any = types.int64

# What a share is told, int64: the frame, which of how many it is, where its words are and how many
# there is room for, where it counts words by step and gates, where gradients of pre-activations
# are, where packed inputs, and whether it is the second turn of a gradient.
FRAME, INDEX, COUNT, ROOM, SIZE, TOPS, GATES, DS, BELOW, AGAIN = range(10)
# What it says: whether memory was short, its words, whether it wanted more of them, and wraps.
FAILED, WORDS, SHORT, WRAPS = range(10, 14)
_NUMBERS: Final = 14


@inner
def tasks_of(frame: int, count: int) -> Any:
    """Return what each of so many shares is told, int64 ``[K, n]``."""
    tasks = np.zeros((count, _NUMBERS), np.int64)
    for k in range(count):
        tasks[k, FRAME], tasks[k, INDEX], tasks[k, COUNT] = frame, k, count
    return tasks


@inner
def run_all(share: int, tasks: Array) -> bool:
    """Call a function of that address for all shares; return whether there was memory."""
    run(share, tasks)
    enough = True
    for k in range(len(tasks)):
        enough &= tasks[k, FAILED] == 0
    return enough


@inner
def hold(array: Array) -> Any:
    """Keep an array whose address shares know until here; Numba lets go of it at its last use."""
    return array.size


@inner
def task_at(address: int) -> Any:
    """Return what a share is told."""
    return _carray(pointer(address, _LONG), (_NUMBERS,))


@inner
def number_of(address: int, which: int) -> Any:
    """Return one number of what a share is told."""
    return load(address + 8 * which, _LONG)


@inner
def say_failed(address: int) -> None:
    """Say that memory was short."""
    put(address + 8 * FAILED, i64(1))


@inner
def part_of(task: Array, length: int, multiple: int) -> Any:
    """Return the first and the end of a share's part of so many, in whole multiples."""
    units = (length + multiple - 1) // multiple
    first = task[INDEX] * units // task[COUNT] * multiple
    return first, min((task[INDEX] + 1) * units // task[COUNT] * multiple, length)
