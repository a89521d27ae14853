"""Processes beside this one. Whoever interrupts a program interrupts them too: none says a word."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

from revrnn.command_line import leave_garbage_at_the_end

P = ParamSpec("P")
T = TypeVar("T")

# Seconds in which a process that was interrupted should end.
PATIENCE: Final = 5.0

_interrupted = False


class Processes(ProcessPoolExecutor):
    """A pool of new processes, which stop what they do at an interrupt and do nothing else of it.

    By default one that waits, or has not quite begun, would print a traceback and break the pool.
    """

    def __init__(
        self, most: int, prepare: Callable[..., object] | None = None, *given: Any
    ) -> None:
        """Make room for some processes.

        Args:
            most: how many, at most.
            prepare: what each does first; a function of a module.
            given: its arguments.
        """
        super().__init__(most, multiprocessing.get_context("spawn"), _begin, (prepare, given))
        self._calls: list[Future[Any]] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function of a module called in one of them."""
        work: Any = _interruptible  # of the type of what it calls
        with interrupts_put_off():  # which processes that are begun here inherit
            call: Future[T] = super().submit(work, fn, *args, **kwargs)
        self._calls.append(call)
        return call

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Wait for the processes, which an interrupt of this one alone ends as well."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            children = multiprocessing.active_children()
            for child in children:
                with suppress(OSError, ValueError):
                    os.kill(child.pid or 0, signal.SIGINT)
            if wait(self._calls, timeout=PATIENCE).not_done:
                for child in children:  # a compiler may have passed over it
                    child.terminate()
        return super().__exit__(kind, error, traceback)


def _begin(prepare: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    """Do what each process does first."""
    leave_garbage_at_the_end()
    if prepare is not None:
        prepare(*given)


def use_part_of_cores(parts: int) -> None:
    """Have PyTorch use one of so many parts of the cores: the others are for those beside it."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // parts))


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Have an interrupt wait for the end of a ``with`` block, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interruptible(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that an interrupt ends, or keeps from beginning if it came before."""
    global _interrupted
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        if _interrupted:
            raise KeyboardInterrupt
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        _interrupted = True
        raise
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
