"""Values told apart by all that a computation could see of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import is_dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np

_PLAIN: Final = (str, bool, int, float, bytes, type(None))


class UnlikeError(Exception):
    """A value that cannot be told from others: a function, an array without numbers yet."""


class Digests:
    """Digests of values; of what cannot be told from other values there is none.

    Arrays and objects are kept while this is, so that each is looked at once.
    """

    def __init__(self, frozen: dict[Hashable, int] | None = None) -> None:
        """Take the numbers that frozen objects have so far."""
        self.frozen = {} if frozen is None else frozen
        self._seen: dict[int, tuple[Any, bytes]] = {}

    def of(self, value: Any) -> bytes:
        """Return the digest of a tree of arrays, numbers and frozen objects, else ``b""``."""
        try:
            return self._of(value)
        except UnlikeError:
            return b""

    def _of(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _PLAIN:
            return _hash(kind.__name__, repr(value).encode())
        if isinstance(value, type):
            return _hash("type", f"{value.__module__}.{value.__qualname__}".encode())
        if isinstance(value, tuple | list):
            return _hash(kind.__qualname__, *map(self._of, value))
        if isinstance(value, Mapping):
            parts = (part for pair in value.items() for part in map(self._of, pair))
            return _hash(kind.__qualname__, *parts)
        if isinstance(value, np.dtype):
            return _hash("dtype", value.str.encode())
        known = self._seen.get(id(value))
        if known is None:
            known = self._seen[id(value)] = value, self._of_object(value)
        return known[1]

    def _of_object(self, value: Any) -> bytes:
        kind = type(value)
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            try:
                plain = np.asarray(value)
            except Exception as error:  # an array of a program that is being traced
                raise UnlikeError from error
            if plain.dtype.hasobject:
                raise UnlikeError
            weak = getattr(value, "weak_type", None)
            about = kind.__qualname__, plain.dtype.str, plain.shape, weak
            return _hash(repr(about), plain.tobytes())
        if is_dataclass(kind) and kind.__hash__ is not None:
            return _hash(
                kind.__qualname__, str(self.frozen.setdefault(value, len(self.frozen))).encode()
            )
        if kind.__module__.startswith("revrnn.") and hasattr(value, "__dict__"):
            return _hash(kind.__qualname__, self._of(vars(value)))
        raise UnlikeError


def _hash(kind: str, *parts: bytes) -> bytes:
    digest = blake2b(kind.encode(), digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
