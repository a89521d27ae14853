"""The information buffer in the layouts ``stream`` and ``wordlist`` (BUF).

Words lie in :class:`~.blocks.Blocks`, one block for each chunk of steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError, shown
from revrnn.formats import HEAD_START

from .blocks import Blocks
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
        block: int16 words; the last place takes what is written for units without a word.
            ``None`` drops all words.
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

    stored: Blocks  # words of ``stream``, planes of ``wordlist``
    parts: list[Blocks]  # all that is pushed to

    def __init__(
        self, config: Config, heads: Tensor, keep: bool = True, offload: bool = False
    ) -> None:
        """Start from heads and an empty store.

        Args:
            config: the stack.
            heads: ``[B, G]``.
            keep: whether words are kept; else they are dropped (SEQ-010).
            offload: whether closed blocks go to the host's memory.
        """
        self.config, self.heads, self.keep, self.offload = config, heads, keep, offload
        self.lowest_top = torch.zeros(1, dtype=torch.int64, device=heads.device)
        self.left_over = torch.zeros_like(self.lowest_top)

    @abstractmethod
    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take digits of active units, give residues (BUF-005, BUF-001)."""

    @abstractmethod
    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take residues of active units back, give digits (BUF-005, BUF-002)."""

    @abstractmethod
    def room(self, steps: int) -> int:
        """Return the most that so many steps can push to each part (BUF-035)."""

    def load(self, words: Tensor, flags: Tensor) -> None:
        """Make words and flags the only block (EVAL-006)."""
        self.stored.closed = [words]

    def words(self) -> Tensor:
        """Return words int16 ``[W]`` as bit patterns, or planes int64 ``[P, B, G]`` (EVAL-006)."""
        return self.stored.entries()

    def flags(self) -> Tensor:
        """Return the flags, uint8 ``[F]``; ``stream`` has none."""
        return torch.zeros(0, dtype=torch.uint8, device="cpu")

    def open_block(self, steps: int) -> None:
        """Make room for all that so many steps can push (BUF-035)."""
        if self.keep:
            for blocks in self.parts:
                blocks.begin(self.room(steps))

    def close_block(self) -> None:
        """Keep a copy of what was pushed; this waits for the device."""
        for blocks in self.parts:
            blocks.close(self.offload)

    def reopen_block(self) -> None:
        """Open the last block again, to pop from it."""
        for blocks in self.parts:
            blocks.reopen()

    def finish_block(self) -> None:
        """Count what is left in a block that was popped."""
        for blocks in self.parts:
            self.left_over = self.left_over + blocks.top.abs()

    def block_bytes(self) -> int:
        """Return the bytes of the closed blocks."""
        closed = [block for blocks in self.parts for block in blocks.closed]
        return sum(block.numel() * block.element_size() for block in closed)

    def check_underflow(self) -> None:
        """Raise ``E_UNDERFLOW`` if more was popped than there was (BUF-032, BUF-023)."""
        if int(self.lowest_top) < 0:
            allowed = "a store that was pushed to"
            raise RevRNNError("E_UNDERFLOW", "words", "an empty store", allowed)


class StreamBuffer(Buffer):
    """A 31-bit head a unit and one stack of 16-bit words (BUF-030)."""

    def __init__(
        self, config: Config, heads: Tensor, keep: bool = True, offload: bool = False
    ) -> None:
        """Start from int32 heads in ``2^15 … 2^31−1`` and an empty stack."""
        super().__init__(config, heads, keep, offload)
        self.stored = Blocks(heads, (), torch.int16)
        self.parts = [self.stored]

    def room(self, steps: int) -> int:
        """Return the most words that so many steps can push (BUF-035)."""
        return self.config.words_bound(steps) * self.heads.numel()

    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take digits, give residues."""
        words = self.stored
        residue, self.heads, words.top = stream_push(
            self.heads, low, z, active, words.open, words.top
        )
        return residue

    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Take residues, give digits."""
        words = self.stored
        assert words.open is not None
        low, self.heads, words.top = stream_pop(
            self.heads, residue, z, active, words.open, words.top
        )
        self.lowest_top = torch.minimum(self.lowest_top, words.top)
        return low


class WordlistBuffer(Buffer):
    """The paper's list of 64-bit words (BUF-020)."""

    def __init__(
        self, config: Config, heads: Tensor, keep: bool = True, offload: bool = False
    ) -> None:
        """Start from int64 heads and an empty list."""
        super().__init__(config, heads, keep, offload)
        self.stored = Blocks(heads, tuple(heads.shape), torch.int64)
        self.spills = Blocks(heads, (), torch.bool)
        self.parts = [self.stored, self.spills]
        self.too_wide = torch.zeros((), dtype=torch.bool, device=heads.device)

    def room(self, steps: int) -> int:
        """Return the most planes, and flags: every operation may spill, for some row or unit."""
        return steps * self.config.operations_per_step

    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Spill if any active head is full, then exchange digits (BUF-021, BUF-022, BUF-001)."""
        full = self.heads >= 2**53
        if active is not None:
            full = full & active
        spill = full.any()
        x = self.heads if active is None else torch.where(active, self.heads, 0)
        planes, spills = self.stored, self.spills
        if planes.open is not None and spills.open is not None:
            # Written in any case; it counts only if the top moves on.
            planes.open.index_copy_(0, planes.top, x.unsqueeze(0))
            spills.open.index_copy_(0, spills.top, spill.view(1))
            planes.top = planes.top + spill
            spills.top = spills.top + 1
        n = torch.where(spill, 0, x) * 1024 + low
        new = torch.div(n, z, rounding_mode="floor")
        residue = (n - new * z).to(torch.int32)
        self.heads = new if active is None else torch.where(active, new, self.heads)
        return residue

    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Exchange digits back, then take back what was spilled (BUF-002, BUF-023)."""
        planes, spills = self.stored, self.spills
        assert planes.open is not None
        assert spills.open is not None
        # BUF-024
        wide = self.heads > torch.div(2**63 - 1 - residue.to(torch.int64), z, rounding_mode="floor")
        if active is not None:
            wide = wide & active
        # What comes after an underflow means nothing (ERR-002).
        self.too_wide = self.too_wide | (wide.any() & (self.lowest_top >= 0).all())
        n = self.heads * z + residue
        old = n >> 10
        spills.top = spills.top - 1
        missing = spills.top < 0
        place = spills.top.clamp(0, len(spills.open) - 1)
        spill = spills.open.index_select(0, place) & ~missing
        planes.top = torch.where(missing, -1, planes.top - spill.to(torch.int64))
        place = planes.top.clamp(0, len(planes.open) - 1)
        old = torch.where(spill, planes.open.index_select(0, place)[0], old)
        self.lowest_top = torch.minimum(self.lowest_top, planes.top)
        self.heads = old if active is None else torch.where(active, old, self.heads)
        return (n & 1023).to(torch.int32)

    def load(self, words: Tensor, flags: Tensor) -> None:
        """Make planes and flags the only block."""
        super().load(words, flags)
        self.spills.closed = [flags.to(torch.bool)]

    def flags(self) -> Tensor:
        """Return the flags."""
        return self.spills.entries().to(torch.uint8)

    def check_underflow(self) -> None:
        """Raise ``E_RANGE`` (BUF-024) or ``E_UNDERFLOW`` (BUF-023)."""
        if bool(self.too_wide):
            raise RevRNNError("E_RANGE", "heads", "a product of 2^63 or more", "less than 2^63")
        super().check_underflow()


def make_buffer(
    config: Config, heads: Tensor | None, keep: bool = True, offload: bool = False
) -> Buffer | None:
    """Return the buffer of a stack, or ``None`` without forgetting."""
    if heads is None:
        return None
    kinds = {"stream": StreamBuffer, "wordlist": WordlistBuffer}
    if config.buffer not in kinds:
        raise RevRNNError(
            "E_UNSUPPORTED", "buffer", shown(config.buffer), "'stream', 'wordlist'"
        )  # BUF-037
    return kinds[config.buffer](config, heads.clone(), keep, offload)
