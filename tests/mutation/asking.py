"""Asking a mutant in Python: vectors, then random requests, until an answer is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from revrnn.comparison import differences
from revrnn.conformance.adapters import Question
from revrnn.conformance.checking import left_out
from revrnn.evaluation import Implementation, outcome
from revrnn.operations import OPERATIONS

from .questions import Asked, operations_of, random_requests, vectors

PROFILES: Final = ("gates", "buffer", "cell", "sequence")
# Seconds after which a mutant that does not end is a noticed one.
LIMIT: Final = 60

# Where an implementation is slow, so many of what takes longest.
_FEW: Final = 20

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
    implementations: list[Implementation],
    file: str,
    profiles: tuple[str, ...] = PROFILES,
    few: bool = False,
) -> str:
    """Return what notices a mutant: ``vectors``, ``random`` or ``""``; a fault counts as noticed.

    Args:
        implementations: that have the changed file; the first is asked everything, the others
            products alone.
        file: that was changed.
        profiles: of the operations that are asked.
        few: ask few random requests of each operation, and of sequences the smallest vectors.
    """
    first = _FIRST.get(file, ())
    order = sorted(operations_of(profiles), key=lambda operation: operation not in first)
    for kind in ("vectors", "random"):
        for operation in order:
            every = vectors(operation) if kind == "vectors" else random_requests(operation)
            if few and (kind == "random" or OPERATIONS[operation].profile == "sequence"):
                every = tuple(sorted(every, key=_size)[:_FEW])
            asking = implementations if operation == "product" else implementations[:1]
            if any(_is_wrong(one, asked) for asked in every for one in asking):
                return kind
    return ""


def _size(asked: Asked) -> int:
    """Return about how much work a request is, where it is a sequence."""
    x, config = asked.args.get("x"), asked.args.get("config")
    layers = config.get("num_layers", 1) if isinstance(config, Mapping) else 1
    return layers * x.size if isinstance(x, np.ndarray) and isinstance(layers, int) else 0


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
