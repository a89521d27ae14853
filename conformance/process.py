"""Asking a port that runs as a process of its own, by lines of JSON (CONF-003, CONF-005)."""

from __future__ import annotations

import random
import shlex
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from revrnn import SPEC_VERSION
from revrnn.config import LAYOUTS
from revrnn.errors import CODES, RevRNNError, one_of
from revrnn.wire import decode, encode

from .adapters import Answer, Fault, Question
from .life import Life, PortError
from .limits import LONGEST_NAME, Means, shortened, shown
from .profiles import PROFILES

# Requests that may wait for their answers at a time.
AHEAD: Final = 32
# What a port may be greeted with at first: no version that there is. A port has its own (CONF-003).
NO_VERSIONS: Final = ("0.0", "0.1.7", "99.0", "next", "")
# What a greeting has.
_GREETING: Final = {"name": str, "layouts": list, "profiles": list, "spec_version": str}
# A port that has to be started again more often than this is not asked any more.
RESTARTS: Final = 20


class ProcessPort:
    """A port in a process of its own, started again after a fault."""

    def __init__(
        self,
        command: str | list[str],
        timeout: float = 60.0,
        means: Means | None = None,
        seed: int = 0,
    ) -> None:
        """Start the port and greet it.

        Args:
            command: the program and its arguments; a string is split as a shell would.
            timeout: seconds that one answer may take.
            means: what its processes may use; by default as :class:`Means` says.
            seed: of identifiers and of how messages are written (:mod:`.messages`).

        Raises:
            PortError: if it does not start or greet. ``E_ARGUMENT`` without a program.
        """
        self.command = _words(command)
        self.timeout, self.means = timeout, means or Means()
        self._order = random.Random(seed)
        self._restarts = 0
        self._ways: Collection[str] | None = None
        self._process: Life | None = None
        greeted = self._order.choice(NO_VERSIONS)
        hello = self._start(greeted)
        self.name = str(hello["name"])
        self.layouts = tuple(hello["layouts"])
        self.profiles = tuple(hello["profiles"])
        self.spec_version = str(hello["spec_version"])
        claims = self._unknown_claims(greeted)
        if claims:
            self.close()
            raise PortError(f"{self.name} claims {'; and '.join(claims)}")

    def _unknown_claims(self, greeted: str) -> list[str]:
        """Return what the greeting claims that this suite does not have."""
        claims = []
        for what, given, known in (
            ("profile", self.profiles, PROFILES),
            ("layout", self.layouts, LAYOUTS),
            ("version", (self.spec_version,), (SPEC_VERSION,)),
        ):
            unknown = sorted(set(given) - set(known))
            if unknown:
                claims.append(f"{what} {one_of(unknown)}; this suite has {one_of(known)}")
        if self.spec_version == greeted:
            claims[-1] += (
                ", and it is claimed because it was greeted with it; a greeting names the version "
                "that the port follows (CONF-003)"
            )
        return claims

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Give one answer for each question; some are sent ahead of the answers."""
        waiting: deque[Question] = deque()
        source = iter(questions)
        sent, number = 0, self._order.choice((0, 2**16 - 20, 2**31 - 10**6))
        while True:
            waiting.extend(islice(source, AHEAD - len(waiting)))
            if not waiting:
                return
            if self._restarts > RESTARTS:
                waiting.popleft()
                yield Fault("crash", f"not asked: started again {RESTARTS} times already")
                continue
            if self._process is None:
                try:
                    self._start()
                except PortError as error:
                    self._restarts += 1
                    waiting.popleft()
                    yield error.fault or Fault("crash", str(error))
                    continue
                sent = 0
            process = self._process
            assert process is not None
            while sent < len(waiting):
                question = waiting[sent]
                args = {name: encode(value) for name, value in question.args.items()}
                message = {"id": number + sent, "operation": question.operation, "args": args}
                process.send(message, self._ways)
                sent += 1
            answer = self._answer(process, number)
            if isinstance(answer, Fault):
                self.close()
                self._restarts += 1
                sent = 1
            waiting.popleft()
            number, sent = number + 1, sent - 1
            yield answer

    def asked(self, question: Question, ways: Collection[str], anew: bool = False) -> Answer:
        """Give the answer to a message that is written in these ways (:data:`.messages.WAYS`).

        Its faults do not count among those after which the port is not asked any more.

        Args:
            question: what is asked.
            ways: of writing; nothing is drawn.
            anew: whether a new process is asked.
        """
        if anew:
            self.close()
        before, self._ways = self._restarts, ways
        try:
            (answer,) = self.answers([question])
        finally:
            self._restarts, self._ways = before, None
        return answer

    def finish(self) -> Fault | None:
        """End the process by the end of its input; return what it did wrong then (CONF-003)."""
        fault = None if self._process is None else self._process.finish(self.timeout)
        self.close()
        return fault

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def _start(self, version: str = SPEC_VERSION) -> dict[str, Any]:
        process = Life(self.command, self.means, self._order)
        process.send({"hello": {"spec_version": version}})
        answer = process.receive(self.timeout)
        fault = answer if isinstance(answer, Fault) else None
        detail = str(answer) if isinstance(answer, Fault) else _lack(answer)
        if detail:
            process.end()
            if fault is not None and fault.kind == "hang":
                detail += "; what a port writes it also flushes, before it waits (CONF-003)"
            detail = f"greeted with version {version!r}: {shortened(detail)}"
            raise PortError(f"{shortened(shlex.join(self.command), 300)}, {detail}", fault)
        assert isinstance(answer, dict)
        self._process = process
        hello: dict[str, Any] = answer["hello"]
        return hello

    def _answer(self, process: Life, number: int) -> Answer:
        reply = process.receive(self.timeout)
        if isinstance(reply, Fault):
            return reply
        if type(reply.get("id")) is not int or reply["id"] != number:
            return Fault("garbage", f"id {shown(reply.get('id'))} instead of {number}")
        if "error" in reply and not set(reply) - {"id", "error", "message"}:
            message = reply.get("message", "")
            if not isinstance(reply["error"], str) or reply["error"] not in CODES:
                return Fault("garbage", f"{shown(reply['error'])} is no code of ERR-001")
            if not isinstance(message, str):
                return Fault("garbage", f"message is {shown(message)} instead of a text")
            return {"error": reply["error"]}
        if set(reply) != {"id", "out"}:
            members = shortened(str(sorted(reply)), 200)
            return Fault("garbage", f"members {members} instead of id and out or error")
        if not isinstance(reply["out"], dict):
            return Fault("garbage", f"out is {shown(reply['out'])} instead of an object")
        try:
            return {name: decode(value) for name, value in reply["out"].items()}
        except (ValueError, RecursionError, OverflowError, TypeError) as error:
            return Fault("garbage", shortened(str(error)))


def _lack(answer: dict[str, Any]) -> str:
    """Return what a greeting lacks, or has too much; ``""`` for one that is right (CONF-003)."""
    hello = answer.get("hello")
    if set(answer) != {"hello"} or not isinstance(hello, dict):
        return f"no greeting, which is an object with hello alone: {answer}"
    if set(hello) != set(_GREETING):
        return f"no greeting: hello has {sorted(hello)}; due are {sorted(_GREETING)}"
    for name in sorted(_GREETING):
        texts = [hello[name]] if _GREETING[name] is str else hello[name]
        if not isinstance(texts, list) or len(texts) > 10:
            return f"no greeting: {name} is {shown(texts)}; a list of at most 10 texts is due"
        for text in texts:
            if not isinstance(text, str) or len(text) > LONGEST_NAME:
                wanted = f"a text of at most {LONGEST_NAME} characters"
                return f"no greeting: {name} has {shown(text)}; {wanted} is due"
    return ""


def _words(command: str | list[str]) -> list[str]:
    """Return program and arguments; ``E_ARGUMENT`` if there are none, or for an open quotation."""
    try:
        if words := shlex.split(command) if isinstance(command, str) else list(command):
            return words
    except ValueError:
        pass
    raise RevRNNError("E_ARGUMENT", "command", shown(command), "a program and its arguments")
