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

_WORD_TYPES: Final = {"stream": np.uint16, "wordlist": np.int64, "bigint": np.uint16}
_STORE: Final = ("words", "flags")


def each(values: Array, function: Callable[[Any], Any], dtype: type) -> Array:
    """Apply a function to every element."""
    return array_of([function(value) for value in values.flatten().tolist()], dtype, values.shape)


def array_of(values: list[Any], dtype: type, shape: tuple[int, ...]) -> Array:
    """Build an array; the shape is needed where the list is empty."""
    return np.array(values, dtype).reshape(shape)


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
        "heads": heads_of(buffer, buffer.heads, shape),
        "words": array_of(buffer.words, _WORD_TYPES[buffer.layout], words),
        "flags": array_of(buffer.flags, np.uint8, (len(buffer.flags),)),
    }


def heads_of(buffer: Buffer, values: list[Any], shape: tuple[int, ...]) -> Array:
    """Build an array of heads, of the layout's type."""
    return array_of(values, object if buffer.layout == "bigint" else np.int64, shape)
