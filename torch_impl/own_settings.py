"""How one sequence of a module is processed, where a call says it otherwise than the module."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from .checks import check_settings, flag
from .engine import Settings
from .modules import RevRNNBase


class Own(NamedTuple):
    """Settings of a call; what is ``None`` is as the module has it."""

    chunk_size: int | None = None
    checkpoint_every: int | None = None
    offload: bool | None = None
    report: bool = False

    def settings(self, module: RevRNNBase, steps: int) -> Settings:
        """Return the checked settings of a sequence of so many steps."""
        size = module.chunk_size if self.chunk_size is None else self.chunk_size
        every = module.checkpoint_every if self.checkpoint_every is None else self.checkpoint_every
        offload = module.offload if self.offload is None else self.offload
        checked = check_settings(steps, "reversed", size, every, offload)
        every = checked.checkpoint_every
        count = flag("report", self.report)
        size = without_lone_step(steps, min(checked.chunk_size, steps))
        if every is not None and size < checked.chunk_size:
            every = max(every // size, 1) * size  # pieces no longer than asked for
        return replace(checked, chunk_size=size, checkpoint_every=every, count=count)


def without_lone_step(steps: int, size: int) -> int:
    """Return a size of chunks, at least half as large, that leaves no chunk of one step, if any.

    One step does not show a readout's reduction over steps, and layers that need several fail.
    """
    sizes = range(size, max(size // 2, 1), -1)
    return next((n for n in sizes if steps % n != 1), size)
