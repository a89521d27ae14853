"""What all files of cases are made of: drafts, a generator of numbers, arrays of a type."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Arguments = dict[str, Any]
Array = npt.NDArray[Any]
Evaluate = Callable[[str, Mapping[str, Any]], dict[str, Any]]
# By flag: the rule that a mistake breaks, and a sentence.
Mistakes = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Draft:
    """A case without its answer; ``error`` is the code that is meant to come."""

    operation: str
    args: Arguments
    rules: tuple[str, ...]
    catches: tuple[str, ...] = ()
    error: str | None = None


def mistakes(table: str) -> Mistakes:
    """Return the mistakes of a table: in each line a flag, the rule, and the sentence."""
    rows = (line.split(maxsplit=2) for line in table.strip().splitlines())
    return {flag: (rule, sentence) for flag, rule, sentence in rows}


class Numbers:
    """A 64-bit linear congruential generator (Knuth's MMIX), started from a name."""

    def __init__(self, name: str) -> None:
        """Start from the SHA-256 of a name."""
        self._state = int.from_bytes(hashlib.sha256(name.encode("ascii")).digest()[:8], "little")

    def below(self, limit: int) -> int:
        """Return an integer in ``0 … limit − 1``."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 32) * limit >> 32

    def array(self, shape: Sequence[int], magnitude: int, dtype: type) -> Array:
        """Return integers in ``±magnitude``."""
        count = int(np.prod(shape))
        values = [self.below(2 * magnitude + 1) - magnitude for _ in range(count)]
        return np.array(values, dtype).reshape(shape)

    def choice(self, shape: Sequence[int], values: Sequence[int], dtype: type) -> Array:
        """Return elements of ``values``."""
        picked = [values[self.below(len(values))] for _ in range(int(np.prod(shape)))]
        return np.array(picked, dtype).reshape(shape)


# From values to an array of a type.
i16 = partial(np.array, dtype=np.int16)
i32 = partial(np.array, dtype=np.int32)
i64 = partial(np.array, dtype=np.int64)
f32 = partial(np.array, dtype=np.float32)
