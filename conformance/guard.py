"""The processes of a port: what they use together, and that none of them is left (CONF-006).

Every process that a port starts inherits its environment, and in it a mark of this life of the
port; so those that left its session, or whose parents have ended, are known too. One that empties
its environment as well is known if it was seen while its parent ran. Systems without ``/proc`` know
the process group alone, and set no limits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from typing import Final

from .adapters import Fault
from .limits import Means

_MARK: Final = "REVRNN_PORT"
_SECONDS: Final = 0.03
_LINUX: Final = sys.platform == "linux"


def leave_when_told() -> None:
    """Have the signals that end a process be an exit of it: so no port outlives it (CONF-006)."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


class _Told(SystemExit, KeyboardInterrupt):
    """An exit that is no fault of the adapter asked just then: it passes as interrupts do."""


def _leave(number: int, frame: object) -> None:
    raise _Told(128 + number)


class Guard:
    """Starts a port's process, watches what it uses, and ends it with all that it started."""

    def __init__(self, command: list[str], means: Means) -> None:
        """Start the process.

        Raises:
            OSError: if it does not start.
        """
        self.means = means
        self.fault: Fault | None = None
        self._own: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        mark = secrets.token_hex(8)
        self._mark = f"{_MARK}={mark}".encode()
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {_MARK: mark},
            start_new_session=os.name == "posix",
        )
        self._thread: threading.Thread | None = None
        if _LINUX:
            self._limit()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def _limit(self) -> None:
        """Set what the system enforces by itself: no core files, a bound on sudden growth."""
        import resource

        # A port that starts processes without end must not keep the guard from running.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.popen.pid, os.getpriority(os.PRIO_PROCESS, 0) + 5)
        bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_DATA: 8 * self.means.memory}
        for kind, bound in bounds.items():
            with contextlib.suppress(OSError, ValueError):
                _, hard = resource.prlimit(self.popen.pid, kind)
                most = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
                resource.prlimit(self.popen.pid, kind, (most, most))

    def members(self, most: int | None = None) -> list[int]:
        """Return the port's processes; where there are more than ``most``, the first of them."""
        there = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._own = {pid: own for pid, own in self._own.items() if pid in there}
        count = sum(self._own.values())
        for pid in sorted(there - set(self._own)):  # parents before their children, mostly
            self._own[pid] = self._is_own(pid)
            count += self._own[pid]
            if most is not None and count > most:
                break
        return [pid for pid, own in self._own.items() if own]

    def _is_own(self, pid: int) -> bool:
        with contextlib.suppress(OSError, IndexError):
            if os.getsid(pid) == self.popen.pid or self._own.get(int(_stat(pid)[1]), False):
                return True
            with open(f"/proc/{pid}/environ", "rb") as file:
                return self._mark in file.read(2**20)
        return False

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            if self.look() is not None:
                self.kill()
                return

    def look(self) -> Fault | None:
        """Return the fault of a port that uses more than it may, once it did."""
        if not _LINUX:
            return None
        with self._lock:
            if self.fault is None:
                self.fault = self._excess()
            return self.fault

    def _excess(self) -> Fault | None:
        members = self.members(self.means.processes)
        if len(members) > self.means.processes:
            return Fault("children", f"more than {self.means.processes} processes", "processes")
        used, page = 0, os.sysconf("SC_PAGE_SIZE")
        for pid in members:
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:
                _, resident, shared = file.read().split()[:3]
                used += (int(resident) - int(shared)) * page
        if used <= self.means.memory:
            return None
        what = f"{used >> 20} MiB in use; {self.means.memory >> 20} MiB are allowed"
        return Fault("memory", what, "memory")

    def kill(self) -> None:
        """End the process and all that it started, without asking."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)
        if self.popen.poll() is None:
            self.popen.kill()
        if not _LINUX:
            return
        for _ in range(200):  # a process that starts others may outrun one look at them
            with self._lock:
                # What was no part of the port when it was seen first may be one now.
                self._own = {pid: own for pid, own in self._own.items() if own}
                members = [pid for pid in self.members() if _runs(pid)]
            if not members:
                return
            for pid in members:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Give the process half a second to end by itself, then end all that is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=0.5)
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.kill()
        self.popen.wait()


def _runs(pid: int) -> bool:
    """Say whether a process has not ended; one that nobody has waited for is still listed."""
    try:
        return _stat(pid)[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _stat(pid: int) -> list[bytes]:
    """Return what the system says of a process: its state, its parent and more."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rsplit(b")", 1)[1].split()
