"""Compiled calls side by side, on as many threads as PyTorch would use.

Compiled calls do not hold the interpreter's lock. One of them runs on the calling thread; threads
are started only where the work is worth it, and wait without spinning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Final

import torch

Task = Callable[[], object]

# Multiplications that a thread must have to be worth its start, about a millisecond where each has
# its own rows: at 200 units two threads then take a tenth less than one, and on a busy machine,
# where waiting for a thread to be given a core takes long, no more. The same where it helps with
# tasks that this thread does itself if nobody comes.
_WORTH: Final = 40_000_000


def shares(work: int, most: int) -> int:
    """Return into how many calls to split so many multiplications, at most ``most``."""
    return max(1, min(torch.get_num_threads(), most, work // _WORTH))


def helpers(work: int) -> int:
    """Return how many threads are to do tasks of so many multiplications together."""
    return max(1, min(torch.get_num_threads(), work // _WORTH))


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="revrnn")


def run(tasks: Sequence[Task], count: int) -> None:
    """Run all tasks, at most ``count`` at a time, one of them always on this thread.

    A thread that has not come to the first of its tasks when all are taken is not waited for.
    """
    if count <= 1 or len(tasks) <= 1:
        for task in tasks:
            task()
        return
    left = iter(tasks)  # its next() is atomic: a list's iterator under the interpreter's lock

    def work() -> None:
        for task in left:
            task()

    others = [_pool(count - 1).submit(work) for _ in range(count - 1)]
    try:
        work()
    finally:
        others = [other for other in others if not other.cancel()]
        wait(others)  # whatever happens here, they write to memory that is in use
    for other in others:
        other.result()


def split(length: int, count: int, multiple: int = 1) -> list[slice]:
    """Return ``count`` slices or fewer of ``length`` rows, whole multiples but the last."""
    units = -(-length // multiple)
    each = -(-units // max(count, 1)) * multiple
    return [slice(at, min(at + each, length)) for at in range(0, length, each)]


# A child process has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
