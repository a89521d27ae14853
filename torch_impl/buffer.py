"""The information buffer in the layouts ``stream`` and ``wordlist`` (BUF).

A store grows by blocks. A block is allocated before a chunk of steps, large enough for the most
that the chunk can push, written at positions that only the device knows, and trimmed after the
chunk; so no step waits for the host, and no block is ever copied to grow. Reversal takes the same
blocks, last first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import HEAD_START


def fresh_heads(layout: str, rows: int, units: int, device: torch.device | str | None) -> Tensor:
    """Return fresh heads ``[B, G]``: int32 for stream (BUF-030), int64 for wordlist (BUF-020)."""
    if layout == "stream":
        return torch.full((rows, units), HEAD_START, dtype=torch.int32, device=device)
    return torch.zeros((rows, units), dtype=torch.int64, device=device)


def push_digits(head: Tensor, low: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residue and the new head of BUF-001, in int32 throughout (BUF-034)."""
    q = torch.div(head, z, rounding_mode="floor")
    m = ((head - q * z) << 10) + low
    e = torch.div(m, z, rounding_mode="floor")
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

    def __init__(self, config: Config, heads: Tensor, keep: bool) -> None:
        """Start from heads and an empty store; without ``keep`` words are dropped (SEQ-010)."""
        self.config = config
        self.heads = heads
        self.keep = keep
        self.lowest_top = torch.zeros(1, dtype=torch.int64, device=heads.device)
        self.left_over = torch.zeros(1, dtype=torch.int64, device=heads.device)

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
        """Trim the block to what was pushed; this waits for the device."""

    @abstractmethod
    def reopen_block(self) -> None:
        """Take the last block up again, to pop from it."""

    @abstractmethod
    def finish_block(self) -> None:
        """Let go of a block that was popped, noting what was left in it."""

    @abstractmethod
    def words_count(self) -> int:
        """Return the number of words (planes) in the closed blocks."""

    @abstractmethod
    def words(self) -> Tensor:
        """Return all words, bottom to top (EVAL-006)."""

    @abstractmethod
    def flags(self) -> Tensor:
        """Return the flags, uint8 ``[F]``."""

    top: Tensor  # number of words (planes) in the open block, int64 [1]

    def check_underflow(self) -> None:
        """Raise ``E_UNDERFLOW`` if more was popped than there was (BUF-032, BUF-023)."""
        if int(self.lowest_top) < 0:
            raise RevRNNError(
                "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"
            )


class StreamBuffer(Buffer):
    """A 31-bit head a unit and one stack of 16-bit words (BUF-030)."""

    def __init__(self, config: Config, heads: Tensor, keep: bool = True) -> None:
        """Start from int32 heads in ``2^15 … 2^31−1`` and an empty stack."""
        super().__init__(config, heads, keep)
        self.blocks: list[Tensor] = []
        self.block: Tensor | None = None
        self.top = torch.zeros(1, dtype=torch.int64, device=heads.device)

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
        """Allocate for the most that so many steps can push; untouched pages cost nothing."""
        if self.keep:
            room = self.config.words_bound(steps) * self.heads.numel() + 1
            self.block = torch.empty(room, dtype=torch.int16, device=self.heads.device)
            self.top = torch.zeros_like(self.top)

    def close_block(self) -> None:
        """Keep a copy of the words pushed and free the block."""
        if self.block is not None:
            self.blocks.append(self.block[: int(self.top)].clone())
            self.block = None

    def reopen_block(self) -> None:
        """Take the last block to pop from."""
        block = self.blocks.pop()
        self.top = torch.full_like(self.top, len(block))
        self.block = block if len(block) else block.new_zeros(1)

    def finish_block(self) -> None:
        """Note how many words were left and free the block."""
        self.left_over = self.left_over + self.top.abs()
        self.block = None

    def words_count(self) -> int:
        """Return the number of words."""
        return sum(len(block) for block in self.blocks)

    def words(self) -> Tensor:
        """Return the words as int16 bit patterns ``[W]``."""
        return torch.cat(
            [*self.blocks, torch.zeros(0, dtype=torch.int16, device=self.heads.device)]
        )

    def flags(self) -> Tensor:
        """Return no flags."""
        return torch.zeros(0, dtype=torch.uint8)


class WordlistBuffer(Buffer):
    """The paper's list of 64-bit words (BUF-020)."""

    def __init__(self, config: Config, heads: Tensor, keep: bool = True) -> None:
        """Start from int64 heads and an empty list."""
        super().__init__(config, heads, keep)
        self.blocks: list[tuple[Tensor, Tensor]] = []
        self.planes: Tensor | None = None
        self.block_flags: list[Tensor] = []
        self.top = torch.zeros(1, dtype=torch.int64, device=heads.device)
        self.too_wide = torch.zeros((), dtype=torch.bool, device=heads.device)

    def push(self, low: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Spill if any active head is full, then exchange digits (BUF-021, BUF-022, BUF-001)."""
        full = self.heads >= 2**53
        if active is not None:
            full = full & active
        spill = full.any()
        x = self.heads if active is None else torch.where(active, self.heads, 0)
        if self.planes is not None:
            # Written in any case; it counts only if the top moves on.
            self.planes.index_copy_(0, self.top, x.unsqueeze(0))
            self.top = self.top + spill
            self.block_flags.append(spill)
        n = torch.where(spill, 0, x) * 1024 + low
        new = torch.div(n, z, rounding_mode="floor")
        residue = (n - new * z).to(torch.int32)
        self.heads = new if active is None else torch.where(active, new, self.heads)
        return residue

    def pop(self, residue: Tensor, z: Tensor, active: Tensor | None) -> Tensor:
        """Exchange digits back, then take back what was spilled (BUF-002, BUF-023)."""
        assert self.planes is not None
        # BUF-024
        wide = self.heads > torch.div(2**63 - 1 - residue.to(torch.int64), z, rounding_mode="floor")
        if active is not None:
            wide = wide & active
        # What comes after an underflow means nothing (ERR-002).
        self.too_wide = self.too_wide | (wide.any() & (self.lowest_top >= 0).all())
        n = self.heads * z + residue
        old = n >> 10
        if self.block_flags:
            spill = self.block_flags.pop()
            self.top = self.top - spill.to(torch.int64)
        else:
            spill = self.top.new_zeros((), dtype=torch.bool)
            self.top = torch.full_like(self.top, -1)
        plane = self.planes.index_select(0, self.top.clamp(0, len(self.planes) - 1))[0]
        old = torch.where(spill, plane, old)
        self.lowest_top = torch.minimum(self.lowest_top, self.top)
        self.heads = old if active is None else torch.where(active, old, self.heads)
        return (n & 1023).to(torch.int32)

    def open_block(self, steps: int) -> None:
        """Allocate for the most planes that so many steps can spill."""
        if self.keep:
            room = (self.config.planes_bound(steps) + 1, *self.heads.shape)
            self.planes = torch.empty(room, dtype=torch.int64, device=self.heads.device)
            self.top = torch.zeros_like(self.top)
            self.block_flags = []

    def close_block(self) -> None:
        """Keep a copy of the planes spilled and free the block."""
        if self.planes is not None:
            flags = [flag.view(1) for flag in self.block_flags]
            empty = torch.zeros(0, dtype=torch.bool, device=self.heads.device)
            self.blocks.append((self.planes[: int(self.top)].clone(), torch.cat([*flags, empty])))
            self.planes = None

    def reopen_block(self) -> None:
        """Take the last block to pop from."""
        planes, flags = self.blocks.pop()
        self.top = torch.full_like(self.top, len(planes))
        self.planes = planes if len(planes) else planes.new_zeros((1, *self.heads.shape))
        self.block_flags = list(flags)

    def finish_block(self) -> None:
        """Note how many planes and flags were left and free the block."""
        self.left_over = self.left_over + self.top.abs() + len(self.block_flags)
        self.planes = None

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
        return torch.cat(
            [*(planes for planes, _ in self.blocks), self.heads.new_zeros((0, *self.heads.shape))]
        )

    def flags(self) -> Tensor:
        """Return the flags."""
        empty = torch.zeros(0, dtype=torch.bool, device=self.heads.device)
        return torch.cat([*(flags for _, flags in self.blocks), empty]).to(torch.uint8)


def make_buffer(config: Config, heads: Tensor | None, keep: bool = True) -> Buffer | None:
    """Return the buffer of a stack, or ``None`` without forgetting."""
    if heads is None:
        return None
    kinds = {"stream": StreamBuffer, "wordlist": WordlistBuffer}
    if config.buffer not in kinds:
        raise RevRNNError(
            "E_UNSUPPORTED", "buffer", repr(config.buffer), "'stream', 'wordlist'"
        )  # BUF-037
    return kinds[config.buffer](config, heads.clone(), keep)
