"""Arrays of requests as lists, and lists as arrays of results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.evaluation import Request

from .buffer import Buffer

Results = dict[str, Any]
Array = npt.NDArray[Any]

_STORE: Final = ("words", "flags")


def each(values: Array, function: Callable[[Any], Any]) -> Array:
    """Apply a function to every element."""
    return array_of([function(value) for value in values.flatten().tolist()], values.shape)


def array_of(values: list[Any], shape: tuple[int, ...]) -> Array:
    """Build an array of Python's numbers; the shape is needed where the list is empty."""
    return np.array(values, object).reshape(shape)


def buffer_of(request: Request, layout: str) -> Buffer:
    """Take the heads and, where one is given, the store."""
    heads = [[int(head) for head in row] for row in request.arrays["heads"].tolist()]
    stored = [request.arrays[name].tolist() if name in request.arrays else [] for name in _STORE]
    return Buffer(layout, heads, *stored)


def buffer_results(buffer: Buffer) -> Results:
    """Return heads and store as they stand."""
    shape = (len(buffer.heads), len(buffer.heads[0]))
    number = len(buffer.words)
    words = (number, *shape) if buffer.layout == "wordlist" else (number,)
    return {  # EVAL-006
        "heads": array_of(buffer.heads, shape),
        "words": array_of(buffer.words, words),
        "flags": array_of(buffer.flags, (len(buffer.flags),)),
    }
