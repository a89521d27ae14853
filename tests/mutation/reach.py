"""Which functions does a request run? One that does not come to a change cannot see it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import FrameType
from typing import Any, Final

# What a file does when it is imported, before any request.
IMPORT: Final = 0

# A request's name, and which of a port's implementations it is put to.
Request = tuple[str, int]
# Functions, each by the name of its file and its first line.
Functions = frozenset[tuple[str, int]]


@cache
def function_at(source: str, line: int) -> int:
    """Return the line of the innermost function whose body has a line, or :data:`IMPORT`.

    Decorators and defaults are not of the body: they run where a function is defined.
    """
    return max((node.lineno for node in _functions(source) if _has(node, line)), default=IMPORT)


def outermost_at(source: str, line: int) -> str:
    """Return the name of the function, or ``class.method``, whose body has a line, else ``""``."""
    for node in ast.parse(source).body:
        prefix, inner = (
            (f"{node.name}.", node.body) if isinstance(node, ast.ClassDef) else ("", [node])
        )
        for function in inner:
            if isinstance(function, ast.FunctionDef) and _has(function, line):
                return prefix + function.name
    return ""


def functions_run(ask: Callable[[], object], sources: Mapping[str, str]) -> Functions:
    """Ask something, and return the functions that ran.

    Args:
        ask: makes a request; what functions have kept of earlier ones is forgotten before.
        sources: the texts of the files that are looked at, by their full names.
    """
    codes: set[tuple[str, int]] = set()

    def look(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename in sources:
            codes.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    forget(sources)
    before = sys.gettrace()
    sys.settrace(look)
    try:
        ask()
    finally:
        sys.settrace(before)
    return frozenset((file, at) for file, line in codes for at in _around(sources[file], line))


@cache
def _around(source: str, line: int) -> tuple[int, ...]:
    """Return the functions to which code belongs that begins in a line: lambdas to several."""
    return tuple(node.lineno for node in _functions(source) if _start(node) <= line <= _end(node))


@cache
def _functions(source: str) -> tuple[ast.FunctionDef, ...]:
    tree = ast.parse(source)
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _has(node: ast.FunctionDef, line: int) -> bool:
    return node.body[0].lineno <= line <= _end(node)


def _start(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(part.lineno for part in node.decorator_list)])


def _end(node: ast.FunctionDef) -> int:
    return node.end_lineno or node.lineno


def forget(sources: Iterable[str]) -> None:
    """Empty what functions of files keep (``functools.cache``)."""
    sources = set(sources)
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) in sources:
            for value in list(vars(module).values()):
                clear: Any = getattr(value, "cache_clear", None)
                if callable(clear):
                    clear()
