"""Passes of the native engine: what goes into compiled calls and comes out of them.

Calls are those of :mod:`revrnn.native.handlers`, with a frame of arguments and results as XLA's: by
number they are those of :mod:`revrnn.native.chunk_shares`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor

from revrnn.config import Config

from ...native import gru, lstm_rows
from ...native.compiling import Array
from ...native.frame_writer import Frame, begin_of
from ...native.plan import forget_scale, numbers
from ...native.tasks import CHUNK, GATES, LEFT, PUSHED, WRAPS
from ..engine import Settings, Store
from ..gradients import Gradients
from ..sequence import Schedule
from ..state import State
from .gradient import GradientPass, Tape
from .memory import Floats, keep_freed
from .rows import Kept, Rows, by_layer
from .schedule import Scheduled, operands
from .threads import call, chunk_shares
from .weights import Weights

# Numbers of arguments and results, and how many there are.
_X, _ACTIVE, _ASIDE_AT, _GAINS = 8, 9, 10, 11
_H, _C, _HEADS = 0, 1, 2
_ASIDE, _SLICES, _STATES, _SCALE = (17, 18), 20, 21, 22
_ASIDE_TO, _OUTPUTS_TO, _SLICES_TO, _STATES_TO, _BINS = (5, 6), 7, 8, 9, 10
_OUTPUTS_BACK, _FACTORS = 4, (5, 6, 7)

_COUNTS: Final = (23, 11)
_NONE: Final = np.empty((0, 0, 0), np.int32)


class NativeWork:
    """A stack ready for passes over one sequence."""

    def __init__(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> None:
        """Prepare the weights."""
        keep_freed()
        self.config, self.schedule, self.settings = config, schedule, settings
        self.weights, self.numbers = Weights(config, params), numbers(config)
        self.scale = np.full(1, forget_scale(config), np.float32)

    def start(
        self, state: State, *, keep: bool, count: bool, store: Store | None = None
    ) -> NativePass:
        """Return a pass that starts at a state."""
        return NativePass(self, state, keep, count, store)


class NativePass:
    """One way over a piece of a sequence and back."""

    def __init__(
        self, work: NativeWork, state: State, keep: bool, count: bool, store: Store | None
    ) -> None:
        """Stand at the beginning, or with ``store`` at the end of a chunk."""
        config, settings = work.config, work.settings
        self.work, self.config = work, config
        stored = settings.states == "stored"
        keeps_words = config.forgetting and ((keep and not stored) or count)
        self.batch = state.h.shape[1]
        amount = work.weights.multiplications * self.batch * settings.chunk_size
        threads = 1 if settings.in_order else chunk_shares(amount, self.batch)
        self.rows = Rows(config, state, threads, keep, stored, keeps_words)
        if store is not None:
            self.rows.load(store)
        layers, bins = config.num_layers, 1025 if count else 0
        self._gates = np.zeros((threads, layers, bins), np.int64)
        self._pushed = np.zeros((threads, layers), np.int64)
        self._wraps, self.counting = 0, count
        tasks = self.rows.tasks
        tasks[:, GATES] = _places(self._gates)
        tasks[:, PUSHED] = _places(self._pushed)
        self._scheduled = Scheduled(config, work.schedule, self.batch)
        self._frame = self._new_frame()
        self._longest = 0  # steps of the longest chunk so far
        self._tape: Tape | None = None
        self._gradient: GradientPass | None = None

    def _new_frame(self) -> Frame:
        """Return a frame for both ways, with what all chunks have: weights and states."""
        frame, work, rows = Frame(*_COUNTS), self.work, self.rows
        stack, none = work.weights.stack, np.empty((0, 0, 0), np.int16)
        w_u = none if work.weights.w_u is None else work.weights.w_u
        given = (*work.numbers, stack.w_x, stack.w_l, stack.w_h, w_u, stack.norms, stack.bias)
        for n, array in enumerate(given):
            frame.arguments[n] = array
        for n, array in ((_H, rows.h), (_C, rows.c), (_HEADS, rows.heads)):
            frame.results[n] = array
        frame.results[_BINS], frame.arguments[_SCALE] = self._gates[0], work.scale
        return frame

    @property
    def wraps(self) -> Tensor | None:
        """How often a state wrapped."""
        return torch.tensor(self._wraps, device="cpu") if self.config.can_wrap else None

    @property
    def gate_counts(self) -> Tensor | None:
        """Histograms of the gates by layer, if counted."""
        return torch.from_numpy(self._gates.sum(0)) if self.counting else None

    @property
    def pushed(self) -> Tensor | None:
        """Words that each layer pushed, if counted."""
        return torch.from_numpy(self._pushed.sum(0)) if self.counting else None

    # --- states ------------------------------------------------------------------------------

    def advance(self, x: Tensor, first: int, outputs: Tensor | None = None) -> None:
        """Take a chunk of steps."""
        rows, frame, count = self.rows, self._frame, len(x)
        self._longest = min(max(self._longest, count), self.work.settings.chunk_size)
        aside_at = self._give(x, first, backwards=False)
        anew = int(aside_at.max(initial=-1)) + 1 if aside_at.size else 0
        kept = rows.new_chunk(frame.address, count, anew)
        results = frame.results
        results[_ASIDE_TO[0]], results[_ASIDE_TO[1]] = kept.aside_h, kept.aside_c
        results[_SLICES_TO], results[_STATES_TO] = kept.slices, kept.states
        results[_OUTPUTS_TO] = _NONE if outputs is None else outputs.numpy()
        call(self.config, [("advance", rows.tasks)], len(rows.tasks))
        # Not kept until the way back: for many modules that would be as much as their words.
        del frame.arguments[_X], results[_OUTPUTS_TO]
        self._wraps += sum(rows.tasks[:, WRAPS].tolist())
        rows.close(kept, count)

    def recover(
        self, x: Tensor, first: int, outputs: Tensor | None = None, finish: bool = True
    ) -> Tape:
        """Take the last chunk back, or look its states up, and return its tape."""
        rows, count = self.rows, len(x)
        tape, kept = self._to_recover(x, first, outputs, count)
        call(self.config, [("recover", rows.tasks)], len(rows.tasks))
        rows.finish(kept, count, finish)
        return tape

    def take_back(
        self,
        x: Tensor,
        first: int,
        outputs: Tensor | None,
        grad_outputs: Tensor | None,
        into: Gradients,
        dx: Tensor | None,
    ) -> None:
        """Do all of it in one compiled call, chunk by chunk."""
        rows, count = self.rows, len(x)
        chunk = min(max(count, 1), self.work.settings.chunk_size)
        tape, kept = self._to_recover(x, first, outputs, chunk)
        calls, threads = self._gradients().prepare(tape, grad_outputs, into, dx)
        each = [("recover", rows.tasks), *calls]
        call(self.config, each * -(-count // chunk), threads)
        rows.finish(kept, count, True)
        self._gradients().finish(into, dx)

    def _to_recover(
        self, x: Tensor, first: int, outputs: Tensor | None, chunk: int
    ) -> tuple[Tape, Kept]:
        """Prepare going back over steps, by so many; return the tape, and what was kept."""
        rows, frame, count = self.rows, self._frame, len(x)
        aside_at = self._give(x, first, backwards=True)
        kept = rows.reopen(frame.address, count)
        self._give_kept(kept, count)
        tape = self._new_tape(x, aside_at, chunk)
        frame.results[_OUTPUTS_BACK] = _NONE if outputs is None else outputs.numpy()
        for n, array in zip(_FACTORS, tape.factors, strict=True):
            frame.results[n] = array
        rows.tasks[:, CHUNK], rows.tasks[:, LEFT] = chunk, count
        return tape, kept

    def _give_kept(self, kept: Kept, count: int) -> None:
        """Let the frame back have what was kept; of slices those of the last steps left."""
        arguments, first = self._frame.arguments, max(len(kept.slices) - 1 - count, 0)
        arguments[_ASIDE[0]], arguments[_ASIDE[1]] = kept.aside_h, kept.aside_c
        arguments[_SLICES], arguments[_STATES] = kept.slices[first:], kept.states

    def _give(self, x: Tensor, first: int, *, backwards: bool) -> Array:
        """Let the frame have a chunk's inputs and schedule; return where rows are set aside."""
        arguments, given = self._frame.arguments, self._scheduled(first, len(x), backwards)
        arguments[_X] = operands(x)
        arguments[_ACTIVE], arguments[_ASIDE_AT], arguments[_GAINS] = given
        return given[1]

    def _new_tape(self, x: Tensor, aside_at: Array, chunk: int) -> Tape:
        config, layers = self.config, self.config.num_layers
        pieces = gru.GRU_PIECES if config.cell == "revgru" else lstm_rows.LSTM_PIECES
        step = self.batch * config.hidden_size
        longest = max(self._longest, chunk)
        old = self._tape  # its memory serves the next chunk, which may be longer
        if old is None or old.longest < longest:
            memory = Floats(pieces * layers * longest * step)
            above = np.empty((2, longest * (layers - 1) * step), np.float32)
        else:
            memory, above = old.memory, old.above
        if old is not None and old.memory is memory and old.chunk == chunk:
            factors = old.factors
        else:
            sizes = [n * chunk * step for n in (pieces * layers, layers - 1, layers - 1)]
            parts = zip((memory.array, *above), sizes, strict=True)
            factors = tuple(array[:size] for array, size in parts)
        self._tape = Tape(x, aside_at, memory, above, factors, chunk, longest)
        return self._tape

    def pullback(
        self, tape: Tape, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> None:
        """Carry the gradient over a chunk that was just recovered."""
        calls, threads = self._gradients().prepare(tape, grad_outputs, into, dx)
        call(self.config, calls, threads)
        self._gradients().finish(into, dx)

    def _gradients(self) -> GradientPass:
        if self._gradient is None:
            self._gradient = GradientPass(self.config, self.work.weights, len(self.rows.tasks))
        return self._gradient

    # --- what is left ------------------------------------------------------------------------

    def state(self) -> State:
        """Return the present state."""
        config, rows = self.config, self.rows
        return State(
            torch.from_numpy(by_layer(rows.h)),
            torch.from_numpy(by_layer(rows.c)) if config.has_cell_state else None,
            torch.from_numpy(rows.heads.copy()) if config.forgetting else None,
            config,
        )

    def store(self) -> Store:
        """Return words and slices; with several shares, one share's words after the other's."""
        rows, none = self.rows, np.empty(0, np.int16)
        words = np.concatenate([none, *(own for block in rows.blocks for own in block)])
        slices = None
        if self.config.slice_size and rows.kept:
            parts = [kept.slices for kept in rows.kept]
            slices = torch.from_numpy(np.concatenate([parts[0][:1], *(p[1:] for p in parts)]))
        return Store(torch.from_numpy(words), torch.from_numpy(np.zeros(0, np.uint8)), slices)

    def left_over(self) -> Tensor | None:
        """Return how many words a way back left, or ``None``."""
        left = self.rows.left_over
        return torch.tensor(left, device="cpu") if left else None

    def check_underflow(self) -> None:
        """Do nothing: :meth:`recover` has raised the error."""

    def bytes_kept(self) -> int:
        """Return the bytes kept to go back."""
        return self.rows.bytes_kept()


def _places(arrays: Array) -> Array:
    """Return the addresses of so many arrays of one."""
    return begin_of(arrays) + np.arange(len(arrays)) * arrays.strides[0]
