"""The information buffer in its three layouts (BUF)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from revrnn.errors import RevRNNError

Ints = npt.NDArray[Any]  # int64; unbounded Python integers in layout bigint
Bools = npt.NDArray[np.bool_]


class Buffer(ABC):
    """Heads of shape ``[B, G]`` and a store shared by all units.

    The law (BUF-003): ``pop`` with the residue that ``push`` gave returns the same digits, and
    leaves heads and store as they were before ``push``.
    """

    layout: str

    def __init__(self, heads: Ints) -> None:
        """Start from given heads and an empty store."""
        self.heads = heads.copy()

    def push(self, low: Ints, z: Ints, active: Bools) -> Ints:
        """Take the digits ``low`` (base 1024) of active units, give residues (base z)."""
        self.renormalise(z, active)
        n = self.heads * 1024 + low  # BUF-001
        self.heads = np.where(active, n // z, self.heads)  # BUF-004
        return n % z

    def pop(self, residue: Ints, z: Ints, active: Bools) -> Ints:
        """Take the residues of active units back, give their digits (BUF-002)."""
        self.check_pop(residue, z, active)
        n = self.heads * z + residue
        self.heads = np.where(active, n // 1024, self.heads)
        self.undo_renormalise(active)  # BUF-005
        return n % 1024

    def check_pop(self, residue: Ints, z: Ints, active: Bools) -> None:  # noqa: B027
        """Raise if the heads cannot be multiplied by ``z`` (BUF-024)."""

    @abstractmethod
    def renormalise(self, z: Ints, active: Bools) -> None:
        """Make room in the heads of active units."""

    @abstractmethod
    def undo_renormalise(self, active: Bools) -> None:
        """Refill the heads of active units."""

    @abstractmethod
    def stored_bits(self) -> int:
        """Return the bits of heads and store (ACC-003)."""

    def store(self) -> dict[str, npt.NDArray[Any]]:
        """Return ``words`` and ``flags`` (EVAL-006)."""
        return {"words": np.zeros(0, np.uint16), "flags": np.zeros(0, np.uint8)}

    def words_count(self) -> int:
        """Return the number of words (for ``wordlist`` planes) in the store."""
        return 0


class BigintBuffer(Buffer):
    """Algorithm 1 of the paper: one unbounded integer a unit (BUF-010)."""

    layout = "bigint"

    def renormalise(self, z: Ints, active: Bools) -> None:
        """Do nothing: the heads are unbounded."""

    def undo_renormalise(self, active: Bools) -> None:
        """Do nothing: the heads are unbounded."""

    def stored_bits(self) -> int:
        """Return the lengths of the heads in bits."""
        return sum(int(head).bit_length() for head in self.heads.flat)


class WordlistBuffer(Buffer):
    """The paper's list of 64-bit words (BUF-020)."""

    layout = "wordlist"

    def __init__(self, heads: Ints, planes: Ints | None = None, flags: Ints | None = None) -> None:
        """Start from given heads, planes ``[P, B, G]`` and flags ``[F]``."""
        super().__init__(heads)
        self.planes: list[Ints] = [] if planes is None else list(planes)
        self.flags: list[int] = [] if flags is None else [int(flag) for flag in flags]

    def renormalise(self, z: Ints, active: Bools) -> None:
        """Spill all active heads if one is full (BUF-021, BUF-022)."""
        full = bool((active & (self.heads >= 2**53)).any())
        self.flags.append(int(full))
        if full:
            self.planes.append(np.where(active, self.heads, 0))
            self.heads = np.where(active, 0, self.heads)

    def undo_renormalise(self, active: Bools) -> None:
        """Take back what was spilled (BUF-023)."""
        if not self.flags or (self.flags[-1] and not self.planes):
            raise RevRNNError(
                "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"
            )
        if self.flags.pop():
            self.heads = np.where(active, self.planes.pop(), self.heads)

    def check_pop(self, residue: Ints, z: Ints, active: Bools) -> None:
        """Raise ``E_RANGE`` where BUF-002 would pass 2^63 (BUF-024)."""
        if (active & (self.heads > (2**63 - 1 - residue) // z)).any():
            raise RevRNNError("E_RANGE", "heads", "a product of 2^63 or more", "less than 2^63")

    def stored_bits(self) -> int:
        """Return 64 a plane's word and a head, 1 a flag."""
        return 64 * self.heads.size * (len(self.planes) + 1) + len(self.flags)

    def store(self) -> dict[str, npt.NDArray[Any]]:
        """Return planes and flags."""
        planes = np.zeros((len(self.planes), *self.heads.shape), np.int64)
        for i, plane in enumerate(self.planes):
            planes[i] = plane
        return {"words": planes, "flags": np.array(self.flags, np.uint8)}

    def words_count(self) -> int:
        """Return the number of planes."""
        return len(self.planes)


class StreamBuffer(Buffer):
    """Asymmetric numeral systems: a 31-bit head a unit, one stack of 16-bit words (BUF-030)."""

    layout = "stream"

    def __init__(self, heads: Ints, words: Ints | None = None) -> None:
        """Start from given heads in ``2^15 … 2^31-1`` and words, bottom to top."""
        super().__init__(heads)
        self.words = np.zeros(0, np.int64) if words is None else words.astype(np.int64)

    def renormalise(self, z: Ints, active: Bools) -> None:
        """Push the low 16 bits of heads that would grow too long (BUF-031)."""
        full = active & (self.heads >= z << 21)
        # Boolean indexing walks in row-major order, as BUF-005 asks.
        self.words = np.concatenate([self.words, self.heads[full] & 0xFFFF])
        self.heads = np.where(full, self.heads >> 16, self.heads)  # now below z * 2^21

    def undo_renormalise(self, active: Bools) -> None:
        """Refill heads below 2^15 from the top of the stack (BUF-032)."""
        short = active & (self.heads < 2**15)
        left = len(self.words) - int(short.sum())
        if left < 0:
            raise RevRNNError(
                "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"
            )
        self.heads[short] = (self.heads[short] << 16) + self.words[left:]
        self.words = self.words[:left]

    def stored_bits(self) -> int:
        """Return 16 a word, 32 a head."""
        return 16 * len(self.words) + 32 * self.heads.size

    def store(self) -> dict[str, npt.NDArray[Any]]:
        """Return the words."""
        return {"words": self.words.astype(np.uint16), "flags": np.zeros(0, np.uint8)}

    def words_count(self) -> int:
        """Return the number of words."""
        return len(self.words)


def make_buffer(
    layout: str, heads: Ints, store: Mapping[str, npt.NDArray[Any]] | None = None
) -> Buffer:
    """Return a buffer of a layout with given heads and, optionally, a store (EVAL-006)."""
    store = store or {}
    if layout == "bigint":
        return BigintBuffer(heads)
    if layout == "wordlist":
        return WordlistBuffer(heads, store.get("words"), store.get("flags"))
    return StreamBuffer(heads, store.get("words"))
