"""The order of kernels over a chunk: forward, back, and on the gradient's way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

from . import gradient, gru, gru_back, lstm, lstm_back, tiles, words
from .constants import Constants, Mode, constants_of
from .sizes import Sizes

# The arrays that each kernel changes, at most (by their names in ``Pointers``, or its own).
_PUBLISHED = ("h", "high", "low")
_PUSHED = (*_PUBLISHED, "heads", "stage", "counts", "outputs", "wraps", "past_h")
_POPPED = (*_PUBLISHED, "heads", "counts", "outputs", "tape", "lower")
_REFILLED = ("heads", "tops")
WRITES: Final[dict[str, tuple[str, ...]]] = {
    "input_part": ("part",),
    "prepare": _PUBLISHED,
    "gru_gates": ("sigmas", "aside", "high", "low", *_REFILLED),
    "gru_state": _PUSHED,
    "lstm_state": (*_PUSHED, "c", "past_c"),
    "compact": ("into",),
    "gru_unstate": _POPPED,
    "lstm_unhide": (*_POPPED, "c", "tops", "sigmas", "aside"),
    "lstm_uncell": ("c", "heads", "tops", "counts", "tape"),
    "refill": _REFILLED,
    "add_outputs": ("dh",),
    "gru_to_u": ("ds", "through"),
    "gru_to_view": ("dh",),
    "lstm_back": ("dh", "dc", "ds"),
    "to_layer_below": ("dh",),
}


class How(NamedTuple):
    """How a kernel of all arrays is launched.

    Attributes:
        K: its constants.
        warps: of a program.
        stages: of its loops.
        back: whether the tape is among the arrays.
    """

    K: Constants
    warps: int = 4
    stages: int = 3
    back: bool = False


Last = tuple[Any, Any, Any]
# Of the operation undone last: its number (−1 for none), step and sliced units.
NONE: Last = (-1, 0, 0)


class Order:
    """Launches kernels over some arrays, one a phase; how is a framework's own (:meth:`launch`).

    Steps, and what follows from them, may be numbers or whatever stands for one.
    """

    def __init__(self, sizes: Sizes, mode: Mode) -> None:
        """Set what all launches share."""
        self.sizes, self.mode, self.config = sizes, mode, sizes.config
        self.layers, self.gru = range(self.config.num_layers), self.config.cell == "revgru"
        self.popping = self.config.forgetting and not mode.stored
        upper = replace(constants_of(sizes, mode), FIRST=False)
        self.constants = [upper if layer else replace(upper, FIRST=True) for layer in self.layers]
        # RevLSTM's kernel of gradients loads twelve blocks at a time.
        block = min(sizes.tiles.block, 64 if self.gru else 32)
        self.of_gradients = [replace(K, BK=block) for K in self.constants]
        self.rows = (sizes.batch, sizes.padded_rows)

    def launch(
        self, kernel: Any, grid: tuple[int, ...], layer: int, *numbers: Any, how: How
    ) -> None:
        """Launch a kernel of all arrays.

        Args:
            kernel: in Triton.
            grid: numbers of programs.
            layer: whose weights are among the arrays.
            numbers: the kernel's arguments after the arrays.
            how: what else it is compiled and launched with.
        """
        raise NotImplementedError

    def input_cut(self, steps: int) -> tuple[tuple[int, int], Constants]:
        """Return programs and constants of the kernel of so many steps' input parts."""
        sizes, K = self.sizes, self.constants[0]
        rows, units = (16, 16) if sizes.padded_units % 32 else (64, 32)
        across = -(-steps * sizes.batch // rows) * (sizes.padded_units // units)
        return (across, 2 * self.config.num_gates), replace(K, BM=rows, BN=units, BK=64)

    def prepare(self, t: Any) -> None:
        """Publish the current states, with the gains of step ``t``."""
        sizes, how = self.sizes, How(self.constants[0])
        self.launch(tiles.prepare, (sizes.grid, sizes.slots), 0, t, *self.rows, how=how)

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

    def step(self, t: Any) -> None:
        """Take one step."""
        grid, op = self.sizes.grid, t * self.sizes.operations
        for layer in self.layers:
            how = How(self.constants[layer], self.sizes.tiles.warps, self.sizes.tiles.stages)
            for group in (0, 1):
                at = (layer, t, layer, group)
                if self.gru:
                    self.launch(gru.gru_gates, (grid, 2), *at, *NONE, *self.rows, how=how)
                kernel = gru.gru_state if self.gru else lstm.lstm_state
                depth = self.sliced(layer, group)
                self.launch(kernel, (grid,), *at, op, depth, *self.rows, how=how)
                op += self.config.state_arrays if self.config.forgetting else 0

    # --- back --------------------------------------------------------------------------------

    def steps_back(self, first: int, steps: int, last: Last) -> Last:
        """Take steps back, as :meth:`step_back` takes one."""
        for t in reversed(range(first, first + steps)):
            last = self.step_back(t, last)
        return last

    def step_back(self, t: Any, last: Last) -> Last:
        """Take one step back.

        Args:
            t: the step.
            last: the operation that was undone last, whose heads may still lack words.

        Returns:
            The same for what was undone here.
        """
        grid, op = (self.sizes.grid,), (t + 1) * self.sizes.operations
        rows, cut = (*self.rows, self.sizes.steps), self.sizes.tiles
        for layer in reversed(self.layers):
            how = How(self.popped(layer), cut.warps, cut.stages, back=True)
            for group in (1, 0):
                depth = self.sliced(layer, group)
                op -= self.config.state_arrays if self.config.forgetting else 0
                at = (layer, t, layer, group)
                if self.gru:
                    self.launch(gru.gru_gates, (*grid, 2), *at, *last, *self.rows, how=how)
                    self.launch(gru_back.gru_unstate, grid, *at, op, depth, *rows, how=how)
                    last = (op, t, depth) if self.popping else last
                    continue
                self.launch(lstm_back.lstm_unhide, grid, *at, op, depth, *last[:2], *rows, how=how)
                if self.config.forgetting:
                    of_c = how._replace(stages=3)
                    self.launch(lstm_back.lstm_uncell, grid, *at, op, depth, *rows, how=of_c)
                    last = (op, t, 0) if self.popping else last
        return last

    def refill(self, last: Last) -> None:
        """Give the heads of the last operation that was undone their words."""
        if last is not NONE:
            grid, how = (self.sizes.grid,), How(self.constants[0])
            self.launch(words.refill, grid, 0, *last, *self.rows, how=how)

    # --- gradients ---------------------------------------------------------------------------

    def pull_steps(self, first: int, steps: int, now: int, given: bool) -> int:
        """Carry the gradients over steps; return which copy of them counts then."""
        for t in reversed(range(first, first + steps)):
            self.pull_step(t, now, given)
            now = now if self.gru else 1 - now
        return now

    def pull_step(self, t: Any, now: Any, given: bool) -> None:
        """Carry the gradients over one step.

        Args:
            t: the step.
            now: the current copy of ``dh`` and ``dc``; RevLSTM's kernels write the other one.
            given: whether there are gradients of the outputs.
        """
        grid, rows = self.sizes.grid, (*self.rows, self.sizes.steps)
        if given:
            how = How(self.of_gradients[0])
            self.launch(gradient.add_outputs, (grid, 2), 0, t, now, *self.rows, how=how)
        for layer in reversed(self.layers):
            how = How(self.of_gradients[layer], self.sizes.tiles.warps, stages=2, back=True)
            for group in (1, 0):
                at = (layer, t, layer, group)
                if self.gru:
                    self.launch(gradient.gru_to_u, (grid,), *at, *rows, how=how)
                    self.launch(gradient.gru_to_view, (grid,), *at, *rows, how=how)
                else:
                    self.launch(gradient.lstm_back, (grid,), *at, now, *rows, how=how)
            if layer:
                below = gradient.to_layer_below
                self.launch(below, (grid, 2), layer, t, layer, now, *rows, how=how)
