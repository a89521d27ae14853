"""Which lines of the native kernels do a request and a test come to, interpreted?"""

from __future__ import annotations

import ast
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from .intrinsics import Intrinsic

# Seconds that a test may take while lines are noted, which takes longer than to run it.
_LIMIT: Final = 20.0

Lines = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Question:
    """A request or a test.

    Attributes:
        kind: ``vectors``, ``random`` or ``tests``.
        name: of a request its place among all, of a test pytest's name.
        seconds: that the port as it is takes.
        lines: of the kernels, that it comes to.
    """

    kind: str
    name: Any
    seconds: float
    lines: Lines


@cache
def folder() -> Path:
    """Return where the kernels are."""
    return Path(str(import_module("revrnn.native").__file__)).parent


class Noted:
    """Notes the lines of kernels that are come to."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self._folder = f"{folder()}{os.sep}"

    def __enter__(self) -> Noted:
        Intrinsic.seen = self.lines
        self._before = sys.gettrace()
        sys.settrace(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        Intrinsic.seen = None

    def _look(self, frame: Any, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._look


def _too_late(*_: object) -> None:
    raise TimeoutError


class Tests:
    """Pytest's plugin that notes the same of each test."""

    def __init__(self) -> None:
        self.noted: list[Question] = []
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        began = time.process_time()
        signal.signal(signal.SIGPROF, _too_late)
        signal.setitimer(signal.ITIMER_PROF, _LIMIT)
        try:
            with Noted() as noted:
                yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.process_time() - began
        self.noted.append(Question("tests", item.nodeid, seconds, frozenset(noted.lines)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def span(source: str, line: int) -> range:
    """Return the lines of the statement that has a line; of one that holds others, its head."""
    inner = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line):
            body: Any = getattr(node, "body", None)
            end: int = body[0].lineno - 1 if body else node.end_lineno or line
            if line <= max(end, node.lineno):
                inner = range(node.lineno, max(end, node.lineno) + 1)
    return inner
