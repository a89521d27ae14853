"""Programs of a kernel that run at the same time in Triton's interpreter, as on a GPU.

The interpreter runs one program after the other, so that a barrier among them would never end. Here
each is a thread; one of them works at a time, and another may go on wherever one comes to an atomic
operation. Which one is drawn: a phase that does not wait for the one before is met in both orders.
Programs that all wait for one another are an error instead of a test without end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any
from unittest.mock import patch

import numpy as np
import triton.language as tl  # the interpreter looks for it beside every kernel
from triton._C.libtriton.ir import MEM_SEMANTIC
from triton.runtime import interpreter

from revrnn.torch_impl.triton import support

__all__ = ["HangError", "Meetings", "tl", "together"]


class HangError(Exception):
    """All programs that run wait for others."""


class _Stop(BaseException):
    """Ends a thread whose launch has failed; nothing catches it."""


class Program:
    """A program of a launch, in a thread that works when it is told to."""

    def __init__(self, work: Callable[[], object], index: tuple[int, int, int]) -> None:
        self.index, self.waits, self.over, self.stopped = index, False, False, False
        self.seen = -1  # how much had been added when it looked last
        self.error: BaseException | None = None
        self.go, self.rest = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self.thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        self.go.acquire()
        try:
            if not self.stopped:
                work()
        except _Stop:
            pass
        except BaseException as error:
            self.error = error
        self.over = True
        self.rest.release()

    def resume(self) -> None:
        """Let it work up to its next atomic operation, or to its end."""
        interpreter.interpreter_builder.set_grid_idx(*self.index)
        self.go.release()
        self.rest.acquire()

    def pause(self) -> None:
        """Called by the program itself: let another one work."""
        self.rest.release()
        self.go.acquire()
        if self.stopped:
            raise _Stop


class Meetings:
    """Runs the programs of every launch at the same time, at most ``resident`` of them."""

    def __init__(self, seed: int, resident: int) -> None:
        self.random, self.resident = np.random.default_rng(seed), resident
        # The interpreter's own, or what stands for them.
        self.launch = interpreter.GridExecutor
        self.original = interpreter.interpreter_builder.create_atomic_rmw
        self.by_thread: dict[threading.Thread, Program] = {}
        self.launches, self.added = 0, 0

    def run(self, work: Callable[[], object], indices: list[tuple[int, int, int]]) -> None:
        """Run the programs of a launch to their end."""
        waiting = [Program(work, index) for index in indices]
        self.random.shuffle(waiting)  # type: ignore[arg-type]
        self.by_thread = {program.thread: program for program in waiting}
        running: list[Program] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.resident:
                    running.append(waiting.pop())
                able = [program for program in running if not program.waits]
                if not able:
                    raise HangError(f"{len(running)} programs run, and all wait for others")
                program = able[self.random.integers(len(able))]
                program.resume()
                if program.error is not None:
                    raise program.error
                running = [program for program in running if not program.over]
        finally:
            for program in [*waiting, *running]:
                program.stopped = True
                program.go.release()
                program.thread.join()

    def atomic(self, kind: Any, pointer: Any, value: Any, mask: Any, order: Any, scope: Any) -> Any:
        """Stand for the interpreter's atomic operations."""
        program = self.by_thread[threading.current_thread()]
        # What only acquires looks whether others have come, in vain until something is added.
        looks = order == MEM_SEMANTIC.ACQUIRE
        program.waits = looks and program.seen == self.added
        program.pause()
        result = self.original(kind, pointer, value, mask, order, scope)
        if looks:
            program.seen = self.added
        else:
            self.added += 1
            for other in self.by_thread.values():
                other.waits = False
        return result

    def executor(self, fn: Any, *arguments: Any) -> Any:
        """Return what launches a kernel, its programs together."""
        indices: list[tuple[int, int, int]] = []

        @wraps(fn)
        def program(**named: Any) -> None:
            builder = interpreter.interpreter_builder
            indices.append(builder.grid_idx)
            if len(indices) == int(np.prod(builder.grid_dim)):
                self.launches += 1
                self.run(lambda: fn(**named), indices)

        program.__signature__ = signature(fn)  # type: ignore[attr-defined]
        return self.launch(program, *arguments)


@contextmanager
def together(seed: int, resident: int) -> Iterator[Meetings]:
    """Run programs at the same time; the engine is told that so many can."""
    meetings = Meetings(seed, resident)
    with (
        patch.object(interpreter, "GridExecutor", meetings.executor),
        patch.object(interpreter.interpreter_builder, "create_atomic_rmw", meetings.atomic),
        patch.object(support, "resident", lambda _: resident),
    ):
        yield meetings
