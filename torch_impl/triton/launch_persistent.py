"""Launches of many steps at once, where all programs fit on the device together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from revrnn.config import Config

from ...gpu import persistent
from ...gpu.order import Last
from ...gpu.sizes import Tiles, interpreted, up
from . import support
from .launch import Launcher


def programs_of(config: Config, batch: int, tiles: Tiles) -> int:
    """Return how many programs a launch has: a tile each, and RevGRU's largest phase has two."""
    padded = up(config.group_size, max(tiles.units, tiles.block))
    across, down = padded // tiles.units, up(batch, tiles.rows) // tiles.rows
    return across * down * (2 if config.cell == "revgru" else 1)


def tiles_together(config: Config, batch: int, device: torch.device) -> Tiles | None:
    """Return the tiles of one launch for many steps.

    A barrier among programs that do not run at the same time might never end. So this is ``None``,
    and each phase a launch, if there are more of them than surely do (``support.resident``).
    """
    tiles = Tiles.for_batch(batch)
    if config.cell == "revlstm" and not interpreted():
        tiles = replace(tiles, units=8)  # else registers spill
    fits = programs_of(config, batch, tiles) <= support.resident(device)
    return tiles if fits else None


def most_rows(config: Config, device: torch.device) -> int:
    """Return the largest batch that one launch takes many steps of; 0 for none."""
    batch = 0
    while tiles_together(config, batch + 16, device) is not None:
        batch += 16
    return batch


class PersistentLauncher(Launcher):
    """Launches that take all steps between two resets."""

    captured = False

    def _together(
        self, kernel: Any, back: bool, stages: int, *arguments: Any, **constants: Any
    ) -> None:
        a = self.arrays
        a.meeting.zero_()
        kernel[(programs_of(self.config, a.batch, a.tiles),)](
            a.pointers(0, back),
            a.pointers(len(self.layers) - 1, back),
            *arguments,
            **constants,
            num_warps=a.tiles.warps,
            num_stages=stages,
            launch_cooperative_grid=True,  # an error, rather than no end, if it did not fit
        )

    def steps(self, first: int, steps: int) -> None:
        """Take steps."""
        ends = {"K": self.constants[0], "U": self.constants[-1]}
        arguments = (first, steps, self.config.slice_size, *self.rows)
        self._together(persistent.forward, False, self.arrays.tiles.stages, *arguments, **ends)

    def steps_back(self, first: int, steps: int, last: Last) -> Last:
        """Take steps back; return the operation that was undone last."""
        ends = {"K": self.popped(0), "U": self.popped(-1)}
        rows = (*self.rows, self.arrays.steps)
        arguments = (first, steps, *last, self.config.slice_size, *rows)
        self._together(persistent.back, True, self.arrays.tiles.stages, *arguments, **ends)
        if not self.popping:
            return last
        return first * self.arrays.operations, first, self.sliced(0, 0) if self.gru else 0

    def pull_steps(self, first: int, steps: int, now: int, given: bool) -> int:
        """Carry the gradients over steps; return which copy of them counts then."""
        ends = {"K": self.of_gradients[0], "U": self.of_gradients[-1], "GIVEN": given}
        arguments = (first, steps, now, *self.rows, self.arrays.steps)
        self._together(persistent.pull, True, 2, *arguments, **ends)
        return now if self.gru else (now + steps) % 2
