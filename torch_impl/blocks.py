"""The memory of a buffer's store: one block of entries for each chunk of steps (BUF-035).

The open block has room for the most that a chunk can push, and is written at positions that only
the device knows; after the chunk, what was pushed is copied into a block of its own. So no step
waits for the host, and nothing is copied in order to grow. Reversal takes the same blocks, last
first.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Blocks:
    """A stack of entries in blocks, of which one is open.

    Attributes:
        closed: the full blocks, bottom to top.
        open: the open block, with one place more than it has room for; ``None`` before the first.
        top: number of entries in the open block, int64 ``[1]``.
    """

    def __init__(self, heads: Tensor, entry: tuple[int, ...], dtype: torch.dtype) -> None:
        """Start without a block.

        Args:
            heads: of the buffer, for their device.
            entry: shape of an entry.
            dtype: its type.
        """
        self.entry, self.dtype, self.device = entry, dtype, heads.device
        self.closed: list[Tensor] = []
        self.open: Tensor | None = None
        self.top = torch.zeros(1, dtype=torch.int64, device=heads.device)

    def begin(self, room: int) -> None:
        """Open an empty block; pages of memory that nothing is written to cost nothing."""
        self._make_room(room)
        self.top = torch.zeros_like(self.top)

    def _make_room(self, room: int) -> None:
        # The same memory serves chunk after chunk.
        if self.open is None or len(self.open) <= room:
            shape = (room + 1, *self.entry)
            self.open = torch.empty(shape, dtype=self.dtype, device=self.device)

    def close(self, offload: bool) -> None:
        """Keep a copy of the entries, in the host's memory if ``offload``; wait for the device."""
        if self.open is not None:
            block = self.open[: max(int(self.top), 0)]
            self.closed.append(block.to("cpu", copy=True) if offload else block.clone())

    def reopen(self) -> None:
        """Open the last full block, to pop from it."""
        block = self.closed.pop()
        self._make_room(len(block))
        assert self.open is not None
        self.open[: len(block)] = block
        self.top = torch.full_like(self.top, len(block))

    def entries(self) -> Tensor:
        """Return the entries of the full blocks, bottom to top."""
        none = torch.zeros((0, *self.entry), dtype=self.dtype, device=self.device)
        return torch.cat([*(block.to(self.device) for block in self.closed), none])
