"""Asking a port in this process: what it is, and how it is looked up.

A port in Python is an object with ``name``, ``layouts``, ``evaluate`` (:class:`revrnn.evaluation.
Implementation`) and perhaps ``profiles`` and ``threads``, how many questions it takes at a time.
``--adapter`` takes ``package:factory`` (something that is called without arguments, or such an
object itself), one of this project's implementations (``numpy``, ``naive``, ``torch``, ``jax``), or
a name in the entry point group ``revrnn.adapters``.
"""

from __future__ import annotations

import copy
import random
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from multiprocessing.pool import ThreadPool
from typing import Any, Final, Protocol

import numpy as np

from revrnn.config import LAYOUTS
from revrnn.errors import RevRNNError, one_of, shown
from revrnn.evaluation import IMPLEMENTATIONS, Implementation, load

from .profiles import PROFILES, check_profiles

GROUP: Final = "revrnn.adapters"
# Characters of what somebody's code said that errors show.
_SHOWN: Final = 500
# Threads that are started for a port; systems refuse very many.
_MOST: Final = 1024


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


def mixed(value: Any, order: random.Random) -> Any:
    """Return a value with the members of its mappings in a drawn order, which tells nothing."""
    if not isinstance(value, Mapping):
        return value
    names = list(value)
    order.shuffle(names)
    return {name: mixed(value[name], order) for name in names}


class Port(Protocol):
    """What the runner asks: a port in this process, or in one of its own."""

    name: str
    layouts: tuple[str, ...]
    profiles: tuple[str, ...]

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Give one answer for each question, in their order."""
        ...

    def finish(self) -> Fault | None:
        """End the port by the end of its input; return what it did wrong then."""
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
        check_adapter(implementation)
        self.implementation = implementation
        self.name, self.layouts = implementation.name, tuple(implementation.layouts)
        self.profiles: tuple[str, ...] = tuple(getattr(implementation, "profiles", PROFILES))
        self.threads: int = getattr(implementation, "threads", 1)

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Give one answer for each question; ``threads`` of them may be worked on at a time."""
        if self.threads == 1:
            yield from map(self._answer, questions)
            return
        with ThreadPool(self.threads) as pool:
            yield from pool.imap(self._answer, questions)

    def _answer(self, question: Question) -> Answer:
        try:
            return evaluated(self.implementation, question)
        except RevRNNError as error:
            return {"error": error.code}

    def finish(self) -> Fault | None:
        """Return nothing: it has no input that ends."""
        return None

    def close(self) -> None:
        """Do nothing: the process goes on."""


def evaluated(implementation: Implementation, question: Question) -> dict[str, Any] | Fault:
    """Return what an implementation in this process makes of a request.

    Raises:
        RevRNNError: as it does; whatever else it raises is a fault.
    """
    # It may write into what it is given, and use the memory of an answer again.
    args = copy.deepcopy(dict(question.args))
    try:
        results: Any = implementation.evaluate(question.operation, args)
        if not isinstance(results, Mapping):
            return Fault("garbage", f"{type(results).__name__} instead of a mapping")
        taken = dict(results.items())
    except (RevRNNError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of Rust, by pyo3, is no Exception
        # Its name first: reports cut what is long.
        places = traceback.format_tb(error.__traceback__, limit=-3)
        text = "".join([*traceback.format_exception_only(error), *places])
        return Fault("crash", text.strip())
    for name, value in taken.items():
        if isinstance(value, np.ma.MaskedArray):
            return Fault("garbage", f"{name!r} is a masked array, whose mask would be lost")
        if isinstance(value, np.ndarray):
            # The numbers alone: a class of its own may compare, and be converted, as it likes.
            taken[name] = np.array(value, order="K", subok=False)
    return taken


def check_adapter(implementation: object, argument: str = "adapter") -> None:
    """Raise ``E_ARGUMENT`` for an object that is not what the suite asks for."""
    kind = type(implementation).__name__
    for name in ("name", "layouts", "evaluate"):
        if not hasattr(implementation, name):
            raise RevRNNError("E_ARGUMENT", argument, f"{kind} without {name}", "an adapter")
    given: Any = implementation
    profiles, threads = getattr(given, "profiles", PROFILES), getattr(given, "threads", 1)
    for name, value, fits, allowed in (
        ("name", given.name, isinstance(given.name, str), "a text"),
        ("layouts", given.layouts, _are_texts(given.layouts), "a tuple of texts"),
        ("evaluate", given.evaluate, callable(given.evaluate), "a method"),
        ("profiles", profiles, _are_texts(profiles), "a tuple of texts"),
        ("threads", threads, _is_number_of_threads(threads), f"a whole number, 1 … {_MOST}"),
    ):
        if not fits:
            said = f"{kind} whose {name} is {shown(value)[:_SHOWN]}"
            raise RevRNNError("E_ARGUMENT", argument, said, allowed)
    check_profiles(tuple(profiles), "profiles")
    for layout in given.layouts:
        if layout not in LAYOUTS:
            raise RevRNNError(
                "E_ARGUMENT", argument, f"{kind} with layout {layout!r}", one_of(LAYOUTS)
            )


def _is_number_of_threads(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MOST


def _are_texts(value: object) -> bool:
    if not isinstance(value, Collection) or isinstance(value, str):
        return False
    return all(isinstance(text, str) for text in value)


def find(name: str, argument: str = "adapter") -> Implementation:
    """Return the implementation that a name stands for.

    Args:
        name: one of this project's, an entry point, or ``package:factory``.
        argument: what errors call it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if there is none, or it cannot be imported or made, or it is no
            adapter.
    """
    made = _named(name, argument)
    # A class has the method too, but is no adapter: it makes them.
    ready = hasattr(made, "evaluate") and not isinstance(made, type)
    if not ready and not callable(made):
        given = f"{name}, a {type(made).__name__}"
        raise RevRNNError("E_ARGUMENT", argument, given, "an adapter, or what makes one")
    try:
        implementation: Implementation = made if ready else made()
        check_adapter(implementation, argument)
    except (RevRNNError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _not_made(name, argument, error, "an adapter, or what makes one") from error
    return implementation


def _not_made(name: str, argument: str, error: BaseException, allowed: str) -> RevRNNError:
    """Return the error for what somebody's own code did instead; it may even have left Python."""
    given = f"{name} ({type(error).__name__}: {str(error)[:_SHOWN]})"
    return RevRNNError("E_ARGUMENT", argument, given, allowed)


def _named(name: str, argument: str) -> Any:
    """Import what a name stands for."""
    entries = entry_points(group=GROUP)
    try:
        if name in IMPLEMENTATIONS:
            return load(name)
        if ":" in name:
            module, _, attribute = name.partition(":")
            return getattr(import_module(module), attribute)
        for entry in entries.select(name=name):
            return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        allowed = "the name of what can be imported"
        raise _not_made(name, argument, error, allowed) from error
    known = sorted({*IMPLEMENTATIONS, *entries.names})
    allowed = f"package:factory or one of {', '.join(known)}"
    raise RevRNNError("E_ARGUMENT", argument, shown(name), allowed)
