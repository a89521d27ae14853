"""The information buffer in the layouts ``stream`` and ``wordlist`` (BUF).

A store grows by blocks, one a chunk of steps. One working block, large enough for the most that a
chunk can push, is written at positions that only the device knows; what was pushed is copied out
after the chunk. So no step waits for the host, and nothing is ever copied to grow. Reversal takes
the same blocks, last first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import HEAD_START

from .quantise import floor_divide


def fresh_heads(layout: str, rows: int, units: int, device: torch.device | str | None) -> Tensor:
    """Return fresh heads ``[B, G]``: int32 for stream (BUF-030), int64 for wordlist (BUF-020)."""
    if layout == "stream":
        return torch.full((rows, units), HEAD_START, dtype=torch.int32, device=device)
    return torch.zeros((rows, units), dtype=torch.int64, device=device)


def push_digits(head: Tensor, low: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residue and the new head of BUF-001, in int32 throughout (BUF-034)."""
    q, rest = floor_divide(head, z)
    m = (rest << 10) + low  # below 2^20
    # A quotient that is no integer is 2^-10 from one at least; binary32 is out by 2^-14 at most.
    e = (m.to(torch.float32) / z).to(torch.int32)
    return m - e * z, (q << 10) + e


def pop_digits(head: Tensor, residue: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the digit and the old head of BUF-002."""
    n = head.to(torch.int64) * z + residue  # below 2^41
    return (n & 1023).to(torch.int32), (n >> 10).to(torch.int32)


def stream_push(
    head: Tensor, low: Tensor, z: Tensor, active: Tensor | None, block: Tensor | None, top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Push digits; write words into ``block`` from ``top`` on (BUF-031, BUF-001).

    Args:
        head: int32 ``[B, G]``.
        low: digits 0 … 1023, int32 ``[B, G]``.
        z: gates 1 … 1024, int32 ``[B, G]``.
        active: which units take part, or ``None`` for all (BUF-004).
        block: int16 words, the last place being for what nobody wants; ``None`` drops the words.
        top: number of words in the block, int64 ``[1]``.

    Returns:
        Residues, new heads, new top.
    """
    full = (head >> 21) >= z  # z * 2^21 may not fit int32
    if active is not None:
        full = full & active
    if block is not None:
        # BUF-005: row-major order is the order of the running count.
        count = torch.cumsum(full.view(-1), 0)
        place = torch.where(full.view(-1), count + (top - 1), len(block) - 1)
        block.scatter_(0, place, head.to(torch.int16).view(-1))  # the low 16 bits
        top = top + count[-1:]
    shorter = torch.where(full, head >> 16, head)
    residue, new = push_digits(shorter, low, z)  # head in [2^15, 2^31) (BUF-033)
    if active is not None:
        new = torch.where(active, new, head)
    return residue, new, top


def stream_pop(
    head: Tensor, residue: Tensor, z: Tensor, active: Tensor | None, block: Tensor, top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Undo :func:`stream_push` (BUF-002, BUF-032); a top below 0 means underflow.

    Returns:
        Digits, old heads, new top.
    """
    low, old = pop_digits(head, residue, z)
    short = old < 2**15
    if active is not None:
        short = short & active
    count = torch.cumsum(short.view(-1), 0)
    top = top - count[-1:]
    place = (count + (top - 1)).clamp_(0, len(block) - 1)
    words = block.index_select(0, place).view(head.shape).to(torch.int32) & 0xFFFF
    old = torch.where(short, (old << 16) | words, old)
    if active is not None:
        old = torch.where(active, old, head)
    return low, old, top


class Buffer(ABC):
    """Heads ``[B, G]`` and a store shared by all units; ``pop`` undoes ``push`` (BUF-003)."""

    top: Tensor  # number of words (planes) in the open block, int64 [1]

    def __init__(self, config: Config, heads: Tensor, keep: bool, offload: bool) -> None:
        """Start from heads and an empty store.

        Args:
            config: the stack.
            heads: ``[B, G]``.
            keep: whether words are kept; else they are dropped (SEQ-010).
            offload: whether closed blocks go to the host's memory.
        """
        self.config = config
        self.heads = heads
        self.keep = keep
        self.offload = offload
        self.top = torch.zeros(1, dtype=torch.int64, device=heads.device)
        self.lowest_top = torch.zeros_like(self.top)
        self.left_over = torch.zeros_like(self.top)

    @abstractmethod
    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take digits of active units, give residues (BUF-005, BUF-001)."""

    @abstractmethod
    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take residues of active units back, give digits (BUF-005, BUF-002)."""

    @abstractmethod
    def open_block(self, steps: int) -> None:
        """Make room for all that so many steps can push (BUF-035)."""

    @abstractmethod
    def close_block(self) -> None:
        """Keep a copy of what was pushed; this waits for the device."""

    @abstractmethod
    def reopen_block(self) -> None:
        """Take the last block up again, to pop from it."""

    @abstractmethod
    def finish_block(self) -> None:
        """Note what was left in a block that was popped."""

    @abstractmethod
    def words_count(self) -> int:
        """Return the number of words (planes) in the closed blocks."""

    @abstractmethod
    def words(self) -> Tensor:
        """Return all words, bottom to top (EVAL-006)."""

    @abstractmethod
    def flags(self) -> Tensor:
        """Return the flags, uint8 ``[F]``."""

    @abstractmethod
    def block_bytes(self) -> int:
        """Return the bytes of the closed blocks."""

    def check_underflow(self) -> None:
        """Raise ``E_UNDERFLOW`` if more was popped than there was (BUF-032, BUF-023)."""
        if int(self.lowest_top) < 0:
            raise RevRNNError(
                "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"
            )

    def _kept(self, block: Tensor) -> Tensor:
        """Return a copy of a full block where closed blocks are to lie."""
        return block.to("cpu", copy=True) if self.offload else block.clone()


class StreamBuffer(Buffer):
    """A 31-bit head a unit and one stack of 16-bit words (BUF-030)."""

    def __init__(
        self, config: Config, heads: Tensor, keep: bool = True, offload: bool = False
    ) -> None:
        """Start from int32 heads in ``2^15 … 2^31−1`` and an empty stack."""
        super().__init__(config, heads, keep, offload)
        self.blocks: list[Tensor] = []
        self.block: Tensor | None = None

    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take digits, give residues."""
        residue, self.heads, self.top = stream_push(
            self.heads, low, z, active, self.block, self.top
        )
        return residue

    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take residues, give digits."""
        assert self.block is not None
        low, self.heads, self.top = stream_pop(self.heads, residue, z, active, self.block, self.top)
        self.lowest_top = torch.minimum(self.lowest_top, self.top)
        return low

    def open_block(self, steps: int) -> None:
        """Make room for the most that so many steps can push; untouched pages cost nothing."""
        if self.keep:
            self._make_room(self.config.words_bound(steps) * self.heads.numel())
            self.top = torch.zeros_like(self.top)

    def _make_room(self, words: int) -> None:
        # One place more, for what nobody wants. The same block serves chunk after chunk.
        if self.block is None or len(self.block) <= words:
            self.block = torch.empty(words + 1, dtype=torch.int16, device=self.heads.device)

    def close_block(self) -> None:
        """Keep a copy of the words pushed."""
        if self.block is not None:
            self.blocks.append(self._kept(self.block[: int(self.top)]))

    def reopen_block(self) -> None:
        """Take the last block to pop from."""
        words = self.blocks.pop()
        self._make_room(len(words))
        assert self.block is not None
        self.block[: len(words)] = words
        self.top = torch.full_like(self.top, len(words))

    def finish_block(self) -> None:
        """Note how many words were left."""
        self.left_over = self.left_over + self.top.abs()

    def words_count(self) -> int:
        """Return the number of words."""
        return sum(len(block) for block in self.blocks)

    def words(self) -> Tensor:
        """Return the words as int16 bit patterns ``[W]``."""
        blocks = [block.to(self.heads.device) for block in self.blocks]
        return torch.cat([*blocks, torch.zeros(0, dtype=torch.int16, device=self.heads.device)])

    def flags(self) -> Tensor:
        """Return no flags."""
        return torch.zeros(0, dtype=torch.uint8)

    def block_bytes(self) -> int:
        """Return two bytes a word."""
        return 2 * self.words_count()


class WordlistBuffer(Buffer):
    """The paper's list of 64-bit words (BUF-020)."""

    def __init__(
        self, config: Config, heads: Tensor, keep: bool = True, offload: bool = False
    ) -> None:
        """Start from int64 heads and an empty list."""
        super().__init__(config, heads, keep, offload)
        self.blocks: list[tuple[Tensor, Tensor]] = []
        self.planes: Tensor | None = None
        self.spills: Tensor | None = None
        self.flags_top = torch.zeros_like(self.top)
        self.too_wide = torch.zeros((), dtype=torch.bool, device=heads.device)

    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Spill if any active head is full, then exchange digits (BUF-021, BUF-022, BUF-001)."""
        full = self.heads >= 2**53
        if active is not None:
            full = full & active
        spill = full.any()
        x = self.heads if active is None else torch.where(active, self.heads, 0)
        if self.planes is not None and self.spills is not None:
            # Written in any case; it counts only if the top moves on.
            self.planes.index_copy_(0, self.top, x.unsqueeze(0))
            self.spills.index_copy_(0, self.flags_top, spill.view(1))
            self.top = self.top + spill
            self.flags_top = self.flags_top + 1
        n = torch.where(spill, 0, x) * 1024 + low
        new = torch.div(n, z, rounding_mode="floor")
        residue = (n - new * z).to(torch.int32)
        self.heads = new if active is None else torch.where(active, new, self.heads)
        return residue

    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Exchange digits back, then take back what was spilled (BUF-002, BUF-023)."""
        assert self.planes is not None
        assert self.spills is not None
        # BUF-024
        wide = self.heads > torch.div(2**63 - 1 - residue.to(torch.int64), z, rounding_mode="floor")
        if active is not None:
            wide = wide & active
        # What comes after an underflow means nothing (ERR-002).
        self.too_wide = self.too_wide | (wide.any() & (self.lowest_top >= 0).all())
        n = self.heads * z + residue
        old = n >> 10
        self.flags_top = self.flags_top - 1
        missing = self.flags_top < 0
        place = self.flags_top.clamp(0, len(self.spills) - 1)
        spill = self.spills.index_select(0, place) & ~missing
        self.top = torch.where(missing, -1, self.top - spill.to(torch.int64))
        plane = self.planes.index_select(0, self.top.clamp(0, len(self.planes) - 1))[0]
        old = torch.where(spill, plane, old)
        self.lowest_top = torch.minimum(self.lowest_top, self.top)
        self.heads = old if active is None else torch.where(active, old, self.heads)
        return (n & 1023).to(torch.int32)

    def open_block(self, steps: int) -> None:
        """Make room for the most planes that so many steps can spill.

        Rows and units that are active at different times spill at different times, so that every
        operation may; untouched pages cost nothing.
        """
        if self.keep:
            operations = steps * self.config.operations_per_step
            self._make_room(operations, operations)
            self.top = torch.zeros_like(self.top)
            self.flags_top = torch.zeros_like(self.top)

    def _make_room(self, planes: int, operations: int) -> None:
        device = self.heads.device
        if self.planes is None or len(self.planes) <= planes:
            shape = (planes + 1, *self.heads.shape)
            self.planes = torch.empty(shape, dtype=torch.int64, device=device)
        if self.spills is None or len(self.spills) <= operations:
            self.spills = torch.empty(operations + 1, dtype=torch.bool, device=device)

    def close_block(self) -> None:
        """Keep a copy of the planes spilled."""
        if self.planes is not None and self.spills is not None:
            tops = torch.cat([self.top, self.flags_top]).clamp(min=0).tolist()
            planes, flags = self.planes[: tops[0]], self.spills[: tops[1]]
            self.blocks.append((self._kept(planes), self._kept(flags)))

    def reopen_block(self) -> None:
        """Take the last block to pop from."""
        planes, flags = self.blocks.pop()
        self._make_room(len(planes), len(flags))
        assert self.planes is not None
        assert self.spills is not None
        self.planes[: len(planes)] = planes
        self.spills[: len(flags)] = flags
        self.top = torch.full_like(self.top, len(planes))
        self.flags_top = torch.full_like(self.top, len(flags))

    def finish_block(self) -> None:
        """Note how many planes and flags were left."""
        self.left_over = self.left_over + self.top.abs() + self.flags_top.abs()

    def check_underflow(self) -> None:
        """Raise ``E_RANGE`` (BUF-024) or ``E_UNDERFLOW`` (BUF-023)."""
        if bool(self.too_wide):
            raise RevRNNError("E_RANGE", "heads", "a product of 2^63 or more", "less than 2^63")
        super().check_underflow()

    def words_count(self) -> int:
        """Return the number of planes."""
        return sum(len(planes) for planes, _ in self.blocks)

    def words(self) -> Tensor:
        """Return the planes, int64 ``[P, B, G]``."""
        planes = [planes.to(self.heads.device) for planes, _ in self.blocks]
        return torch.cat([*planes, self.heads.new_zeros((0, *self.heads.shape))])

    def flags(self) -> Tensor:
        """Return the flags."""
        empty = torch.zeros(0, dtype=torch.bool, device=self.heads.device)
        flags = [flags.to(self.heads.device) for _, flags in self.blocks]
        return torch.cat([*flags, empty]).to(torch.uint8)

    def block_bytes(self) -> int:
        """Return eight bytes an element of a plane and one a flag."""
        return 8 * self.heads.numel() * self.words_count() + sum(len(f) for _, f in self.blocks)


def make_buffer(
    config: Config, heads: Tensor | None, keep: bool = True, offload: bool = False
) -> Buffer | None:
    """Return the buffer of a stack, or ``None`` without forgetting."""
    if heads is None:
        return None
    kinds = {"stream": StreamBuffer, "wordlist": WordlistBuffer}
    if config.buffer not in kinds:
        raise RevRNNError(
            "E_UNSUPPORTED", "buffer", repr(config.buffer), "'stream', 'wordlist'"
        )  # BUF-037
    return kinds[config.buffer](config, heads.clone(), keep, offload)
