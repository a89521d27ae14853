"""The order of kernels over a chunk: forward, back, and on the gradient's way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

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
        self.options = {"warps": sizes.tiles.warps, "stages": sizes.tiles.stages}
        self.rows = (sizes.batch, sizes.padded_rows)

    def launch(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        layer: int,
        *numbers: Any,
        K: Constants,
        warps: int = 4,
        stages: int = 3,
        back: bool = False,
    ) -> None:
        """Launch a kernel of all arrays.

        Args:
            kernel: in Triton.
            grid: numbers of programs.
            layer: whose weights are among the arrays.
            numbers: the kernel's arguments after the arrays.
            K: its constants.
            warps: of a program; ``stages`` of its loops.
            stages: as above.
            back: whether the tape is among the arrays.
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
        sizes, K = self.sizes, self.constants[0]
        self.launch(tiles.prepare, (sizes.grid, sizes.slots), 0, t, *self.rows, K=K)

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
            ends: dict[str, Any] = {"K": self.constants[layer], **self.options}
            for group in (0, 1):
                at = (layer, t, layer, group)
                if self.gru:
                    self.launch(gru.gru_gates, (grid, 2), *at, *NONE, *self.rows, **ends)
                kernel = gru.gru_state if self.gru else lstm.lstm_state
                depth = self.sliced(layer, group)
                self.launch(kernel, (grid,), *at, op, depth, *self.rows, **ends)
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
        rows = (*self.rows, self.sizes.steps)
        for layer in reversed(self.layers):
            K = self.popped(layer)
            ends: dict[str, Any] = {"K": K, **self.options, "back": True}
            for group in (1, 0):
                depth = self.sliced(layer, group)
                op -= self.config.state_arrays if self.config.forgetting else 0
                at = (layer, t, layer, group)
                if self.gru:
                    self.launch(gru.gru_gates, (*grid, 2), *at, *last, *self.rows, **ends)
                    self.launch(gru_back.gru_unstate, grid, *at, op, depth, *rows, **ends)
                    last = (op, t, depth) if self.popping else last
                    continue
                self.launch(lstm_back.lstm_unhide, grid, *at, op, depth, *last[:2], *rows, **ends)
                if self.config.forgetting:
                    ends_of_c = {**ends, "stages": 3}
                    self.launch(lstm_back.lstm_uncell, grid, *at, op, depth, *rows, **ends_of_c)
                    last = (op, t, 0) if self.popping else last
        return last

    def refill(self, last: Last) -> None:
        """Give the heads of the last operation that was undone their words."""
        if last is not NONE:
            grid, K = (self.sizes.grid,), self.constants[0]
            self.launch(words.refill, grid, 0, *last, *self.rows, K=K)

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
            K = self.of_gradients[0]
            self.launch(gradient.add_outputs, (grid, 2), 0, t, now, *self.rows, K=K)
        for layer in reversed(self.layers):
            K = self.of_gradients[layer]
            ends: dict[str, Any] = {"warps": self.sizes.tiles.warps, "stages": 2, "back": True}
            ends["K"] = K
            for group in (1, 0):
                at = (layer, t, layer, group)
                if self.gru:
                    self.launch(gradient.gru_to_u, (grid,), *at, *rows, **ends)
                    self.launch(gradient.gru_to_view, (grid,), *at, *rows, **ends)
                else:
                    self.launch(gradient.lstm_back, (grid,), *at, now, *rows, **ends)
            if layer:
                below = gradient.to_layer_below
                self.launch(below, (grid, 2), layer, t, layer, now, *rows, **ends)
