"""The buffer of the second opinion, multiplication by a gate, and undoing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from revrnn.errors import RevRNNError

from .numbers import Grid, wrap32

Units = list[tuple[int, int]]


@dataclass
class Buffer:
    """Heads ``[B][G]`` and store: words (or planes of words) and flags."""

    layout: str
    heads: Grid
    words: list[Any] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)

    def push(self, low: dict[tuple[int, int], int], z: Grid) -> dict[tuple[int, int], int]:
        """Exchange a digit of each active unit, the keys of ``low``, for its residue."""
        units = sorted(low)  # BUF-005: row, then unit
        self._renormalise(units, z)
        residues = {}
        for b, u in units:
            n = self.heads[b][u] * 1024 + low[b, u]  # BUF-001
            residues[b, u] = n % z[b][u]
            self.heads[b][u] = n // z[b][u]
        return residues

    def pop(self, residues: dict[tuple[int, int], int], z: Grid) -> dict[tuple[int, int], int]:
        """Exchange residues back for digits."""
        units = sorted(residues)
        low = {}
        for b, u in units:
            n = self.heads[b][u] * z[b][u] + residues[b, u]  # BUF-002
            if self.layout == "wordlist" and n >= 2**63:  # BUF-024
                raise RevRNNError("E_RANGE", "heads", self.heads[b][u], "what had been pushed")
            low[b, u] = n % 1024
            self.heads[b][u] = n // 1024
        self._undo(units)
        return low

    def _renormalise(self, units: Units, z: Grid) -> None:
        if self.layout == "stream":
            for b, u in units:  # BUF-031
                if self.heads[b][u] >= z[b][u] * 2**21:
                    self.words.append(self.heads[b][u] % 2**16)
                    self.heads[b][u] //= 2**16
        if self.layout == "wordlist":
            spill = any(self.heads[b][u] >= 2**53 for b, u in units)
            self.flags.append(int(spill))  # BUF-021
            if spill:  # BUF-022
                plane = [[0 for _ in row] for row in self.heads]
                for b, u in units:
                    plane[b][u] = self.heads[b][u]
                    self.heads[b][u] = 0
                self.words.append(plane)

    def _undo(self, units: Units) -> None:
        if self.layout == "stream":
            for b, u in reversed(units):  # BUF-032
                if self.heads[b][u] < 2**15:
                    self.heads[b][u] = self.heads[b][u] * 2**16 + self._take(self.words, "words")
        # BUF-023
        if self.layout == "wordlist" and self._take(self.flags, "flags") == 1:
            plane = self._take(self.words, "words")
            for b, u in units:
                self.heads[b][u] = plane[b][u]

    def _take(self, stack: list[Any], name: str) -> Any:
        if not stack:
            raise RevRNNError("E_UNDERFLOW", name, "an empty stack", "no more pops than pushes")
        return stack.pop()


def revmul(h: Grid, z: Grid, mask: list[bool], sliced: int, buffer: Buffer) -> Grid:
    """Multiply ``h`` by ``z / 1024``; what is lost goes into the buffer."""
    low = {}
    for b, row in enumerate(h):
        for u, value in enumerate(row):
            if mask[b] and u >= sliced:  # MUL-004, MUL-005
                low[b, u] = value % 1024
    residues = buffer.push(low, z)
    products = [list(row) for row in h]
    for b, row in enumerate(h):
        for u, value in enumerate(row):
            if mask[b]:
                # MUL-001; a sliced unit has no residue.
                products[b][u] = value // 1024 * z[b][u] + residues.get((b, u), 0)
    return products


def revmul_inverse(
    p: Grid, z: Grid, mask: list[bool], sliced: int, buffer: Buffer, restore: Grid
) -> Grid:
    """Undo :func:`revmul`; sliced units take their values from ``restore``."""
    residues = {}
    for b, row in enumerate(p):
        for u, value in enumerate(row):
            if mask[b] and u >= sliced:
                residues[b, u] = value % z[b][u]  # MUL-003
    low = buffer.pop(residues, z)
    h = [list(row) for row in p]
    for b, row in enumerate(p):
        for u, value in enumerate(row):
            if mask[b] and u < sliced:
                h[b][u] = restore[b][u]  # MUL-005
            elif mask[b]:
                h[b][u] = wrap32(value // z[b][u] * 1024 + low[b, u])
    return h
