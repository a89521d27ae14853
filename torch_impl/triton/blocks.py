"""The words that passes keep, by chunks; their number is read while the next chunk runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .arrays import Arrays
from .launch import Launcher


class Words:
    """Blocks of words, a chunk each, bottom to top."""

    def __init__(self, offload: bool) -> None:
        """Start without any; closed blocks go to the host's memory if ``offload``."""
        self.offload = offload
        self._closed: list[Tensor] = []
        # Words, their number, and the event after which the number is known.
        self._open: tuple[Tensor, Tensor, Any] | None = None

    def push(self, arrays: Arrays, launcher: Launcher, steps: int) -> None:
        """Take the words that so many steps staged (BUF-005)."""
        self.close()
        device = arrays.device
        count = steps * arrays.operations * arrays.padded_rows * arrays.across
        counts, places = arrays.counts.view(-1)[:count], arrays.places[:count]
        torch.cumsum(counts, 0, dtype=torch.int32, out=places)
        bound = arrays.config.words_bound(steps) * arrays.batch * arrays.units
        words = torch.empty(bound, dtype=torch.int16, device=device)
        launcher.compact(steps, words)
        cuda = device.type == "cuda"
        number = torch.empty(1, dtype=torch.int32, device="cpu", pin_memory=cuda)
        number.copy_(places[-1:], non_blocking=cuda)
        event: Any = None
        if cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call,unused-ignore]
            event.record()
        self._open = words, number, event

    def close(self) -> None:
        """Cut the last block to its words."""
        if self._open is not None:
            words, number, event = self._open
            if event is not None:
                event.synchronize()
            block = words[: int(number)]
            self._closed.append(block.to("cpu", copy=True) if self.offload else block.clone())
            self._open = None

    def put_back(self, block: Tensor) -> None:
        """Take a block as the last one."""
        self.close()
        self._closed.append(block)

    def pop(self) -> Tensor:
        """Give the last block."""
        self.close()
        return self._closed.pop()

    def all(self) -> list[Tensor]:
        """Return all blocks."""
        self.close()
        return self._closed
