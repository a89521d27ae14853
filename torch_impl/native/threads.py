"""Compiled calls side by side, on as many threads as PyTorch would use.

Shares of a chunk are done by the threads of PyTorch's own operations, where these are OpenMP's:
they are at hand for a while after each operation, and others would compete with them. Else
:mod:`revrnn.native.threads` has helpers. Tasks in Python have threads that wait without spinning;
compiled calls do not hold the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from typing import Final

import torch

from revrnn.config import Config

from ...native.compiling import Array
from ...native.handlers import share
from ...native.tasks import FAILED, SHORT, run_calls
from ...native.threads import POSIX, job_of

Task = Callable[[], object]

# Multiplications that a share of a chunk must have to be worth a thread, which is at hand.
_WORTH: Final = 10_000_000


def chunk_shares(work: int, most: int | None = None) -> int:
    """Return by how many threads a chunk is done, at most ``most``."""
    threads = torch.get_num_threads()
    return max(1, min(threads, threads if most is None else most, work // _WORTH))


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


@cache
def _region() -> int:
    """Return the address of what begins a region of PyTorch's own threads, or 0."""
    try:
        begin = ctypes.CDLL(None).GOMP_parallel
    except (OSError, AttributeError, TypeError):  # another OpenMP, or none
        return 0
    of_torch = "parallel backend: OpenMP" in torch.__config__.parallel_info()
    return (ctypes.cast(begin, ctypes.c_void_p).value or 0) if of_torch else 0


def members(threads: int) -> tuple[int, int]:
    """Return how many threads do the shares of so many, and what begins theirs, or 0."""
    region = _region() if threads > 1 else 0
    # Of PyTorch's number: a region of another would end some of its threads.
    return torch.get_num_threads() if region else threads, region


def call(config: Config, calls: Sequence[tuple[str, Array]], threads: int) -> None:
    """Let shares of chunks be done side by side, some of them on this thread.

    Args:
        config: the stack.
        calls: one after the other, ``"advance"``, ``"recover"`` or ``"pull"``, and what each share
            is told, see :mod:`revrnn.native.tasks`. After one that fails none is made.
        threads: how many may do them.

    Raises:
        MemoryError: if there is not enough.
    """
    own = [(share(kind, config.cell, config.forgetting).address, tasks) for kind, tasks in calls]
    if POSIX or threads == 1:
        run_calls(job_of(own), *members(threads))
    else:  # compiled code starts no threads there
        for address, tasks in own:
            if _failed(address, tasks, threads):
                break
    told = [tasks[:, FAILED] for _, tasks in calls]
    if any(v.any() for v in told):
        for v in told:
            v[:] = 0
        raise MemoryError("not enough memory for a chunk of steps")


def _failed(address: int, tasks: Array, threads: int) -> bool:
    """Run a call's tasks by threads of Python's; return whether one has failed."""
    compiled = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)
    run([partial(compiled, int(task.ctypes.data)) for task in tasks], threads)
    return bool(tasks[:, [FAILED, SHORT]].any())


def _forget() -> None:
    """Begin anew: a child process has none of its parent's threads, and OpenMP waits for them."""
    global _region
    _pool.cache_clear()
    _region = cache(lambda: 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
