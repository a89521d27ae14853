"""The order of kernels over a chunk: forward, back, and on the gradient's way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from . import gradient, gru, gru_back, inputs, lstm, lstm_back, tiles, words
from .arrays import Arrays
from .constants import Constants, Mode, constants_of

Last = tuple[int, int, int]
# Of the operation undone last: its number (−1 for none), step and sliced units.
NONE: Last = (-1, 0, 0)


class Launcher:
    """Launches kernels over some arrays, one a phase.

    Attributes:
        captured: whether there are so many launches that they become a graph.
    """

    captured = True

    def __init__(self, arrays: Arrays, mode: Mode) -> None:
        """Set what all launches share."""
        self.arrays, self.mode, self.config = arrays, mode, arrays.config
        self.layers, self.gru = range(self.config.num_layers), self.config.cell == "revgru"
        self.popping = self.config.forgetting and not mode.stored
        upper = replace(constants_of(arrays, mode), FIRST=False)
        self.constants = [upper if layer else replace(upper, FIRST=True) for layer in self.layers]
        tile = arrays.tiles
        # RevLSTM's kernel of gradients loads twelve blocks at a time.
        block = min(tile.block, 64 if self.gru else 32)
        self.of_gradients = [replace(K, BK=block) for K in self.constants]
        self.options: dict[str, Any] = {"num_warps": tile.warps, "num_stages": tile.stages}
        self.rows = (arrays.batch, arrays.padded_rows)

    def input_parts(self, steps: int) -> None:
        """Compute the first layer's input parts of so many steps."""
        a = self.arrays
        m, gates = steps * a.batch, 2 * self.config.num_gates
        rows, units = (16, 16) if a.padded_units % 32 else (64, 32)
        grid = (-(-m // rows) * (a.padded_units // units), gates)
        inputs.input_part[grid](
            *(a.x, *a.input_bytes, a.bias[0], a.part, m, self.config.input_size),
            K=replace(self.constants[0], BM=rows, BN=units, BK=64),
            num_warps=4,
            num_stages=3,
        )

    def prepare(self, t: int) -> None:
        """Publish the current states, with the gains of step ``t``."""
        a = self.arrays
        tiles.prepare[a.grid, a.slots](a.pointers(0), t, *self.rows, K=self.constants[0])

    def popped(self, layer: int) -> Constants:
        """Return the constants of a layer's kernels on the way back."""
        return replace(self.constants[layer], REFILL=self.popping)

    def sliced(self, layer: int, group: int) -> int:
        """Return how many units of a group are sliced."""
        return self.config.layer_slice(layer) if group == 0 else 0

    # --- forward -----------------------------------------------------------------------------

    def steps(self, first: int, steps: int) -> None:
        """Take steps."""
        for t in range(first, first + steps):
            self.step(t)

    def step(self, t: int) -> None:
        """Take one step."""
        a, op = self.arrays, t * self.arrays.operations
        for layer in self.layers:
            for group in (0, 1):
                arguments = (a.pointers(layer), t, layer, group)
                ends: dict[str, Any] = {"K": self.constants[layer], **self.options}
                if self.gru:
                    gru.gru_gates[a.grid, 2](*arguments, *NONE, *self.rows, **ends)
                kernel = gru.gru_state if self.gru else lstm.lstm_state
                kernel[(a.grid,)](*arguments, op, self.sliced(layer, group), *self.rows, **ends)
                op += self.config.state_arrays if self.config.forgetting else 0

    def compact(self, steps: int, into: Tensor) -> None:
        """Copy the words of so many steps to their places."""
        a = self.arrays
        words.compact[(steps * a.operations * a.padded_rows,)](
            a.pointers(0), a.places, into, K=self.constants[0], num_warps=1
        )

    # --- back --------------------------------------------------------------------------------

    def steps_back(self, first: int, steps: int, last: Last) -> Last:
        """Take steps back, as :meth:`step_back` takes one."""
        for t in reversed(range(first, first + steps)):
            last = self.step_back(t, last)
        return last

    def step_back(self, t: int, last: Last) -> Last:
        """Take one step back.

        Args:
            t: the step.
            last: the operation that was undone last, whose heads may still lack words.

        Returns:
            The same for what was undone here.
        """
        a, op = self.arrays, (t + 1) * self.arrays.operations
        rows = (*self.rows, a.steps)
        for layer in reversed(self.layers):
            K = self.popped(layer)
            ends: dict[str, Any] = {"K": K, **self.options}
            for group in (1, 0):
                depth = self.sliced(layer, group)
                op -= self.config.state_arrays if self.config.forgetting else 0
                arguments = (a.pointers(layer, back=True), t, layer, group)
                if self.gru:
                    gru.gru_gates[a.grid, 2](*arguments, *last, *self.rows, **ends)
                    gru_back.gru_unstate[(a.grid,)](*arguments, op, depth, *rows, **ends)
                    last = (op, t, depth) if self.popping else last
                    continue
                lstm_back.lstm_unhide[(a.grid,)](*arguments, op, depth, *last[:2], *rows, **ends)
                if self.config.forgetting:
                    lstm_back.lstm_uncell[(a.grid,)](
                        *arguments, op, depth, *rows, K=K, num_warps=a.tiles.warps
                    )
                    last = (op, t, 0) if self.popping else last
        return last

    def refill(self, last: Last) -> None:
        """Give the heads of the last operation that was undone their words."""
        a = self.arrays
        if last[0] >= 0:
            words.refill[(a.grid,)](a.pointers(0), *last, *self.rows, K=self.constants[0])

    # --- gradients ---------------------------------------------------------------------------

    def pull_steps(self, first: int, steps: int, now: int, given: bool) -> int:
        """Carry the gradients over steps; return which copy of them counts then."""
        for t in reversed(range(first, first + steps)):
            self.pull_step(t, now, given)
            now = now if self.gru else 1 - now
        return now

    def pull_step(self, t: int, now: int, given: bool) -> None:
        """Carry the gradients over one step.

        Args:
            t: the step.
            now: the current copy of ``dh`` and ``dc``; RevLSTM's kernels write the other one.
            given: whether there are gradients of the outputs.
        """
        a, rows = self.arrays, (*self.rows, self.arrays.steps)
        if given:
            K = self.of_gradients[0]
            gradient.add_outputs[a.grid, 2](a.pointers(0), t, now, *self.rows, K=K)
        for layer in reversed(self.layers):
            K = self.of_gradients[layer]
            ends: dict[str, Any] = {"K": K, "num_warps": a.tiles.warps, "num_stages": 2}
            pointers = a.pointers(layer, back=True)
            for group in (1, 0):
                arguments = (pointers, t, layer, group)
                if self.gru:
                    gradient.gru_to_u[(a.grid,)](*arguments, *rows, **ends)
                    gradient.gru_to_view[(a.grid,)](*arguments, *rows, **ends)
                else:
                    gradient.lstm_back[(a.grid,)](*arguments, now, *rows, **ends)
            if layer:
                gradient.to_layer_below[a.grid, 2](pointers, t, layer, now, *rows, **ends)
