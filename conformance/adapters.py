"""Asking a port in this process: what it is, and how it is found.

A port in Python is an object with ``name``, ``layouts``, ``evaluate`` (:class:`revrnn.evaluation.
Implementation`) and perhaps ``profiles``. ``--adapter`` takes ``package:factory`` (something that
is called without arguments, or such an object itself), one of this project's implementations
(``numpy``, ``naive``, ``torch``, ``jax``), or a name in the entry point group
``revrnn.adapters``.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from revrnn.errors import RevRNNError
from revrnn.evaluation import IMPLEMENTATIONS, Implementation, load

from .profiles import PROFILES, check_profiles

GROUP: Final = "revrnn.adapters"


@dataclass(frozen=True)
class Question:
    """One request: an operation and its arguments."""

    operation: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """That a port did not answer as a port does.

    Attributes:
        kind: in a word: ``crash``, ``hang``, ``garbage``, ``memory``, ``children``, ``time``.
        detail: what happened.
        limit: which limit of CONF-006 it went beyond (``line``, ``answer``, ``names``, ``text``,
            ``nesting``, ``messages``, ``memory``, ``processes``, ``time``), or ``""``.
    """

    kind: str
    detail: str
    limit: str = ""

    def __str__(self) -> str:
        """Return the verdict in one line."""
        return f"{self.kind}{f' (limit {self.limit})' if self.limit else ''}: {self.detail}"


# The results by name, ``{"error": code}``, or what went wrong.
Answer = Mapping[str, Any] | Fault


class Port(Protocol):
    """What the runner asks: a port in this process, or in one of its own."""

    name: str
    layouts: tuple[str, ...]
    profiles: tuple[str, ...]

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Give one answer for each question, in their order."""
        ...

    def close(self) -> None:
        """Let go of what the port holds."""
        ...


class InProcess:
    """A port in this process. It cannot be stopped if it hangs; :mod:`.serve` gives it one."""

    def __init__(self, implementation: Implementation) -> None:
        """Take the implementation.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if it lacks what the suite asks for.
        """
        for name in ("name", "layouts", "evaluate"):
            if not hasattr(implementation, name):
                given = type(implementation).__name__
                raise RevRNNError("E_ARGUMENT", "adapter", f"{given} without {name}", "an adapter")
        self.implementation = implementation
        self.name, self.layouts = implementation.name, tuple(implementation.layouts)
        self.profiles: tuple[str, ...] = tuple(getattr(implementation, "profiles", PROFILES))
        check_profiles(self.profiles, "profiles")

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Give one answer for each question."""
        for question in questions:
            yield self._answer(question)

    def _answer(self, question: Question) -> Answer:
        try:
            found: Any = self.implementation.evaluate(question.operation, question.args)
        except RevRNNError as error:
            return {"error": error.code}
        except Exception:
            return Fault("crash", traceback.format_exc(limit=-3).strip())
        if not isinstance(found, Mapping):
            return Fault("garbage", f"{type(found).__name__} instead of a mapping")
        answer: Answer = found
        return answer

    def close(self) -> None:
        """Do nothing: the process goes on."""


def find(name: str) -> Implementation:
    """Return the implementation that a name stands for.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if there is none.
    """
    if name in IMPLEMENTATIONS:
        return load(name)
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found: Any = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            allowed = "package:factory, which can be imported"
            raise RevRNNError("E_ARGUMENT", "adapter", f"{name} ({error})", allowed) from error
    else:
        matches = entry_points(group=GROUP, name=name)
        if not matches:
            known = sorted({*IMPLEMENTATIONS, *(entry.name for entry in entry_points(group=GROUP))})
            allowed = f"package:factory or one of {', '.join(known)}"
            raise RevRNNError("E_ARGUMENT", "adapter", repr(name), allowed)
        found = next(iter(matches)).load()
    if not hasattr(found, "evaluate") and not callable(found):
        given = f"{name}, a {type(found).__name__}"
        raise RevRNNError("E_ARGUMENT", "adapter", given, "an adapter, or what makes one")
    implementation: Implementation = found if hasattr(found, "evaluate") else found()
    return implementation
