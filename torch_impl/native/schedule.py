"""What a chunk is given besides states: its inputs, and what the schedule has for its steps."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from revrnn.config import Config

from ...native.compiling import Array
from ..conversions import as_array
from ..sequence import Schedule


class Scheduled:
    """The schedule of a sequence as compiled calls take it, chunk by chunk."""

    def __init__(self, config: Config, schedule: Schedule, batch: int) -> None:
        """Take the schedule of a batch of so many rows."""
        self.config, self.schedule, self.batch = config, schedule, batch
        # Without these all chunks of a length have the same schedule.
        self._even = schedule.mask is None and schedule.resets is None and schedule.gains is None
        self._known: dict[int, tuple[Array, Array, Array]] = {}

    def __call__(self, first: int, steps: int, backwards: bool) -> tuple[Array, Array, Array]:
        """Return which rows are active, where rows that start anew go, and gains.

        Args:
            first: number of the chunk's first step.
            steps: how many it has, ``C``.
            backwards: in which order gains are asked for.

        Returns:
            uint8 ``[C, B]``; int32 ``[C, B]``, -1 where a row goes on, or ``[0, B]`` if all do;
            int32 ``[C, L-1, B, H]``, or ``[0, L-1, B, H]`` without dropout.
        """
        given = self._known.get(steps)
        if given is None:
            gains = self._gains(first, steps, backwards)
            given = self._active(first, steps), self._aside_at(first, steps), gains
            if self._even:
                self._known[steps] = given
        return given

    def _active(self, first: int, steps: int) -> Array:
        active = np.ones((steps, self.batch), np.uint8)
        if self.schedule.mask is not None:
            active[:] = as_array(self.schedule.mask[first : first + steps])
        return active

    def _aside_at(self, first: int, steps: int) -> Array:
        resets = [self.schedule.reset(t) for t in range(first, first + steps)]
        length, total = steps if any(r is not None for r in resets) else 0, 0
        aside_at = np.full((length, self.batch), -1, np.int32)
        for t, rows in enumerate(resets):
            if rows is not None:
                aside_at[t, rows.numpy()] = np.arange(total, total + len(rows))
                total += len(rows)
        return aside_at

    def _gains(self, first: int, steps: int, backwards: bool) -> Array:
        config, schedule = self.config, self.schedule
        if schedule.gains is None or not steps:
            return np.empty((0, config.num_layers - 1, self.batch, config.hidden_size), np.int32)
        # In the order in which a step is met, as a function that draws may expect.
        order = reversed(range(steps)) if backwards else range(steps)
        some = {t: schedule.gain(first + t) for t in order}
        gains = np.stack([np.asarray(some[t]) for t in range(steps)])
        return np.ascontiguousarray(gains.astype(np.int32, copy=False))


def operands(x: Tensor) -> Array:
    """Return operands int16 ``[C, B, I]``, I made even by zeros."""
    whole = x.numpy()
    if whole.shape[2] % 2:
        whole = np.concatenate([whole, np.zeros((*whole.shape[:2], 1), np.int16)], 2)
    return np.ascontiguousarray(whole)
