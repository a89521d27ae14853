"""What functions are called with and return: a change is tried on the calls that requests make.

JAX's functions return what their arguments make of it and do nothing else. So one that is changed,
and returns the same, bit for bit, for all that it is called with while requests are answered,
changes no answer. Where it returns something else, the requests with that call are asked.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .digests import Digests
from .placing import compiled, source_of
from .reach import Request, forget, outermost_at


@dataclass
class Call:
    """What a function was called with, and a digest of what it returned.

    Attributes:
        state: what functions of the files had set beside what they return.
        given: arguments.
        named: arguments by name.
        result: the digest.
    """

    state: tuple[Any, ...]
    given: tuple[Any, ...]
    named: Mapping[str, Any]
    result: bytes


@dataclass
class Function:
    """A function or method of a file.

    Attributes:
        itself: whose code is replaced; what is wrapped around it stays.
        code: its own code.
        calls: those that were kept.
        of_request: which of them each request makes, by their keys.
        asked: the requests with calls that could not be kept: they may see any change.
    """

    itself: FunctionType
    code: CodeType
    calls: dict[bytes, Call] = field(default_factory=dict)
    of_request: dict[Request, list[bytes]] = field(default_factory=dict)
    asked: set[Request] = field(default_factory=set)


@dataclass(frozen=True)
class Change:
    """A change of a file.

    Attributes:
        codes: the codes of changed functions, by their names.
        constants: new values of constants.
        suspects: the names of the functions that return something else at once, if any do.
    """

    codes: Mapping[str, CodeType]
    constants: Mapping[str, Any]
    suspects: tuple[str, ...]


class Calls:
    """The calls of the functions of some files, by request.

    Of a function that returns nothing, that fails, or that once returns something else for the
    same, no call is kept.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """Take the full names of the files' modules, which are loaded."""
        self.modules = {name: sys.modules[name] for name in names}
        self.functions = {
            (name, path): Function(itself, itself.__code__)
            for name, module in self.modules.items()
            for path, itself in _functions(module)
        }
        self._variables = [
            (vars(module), variable)
            for name, module in self.modules.items()
            for variable in sorted(_set_by_functions(source_of(name)))
        ]
        self._request: Request = ("", 0)
        self._digests = Digests()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note calls for the time of a ``with`` block."""
        for number, function in enumerate(self.functions.values()):
            name = f"_noting_{number}"
            function.itself.__globals__[name] = self._noting(function)
            function.itself.__code__ = _passing_on(name, function.code)
        try:
            yield
        finally:
            for function in self.functions.values():
                function.itself.__code__ = function.code

    def note(self, request: Request, ask: Callable[[], object]) -> None:
        """Make a request, and note what it calls."""
        self._request, self._digests = request, Digests(self._digests.frozen)
        self._forget()
        ask()

    def _noting(self, function: Function) -> Callable[..., Any]:
        itself = function.itself
        original = FunctionType(
            *(function.code, itself.__globals__, itself.__name__),
            *(itself.__defaults__, itself.__closure__),
        )
        original.__kwdefaults__ = itself.__kwdefaults__

        def call(*given: Any, **named: Any) -> Any:
            request, state = self._request, self._state()
            # Before it is called: a method may change its object.
            key = self._digests.of((state, given, named))
            try:
                result = original(*given, **named)
            except Exception:
                function.asked.add(request)
                raise
            made = b"" if result is None else self._digests.of(result)
            if not key or not made:
                function.asked.add(request)
                return result
            made_before = function.calls.setdefault(key, Call(state, given, named, made)).result
            if made_before != made:
                function.asked.add(request)
            elif key not in (keys := function.of_request.setdefault(request, [])):
                keys.append(key)
            return result

        return call

    def change(self, name: str, source: str, line: int) -> Change | None:
        """Return what a mutant of a file changes, ``None`` if all that uses it has to know.

        Args:
            name: the file's module.
            source: the changed text.
            line: that was changed, of the text as it was.

        Raises:
            Exception: what a changed file raises when it is imported.
        """
        path = outermost_at(source_of(name), line)
        code = compiled(source, str(self.modules[name].__file__))
        if path:
            return Change({path: _code_at(code, path)}, {}, (path,))
        was = vars(self.modules[name])
        made = {key: value for key, value in was.items() if key.startswith("__")}
        exec(code, made)
        of = Digests().of
        names = (made.keys() & was.keys()) - _set_by_functions(source)
        constants = {key: made[key] for key in names if of(was[key]) != of(made[key])}
        users = (module for module in _package(name) if vars(module) is not was)
        others = _used_at_import(source).union(*map(vars, users))
        if not constants or constants.keys() & others:
            return None
        here = {path: function for (file, path), function in self.functions.items() if file == name}
        suspects = (path for path in here if constants.keys() & _names(here[path].code))
        return Change({}, constants, tuple(suspects))

    @contextmanager
    def changed(self, name: str, change: Change) -> Iterator[Callable[[Request], bool]]:
        """Put a change in place; give what says whether a request may see it."""
        variables, functions = vars(self.modules[name]), self.functions
        before = {key: variables[key] for key in change.constants}
        trials = [self._trial(functions[name, path]) for path in change.suspects]
        try:
            variables.update(change.constants)
            for path, code in change.codes.items():
                functions[name, path].itself.__code__ = code
            self._forget()
            yield lambda request: any(trial(request) for trial in trials)
        finally:
            variables.update(before)
            for path in change.codes:
                functions[name, path].itself.__code__ = functions[name, path].code
            self._forget()

    def _trial(self, function: Function) -> Callable[[Request], bool]:
        digests, same = Digests(self._digests.frozen), dict[bytes, bool]()

        def is_same(key: bytes) -> bool:
            if key not in same:
                call, before = function.calls[key], self._state()
                self._set(call.state)
                try:
                    result = digests.of(function.itself(*call.given, **call.named))
                except Exception:
                    result = b""
                finally:
                    self._set(before)
                same[key] = result == call.result
            return same[key]

        def sees(request: Request) -> bool:
            calls = function.of_request.get(request, ())
            return request in function.asked or not all(map(is_same, calls))

        return sees

    def _state(self) -> tuple[Any, ...]:
        return tuple(variables[name] for variables, name in self._variables)

    def _set(self, state: tuple[Any, ...]) -> None:
        for (variables, name), value in zip(self._variables, state, strict=True):
            variables[name] = value

    def _forget(self) -> None:
        forget(str(module.__file__) for module in self.modules.values())


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Give the functions and methods that a file defines, by their names in it."""
    for place in (module, *(value for value in vars(module).values() if isinstance(value, type))):
        for value in list(vars(place).values()):
            # Of a method of a class, and of a property, the function.
            inner: Any = getattr(value, "__func__", getattr(value, "fget", value))
            itself: Any = inspect.unwrap(inner)
            if isinstance(itself, FunctionType) and itself.__module__ == module.__name__:
                yield itself.__qualname__, itself


def _set_by_functions(source: str) -> set[str]:
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Global))
    return {name for node in nodes for name in node.names}


def _used_at_import(source: str) -> set[str]:
    """Return the names that a file looks at when it is imported."""
    names = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    loaded = (name for name in names if isinstance(name.ctx, ast.Load))
    return {name.id for name in loaded if not outermost_at(source, name.lineno)}


def _passing_on(name: str, code: CodeType) -> CodeType:
    """Return code that calls a global function in the place of a function with a code."""
    scope: dict[str, Any] = {}
    exec(f"def call(*given, **named):\n    return {name}(*given, **named)\n", scope)
    made: CodeType = scope["call"].__code__
    return made


def _code_at(code: CodeType, path: str) -> CodeType:
    """Return the code of a function of a file, by its name in it."""
    for part in path.split("."):
        inner = (c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == part)
        code = next(inner)
    return code


def _names(code: CodeType) -> frozenset[str]:
    """Return the names of globals and attributes that a code, and code within, looks at."""
    inner = (_names(c) for c in code.co_consts if isinstance(c, CodeType))
    return frozenset(code.co_names).union(*inner)


def _package(name: str) -> list[ModuleType]:
    """Return the loaded modules beside one."""
    package = name.rpartition(".")[0]
    return [module for n, module in list(sys.modules.items()) if n.startswith(f"{package}.")]
