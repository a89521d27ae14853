"""One life of a port's process: its lines are written and read by threads (CONF-003, CONF-005)."""

from __future__ import annotations

import contextlib
import queue
import random
import shlex
import subprocess
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import Any

from .adapters import Fault
from .guard import Guard
from .limits import LONGEST_LINE, MOST_SAID, Means, parsed, shown
from .messages import written


class PortError(RuntimeError):
    """The port cannot be asked at all: it does not start, or its greeting is wrong.

    Attributes:
        fault: what came in the place of a greeting, if nothing did.
    """

    def __init__(self, text: str, fault: Fault | None = None) -> None:
        """Take what is to be said."""
        super().__init__(text)
        self.fault = fault


class Life:
    """A process, with threads that write and read its lines."""

    def __init__(self, command: list[str], means: Means, order: random.Random) -> None:
        """Start it.

        Args:
            command: the program and its arguments.
            means: what it may use.
            order: what draws how its messages are written.

        Raises:
            PortError: if it does not start.
        """
        self._order = order
        try:
            self.guard = Guard(command, means)
        except (OSError, ValueError) as error:
            raise PortError(f"{shlex.join(command)} does not start: {error}") from error
        self.popen = self.guard.popen
        self._stopped = False
        self._said = 0
        self.messages: deque[bytes] = deque(maxlen=20)
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # The port waits where more lines come than are taken.
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
        works = (self._write, self._read, self._listen)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        self._hearing = self._threads[-1]
        for thread in self._threads:
            thread.start()

    def send(self, message: Any, ways: Collection[str] | None = None) -> None:
        """Send a line, written in drawn ways or in these; it is written when the port reads."""
        self._to_write.put(written(message, self._order, ways))

    def receive(self, seconds: float) -> dict[str, Any] | Fault:
        """Return the next line's object."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            what = f"no answer within {seconds:g} s"
            if self.popen.poll() is not None:
                what += f"; {self._ending()}, and what it started holds its output open"
            return self._limit() or Fault("hang", what)
        if line is None:
            ending = self._ending()
            return self._limit() or Fault("crash", ending)
        if not line.endswith(b"\n"):
            limit = "line" if len(line) == LONGEST_LINE else ""
            return Fault("garbage", f"a line of {len(line)} bytes that does not end", limit)
        return self._limit() or parsed(line)

    def _limit(self) -> Fault | None:
        """Return the fault of a process that was ended for what it used."""
        if self._said > MOST_SAID:
            what = f"more than {MOST_SAID} bytes on its standard error"
            return Fault("garbage", what, "messages")
        return self.guard.look()

    def finish(self, seconds: float) -> Fault | None:
        """Close the process's input, and return the fault of one that does not end as it should."""
        self._to_write.put(None)
        end = time.monotonic() + seconds
        if line := self._line_by(end):
            what = f"a line more than it was asked for, at the end of its input: {shown(line)}"
            return self._limit() or Fault("garbage", what)
        try:
            status = self.popen.wait(timeout=max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return self._limit() or Fault("hang", f"it goes on {seconds:g} s after its input ended")
        if status == 0:
            return None
        return self._limit() or Fault("crash", f"at the end of its input {self._ending()}")

    def _line_by(self, end: float) -> bytes | None:
        """Return a line that comes before the output ends, or a time has come."""
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=0.05)
            if self.popen.poll() is not None:
                self.guard.kill()  # what it started may hold its output open
        return None

    def end(self) -> None:
        """End the process, gently if it has gone already."""
        self._stopped = True
        self._to_write.put(None)
        while True:  # a reader that waits for room goes on, and sees that this is the end
            try:
                self._lines.get_nowait()
            except queue.Empty:
                break
        self.guard.end()
        for thread in self._threads:
            thread.join(timeout=1)

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=1)
        self._hearing.join(timeout=1)  # what it said last may still be on its way
        said = b"".join(self.messages).decode(errors="replace").strip()
        status = self.popen.returncode
        ending = (
            "the process closed its output, and goes on"
            if status is None
            else f"the process ended with status {status}"
        )
        return ending + (f"; it said: {said[-500:]}" if said else "")

    def _write(self) -> None:
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while (line := self._to_write.get()) is not None:
                self.popen.stdin.write(line)
                self.popen.stdin.flush()
        with contextlib.suppress(OSError):
            self.popen.stdin.close()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with contextlib.suppress(OSError, ValueError), self.popen.stdout:
            while line := self.popen.stdout.readline(LONGEST_LINE):
                if not self._put(line) or len(line) == LONGEST_LINE:
                    break
        self._put(None)

    def _put(self, line: bytes | None) -> bool:
        """Hand a line over; say whether more lines are wanted."""
        while not self._stopped:
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.1)
                return True
        return False

    def _listen(self) -> None:
        assert self.popen.stderr is not None
        with contextlib.suppress(OSError, ValueError), self.popen.stderr:
            while line := self.popen.stderr.readline(10_000):
                self.messages.append(line)
                self._said += len(line)
                if self._said > MOST_SAID:
                    self.guard.kill()
                    return
