"""Asking a mutant in Python: vectors, then random requests, until an answer is wrong."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np

from revrnn.comparison import differences
from revrnn.conformance.adapters import Question
from revrnn.conformance.checking import left_out
from revrnn.evaluation import Implementation, outcome

from .questions import Asked, operations_of, random_requests, vectors
from .reach import Request

PROFILES: Final = ("gates", "buffer", "cell", "sequence", "gradient")
# Makes a request that is told by its name, and may note what it runs.
Note = Callable[[Request, Callable[[], object]], object]
# Seconds of its own work after which a mutant in a process of its own does not end.
LIMIT: Final = 60
# What a mutant has that fails before it is asked anything, in the place of a request's.
AT_ONCE: Final = -2
# So many small requests of every operation come before the others.
_FEW: Final = 12

# What asks a file most directly comes first.
_FIRST: Final = {
    "quantise": ("quantise", "dequantise", "round_shift", "view"),
    "product": ("product",),
    "activations": ("tanh", "sigmoid", "forget_gate"),
    "buffer": ("revmul", "revmul_inverse"),
    "revmul": ("revmul", "revmul_inverse"),
    "cells": ("cell_forward", "cell_reverse"),
    "sequence": ("sequence_forward", "sequence_reverse"),
    "groups": ("cell_forward", "cell_reverse"),
    "walk": ("sequence_forward", "sequence_reverse"),
}


class ByMethod:
    """An implementation whose products are computed by one method."""

    def __init__(self, whole: Implementation, product: Any, method: str) -> None:
        """Take the implementation, its module of the product, and a method of it."""
        self.name, self.layouts = f"{whole.name}, {method}", whole.layouts
        self.whole, self.product, self.method = whole, product, method

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Compute one operation."""
        self.product.set_product_method(self.method)
        try:
            return self.whole.evaluate(operation, arguments)
        finally:
            self.product.set_product_method("auto")


@dataclass(frozen=True)
class Put:
    """A request as it is put to an implementation.

    Attributes:
        kind: ``vectors`` or ``random``.
        asked: the request and its answer.
        to: which of the implementations that have the file: the first one is asked everything.
    """

    kind: str
    asked: Asked
    to: int

    @property
    def request(self) -> Request:
        """What tells it from others."""
        return self.asked.name, self.to


class Asking:
    """What the mutants of a port are asked, and in which order.

    Vectors that noticed mutants of a file are put to the next ones first. A request that cannot see
    a change is left out, where that is known.
    """

    def __init__(self, profiles: tuple[str, ...] = PROFILES, methods: int = 0) -> None:
        """Take the profiles of the operations, and how many implementations multiply alone."""
        self.profiles, self.methods = profiles, methods
        self._noticed: dict[str, list[int]] = {}

    def learn(self, implementations: Sequence[Implementation], note: Note) -> bool:
        """Ask a port as it is.

        Args:
            implementations: as for :meth:`noticed`.
            note: makes each request, and notes what it runs.

        Returns:
            Whether all answers are right.
        """
        wrong = []

        def ask(put: Put) -> None:
            if is_wrong(implementations[put.to], put.asked):
                wrong.append(put)

        for put in self.puts(""):
            note(put.request, partial(ask, put))
        return not wrong

    def noticed(
        self,
        implementations: Sequence[Implementation],
        file: str,
        sees: Callable[[Request], bool] = bool,
    ) -> int:
        """Return the place of the request that notices a mutant, -1 if none does.

        Args:
            implementations: that have the changed file; the first is asked everything, the others
                products alone.
            file: that was changed.
            sees: says whether a request may see the change; by default any may.
        """
        puts, early = self.puts(file), self._noticed.get(file, [])
        late = (place for place in range(len(puts)) if place not in early)
        for place in (*early, *late):
            put = puts[place]
            if sees(put.request) and is_wrong(implementations[put.to], put.asked):
                return place
        return -1

    def verdict(self, file: str, place: int) -> str:
        """Return what noticed a mutant, ``""`` for -1; a vector comes first from now on."""
        if place < 0:
            return "vectors" if place == AT_ONCE else ""
        kind = self.puts(file)[place].kind
        # What random requests notice alone is told apart: they come after all vectors.
        if kind == "vectors":
            put_first(self._noticed.setdefault(file, []), place)
        return kind

    def puts(self, file: str) -> tuple[Put, ...]:
        """Return all requests; those that ask a file most directly and are small come first."""
        return _puts(file, self.profiles, self.methods)


@cache
def _puts(file: str, profiles: tuple[str, ...], methods: int) -> tuple[Put, ...]:
    first = _FIRST.get(file, ())
    order = sorted(operations_of(profiles), key=lambda operation: operation not in first)
    puts = []
    for kind, questions in (("vectors", vectors), ("random", random_requests)):
        every = {name: tuple(sorted(questions(name), key=_size)) for name in order}
        for part in (slice(_FEW), slice(_FEW, None)):
            for operation in order:
                asked_to = range(1 + methods if operation == "product" else 1)
                puts += [Put(kind, one, to) for one in every[operation][part] for to in asked_to]
    return tuple(puts)


def _size(asked: Asked) -> int:
    """Return about how much work a request is."""
    config = asked.args.get("config")
    layers = config.get("num_layers", 1) if isinstance(config, Mapping) else 1
    arrays = (value.size for value in asked.args.values() if isinstance(value, np.ndarray))
    return sum(arrays) * (layers if isinstance(layers, int) else 1)


def prepare_questions(profiles: tuple[str, ...] = PROFILES) -> None:
    """Make all questions, so that forked processes have them."""
    for operation in operations_of(profiles):
        assert vectors(operation)
        assert random_requests(operation)


def put_first(early: list[Any], one: Any) -> None:
    """Put one to the front of a list, to which it may belong already."""
    if one in early:
        early.remove(one)
    early.insert(0, one)


def in_a_process(ask: Callable[[], int], limit: int = LIMIT) -> int | None:
    """Return what a function gives in a forked process, which has ``limit`` seconds.

    Returns:
        :data:`AT_ONCE` if it ended the process, ``None`` if it did not come to its end.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        # Of its own work: how long others make it wait says nothing.
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit + 10))
        os.write(tell, str(ask()).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        place = answer.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGXCPU:
        return None
    return int(place) if place else AT_ONCE


def is_wrong(implementation: Implementation, asked: Asked) -> bool:
    try:
        answer = outcome(implementation, asked.operation, asked.args)
        question = Question(asked.operation, asked.args)
        return not left_out(question, answer) and bool(differences(asked.expected, answer))
    except Exception:
        return True
