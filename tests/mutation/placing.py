"""Putting the changed text of a file in the place of a module, under everything that uses it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, resolve_name, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


@cache
def source_of(name: str) -> str:
    """Return the text of a module, which need not be loaded, as it was when first asked for."""
    spec = find_spec(name)
    assert spec is not None
    return Path(str(spec.origin)).read_text(encoding="utf-8")


def place(name: str, source: str) -> None:
    """Execute a text in a loaded module, and execute again whatever imports from it."""
    _execute(sys.modules[name], source)
    for user in _users(name):
        _execute(sys.modules[user], source_of(user))


@cache
def _users(name: str) -> tuple[str, ...]:
    """Return the loaded modules that import from one, or from one that does, in their order."""
    package = name.rpartition(".")[0]
    loaded = [n for n in sys.modules if n.startswith(f"{package}.") and _is_file(sys.modules[n])]
    imported = {n: set(_imported(n)) & set(loaded) for n in loaded}
    using, before = {name}, 0
    while len(using) != before:
        before = len(using)
        using |= {n for n in loaded if imported[n] & using}
    order: list[str] = []

    def after_its_imports(n: str) -> None:
        if n not in order and n in using:
            pending.discard(n)
            for other in sorted(imported[n] & pending):
                after_its_imports(other)
            order.append(n)

    pending = set(using)
    for n in sorted(using):
        after_its_imports(n)
    return tuple(n for n in order if n != name)


def _is_file(module: ModuleType) -> bool:
    """Say whether a module is a file that is not a package's own."""
    return bool(getattr(module, "__file__", None)) and not hasattr(module, "__path__")


def _imported(name: str) -> Iterator[str]:
    package = str(sys.modules[name].__package__)
    for node in ast.walk(ast.parse(source_of(name))):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = resolve_name("." * node.level + (node.module or ""), package)
            yield target
            yield from (f"{target}.{alias.name}" for alias in node.names)


@cache
def compiled(source: str, path: str) -> CodeType:
    """Return the code of a text."""
    return compile(source, path, "exec")


def _execute(module: ModuleType, source: str) -> None:
    exec(compiled(source, str(module.__file__)), module.__dict__)


class _Loader(SourceFileLoader):
    """Loads a module from another text than its file's."""

    source = ""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the text."""
        return compile(self.source, self.path, "exec")


class Changed(MetaPathFinder):
    """Makes Python import a module that is not loaded yet from a changed text."""

    def __init__(self, name: str, source: str) -> None:
        """Take the module's name and its text."""
        spec = find_spec(name)
        assert spec is not None
        self.name, self.source, self.path = name, source, str(spec.origin)

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return how the module is loaded, ``None`` for others."""
        if name != self.name:
            return None
        loader = _Loader(name, self.path)
        loader.source = self.source
        return spec_from_file_location(name, self.path, loader=loader)
