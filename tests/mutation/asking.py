"""Asking a mutant in Python: vectors, then random requests, until an answer is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from revrnn.comparison import differences
from revrnn.conformance.adapters import Question
from revrnn.conformance.checking import left_out
from revrnn.evaluation import Implementation, outcome

from .questions import Asked, operations_of, random_requests, vectors

PROFILES: Final = ("gates", "buffer", "cell", "sequence", "gradient")
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


def noticed(
    implementations: list[Implementation], file: str, profiles: tuple[str, ...] = PROFILES
) -> str:
    """Return what notices a mutant: ``vectors``, ``random`` or ``""``; a fault counts as noticed.

    Args:
        implementations: that have the changed file; the first is asked everything, the others
            products alone.
        file: that was changed.
        profiles: of the operations that are asked.
    """
    for kind, operation, every in _parts(file, profiles):
        asking = implementations if operation == "product" else implementations[:1]
        if any(_is_wrong(one, asked) for asked in every for one in asking):
            return kind
    return ""


def _parts(file: str, profiles: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[Asked, ...]]]:
    """Give what is asked, in parts: what asks the file most directly and is small comes first."""
    first = _FIRST.get(file, ())
    order = sorted(operations_of(profiles), key=lambda operation: operation not in first)
    for kind, questions in (("vectors", vectors), ("random", random_requests)):
        every = {name: tuple(sorted(questions(name), key=_size)) for name in order}
        for part in (slice(_FEW), slice(_FEW, None)):
            for operation in order:
                yield kind, operation, every[operation][part]


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


def _is_wrong(implementation: Implementation, asked: Asked) -> bool:
    try:
        answer = outcome(implementation, asked.operation, asked.args)
        question = Question(asked.operation, asked.args)
        return not left_out(question, answer) and bool(differences(asked.expected, answer))
    except Exception:
        return True
