"""Asking a port that runs as a process of its own, by lines of JSON (CONF-003, CONF-005)."""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from revrnn import SPEC_VERSION
from revrnn.errors import CODES, RevRNNError
from revrnn.wire import decode, encode

from .adapters import Answer, Fault, Question
from .profiles import PROFILES

# Longer lines are no answers.
LONGEST_LINE: Final = 64 * 2**20
# Requests that may wait for their answers at a time.
AHEAD: Final = 32
# A port that has to be started again more often than this is not asked any more.
RESTARTS: Final = 20


class PortError(RuntimeError):
    """The port cannot be asked at all: it does not start, or its greeting is wrong."""


class _Process:
    """One life of the port's process, with threads that write and read its lines."""

    def __init__(self, command: list[str]) -> None:
        try:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise PortError(f"{shlex.join(command)} does not start: {error}") from error
        self.messages: deque[bytes] = deque(maxlen=20)
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        works = (self._write, self._read, self._listen)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def send(self, message: Any) -> None:
        """Send a line; it is written when the port reads."""
        self._to_write.put(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any] | Fault:
        """Return the next line's object."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return Fault("hang", f"no answer within {seconds:g} s")
        if line is None:
            return Fault("crash", self._ending())
        if not line.endswith(b"\n"):
            return Fault("garbage", f"a line of {len(line)} bytes that does not end")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return Fault("garbage", f"no JSON: {_shown(line)}")
        if not isinstance(found, dict):
            return Fault("garbage", f"no JSON object: {_shown(line)}")
        return found

    def end(self) -> None:
        """End the process, gently if it has gone already."""
        self._to_write.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=0.5)
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for thread in self._threads:
            thread.join(timeout=1)

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=5)
        said = b"".join(self.messages).decode(errors="replace").strip()
        return f"the process ended with status {self.popen.returncode}" + (
            f"; it said: {said[-500:]}" if said else ""
        )

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
                self._lines.put(line)
        self._lines.put(None)

    def _listen(self) -> None:
        assert self.popen.stderr is not None
        with contextlib.suppress(OSError, ValueError), self.popen.stderr:
            while line := self.popen.stderr.readline(10_000):
                self.messages.append(line)


def _shown(line: bytes) -> str:
    text = repr(line[:80])
    return text if len(line) <= 80 else f"{text}… ({len(line)} bytes)"


class ProcessPort:
    """A port in a process of its own, started again after a fault."""

    def __init__(self, command: str | list[str], timeout: float = 60.0) -> None:
        """Start the port and greet it.

        Args:
            command: the program and its arguments; a string is split as a shell would.
            timeout: seconds that one answer may take.

        Raises:
            PortError: if it does not start or greet.
        """
        self.command = shlex.split(command) if isinstance(command, str) else list(command)
        self.timeout = timeout
        self._restarts = 0
        self._process: _Process | None = None
        hello = self._start()
        self.name = str(hello["name"])
        self.layouts = tuple(str(layout) for layout in hello["layouts"])
        self.profiles = tuple(str(profile) for profile in hello["profiles"])
        self.spec_version = str(hello["spec_version"])
        unknown = sorted(set(self.profiles) - set(PROFILES))
        if unknown or self.spec_version != SPEC_VERSION:
            self.close()
            raise PortError(
                f"{self.name} claims {', '.join(unknown) or 'no unknown profile'} and version "
                f"{self.spec_version}; this suite has {', '.join(PROFILES)} and {SPEC_VERSION}"
            )

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Give one answer for each question; some are sent ahead of the answers."""
        waiting: deque[Question] = deque()
        source = iter(questions)
        sent = number = 0
        more = True
        while more or waiting:
            while more and len(waiting) < AHEAD:
                question = next(source, None)
                if question is None:
                    more = False
                    break
                waiting.append(question)
            if not waiting:
                break
            if self._restarts > RESTARTS:
                waiting.popleft()
                yield Fault("crash", f"not asked: started again {RESTARTS} times already")
                continue
            if self._process is None:
                self._restarts += 1
                try:
                    self._start()
                except PortError as error:
                    waiting.popleft()
                    yield Fault("crash", str(error))
                    continue
                sent = 0
            process = self._process
            assert process is not None
            while sent < len(waiting):
                question = waiting[sent]
                args = {name: encode(value) for name, value in question.args.items()}
                message = {"id": number + sent, "operation": question.operation, "args": args}
                process.send(message)
                sent += 1
            answer = self._answer(process, number)
            if isinstance(answer, Fault):
                self.close()
                sent = 1
            waiting.popleft()
            number, sent = number + 1, sent - 1
            yield answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _start(self) -> dict[str, Any]:
        process = _Process(self.command)
        process.send({"hello": {"spec_version": SPEC_VERSION}})
        answer = process.receive(self.timeout)
        hello = answer if isinstance(answer, Fault) else answer.get("hello")
        names = {"name", "layouts", "profiles", "spec_version"}
        if not isinstance(hello, dict) or set(hello) != names:
            process.end()
            detail = hello.detail if isinstance(hello, Fault) else f"its greeting was {answer}"
            raise PortError(f"{shlex.join(self.command)}: {detail}")
        self._process = process
        return hello

    def _answer(self, process: _Process, number: int) -> Answer:
        found = process.receive(self.timeout)
        if isinstance(found, Fault):
            return found
        if type(found.get("id")) is not int or found["id"] != number:
            return Fault("garbage", f"id {found.get('id')!r} instead of {number}")
        if "error" in found and not set(found) - {"id", "error", "message"}:
            if found["error"] not in CODES:
                return Fault("garbage", f"{found['error']!r} is no code of ERR-001")
            return {"error": found["error"]}
        if set(found) != {"id", "out"} or not isinstance(found["out"], dict):
            return Fault("garbage", f"members {sorted(found)} instead of id and out or error")
        try:
            return {name: decode(value) for name, value in found["out"].items()}
        except (ValueError, RecursionError, OverflowError) as error:
            return Fault("garbage", str(error))


def check_command(command: str) -> None:
    """Raise ``E_ARGUMENT`` for a command that is empty or has an open quotation."""
    try:
        if shlex.split(command):
            return
    except ValueError:
        pass
    raise RevRNNError("E_ARGUMENT", "command", repr(command), "a program and its arguments")
