"""Passes of the native engine: what goes into compiled calls and comes out of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from revrnn.config import Config

from ...native import gru, lstm_rows
from ...native.buffers import WRAPS
from ...native.compiling import Array
from ...native.plan import forget_scale, numbers
from ...native.pullback import pull
from ...native.records import Counted, Factors, Outputs, Steps
from ...native.sweeps import forward, recover
from ..conversions import as_array
from ..engine import Settings, Store
from ..gradients import Gradients
from ..sequence import Schedule
from ..state import State
from .memory import Floats
from .parameters import Carried, Tape, products
from .rows import Rows, by_layer
from .threads import Task, run, shares, split
from .weights import Weights


class NativeWork:
    """A stack ready for passes over one sequence."""

    def __init__(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> None:
        """Prepare the weights."""
        self.config, self.schedule, self.settings = config, schedule, settings
        self.weights, self.numbers = Weights(config, params), numbers(config)
        self.scale = forget_scale(config)

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
        self.work, self.config, self.keep = work, config, keep
        self.stored = settings.states == "stored"
        self.keeps_words = config.forgetting and ((keep and not self.stored) or count)
        self.batch = state.h.shape[1]
        amount = work.weights.multiplications * self.batch * settings.chunk_size
        self.threads = 1 if settings.in_order else shares(amount, self.batch)
        where = split(self.batch, self.threads)
        self.shares = [
            Rows(config, state, rows, keep, self.stored, self.keeps_words) for rows in where
        ]
        if store is not None:
            (share,) = self.shares
            share.load(store)
        layers, bins = config.num_layers, 1025 if count else 0
        self._counts = np.zeros((len(self.shares), layers, bins), np.int64)
        self._pushed = np.zeros((len(self.shares), layers), np.int64)
        none = np.empty(0, np.int64)
        self._counted = [
            Counted(*own, none) for own in zip(self._counts, self._pushed, strict=True)
        ]
        self.counting = count
        schedule = work.schedule
        # Without these all chunks of a length have the same schedule.
        self._even = schedule.mask is None and schedule.resets is None and schedule.gains is None
        self._known: dict[int, list[tuple[Array, Array, Array]]] = {}
        self._tape: Tape | None = None
        self._carried: Carried | None = None

    @property
    def wraps(self) -> Tensor | None:
        """How often a state wrapped."""
        if not self.config.can_wrap:
            return None
        return torch.tensor(sum(int(share.tally[WRAPS]) for share in self.shares), device="cpu")

    @property
    def gate_counts(self) -> Tensor | None:
        """Histograms of the gates by layer, if counted."""
        return torch.from_numpy(self._counts.sum(0)) if self.counting else None

    @property
    def pushed(self) -> Tensor | None:
        """Words that each layer pushed, if counted."""
        return torch.from_numpy(self._pushed.sum(0)) if self.counting else None

    # --- states ------------------------------------------------------------------------------

    def advance(self, x: Tensor, first: int, outputs: Tensor | None = None) -> None:
        """Take a chunk of steps."""
        steps, to = self._steps(x, first, backwards=False), _outputs(outputs)
        tasks = [partial(self._advance, n, part, to) for n, part in enumerate(steps)]
        run(tasks, self.threads)

    def _advance(self, n: int, steps: Steps, to: Array) -> None:
        weights, share = self.work.weights, self.shares[n]
        kept = share.new_chunk(len(steps.x), int(steps.aside_at.max(initial=-1)) + 1)
        states = (share.h, share.cells, share.digits)
        given = (steps, kept, Outputs(to, share.rows.start), self._counted[n])
        forward(self.work.numbers, weights.stack, weights.w_u, *states, *given)
        share.close(kept)

    def recover(
        self, x: Tensor, first: int, outputs: Tensor | None = None, finish: bool = True
    ) -> Tape:
        """Take the last chunk back, or look its states up, and return its tape."""
        steps, to = self._steps(x, first, backwards=True), _outputs(outputs)
        tape = self._new_tape(x)
        tape.aside_at = [part.aside_at for part in steps]
        tasks = [
            partial(self._recover, share, part, to, tape.factors, finish)
            for share, part in zip(self.shares, steps, strict=True)
        ]
        run(tasks, self.threads)
        return tape

    def _recover(
        self, share: Rows, steps: Steps, to: Array, factors: Factors, finish: bool
    ) -> None:
        weights, count = self.work.weights, len(steps.x)
        kept, states = share.reopen(count), (share.h, share.cells, share.digits)
        own = kept
        if self.config.slice_size:  # of what has been left, the last steps
            own = kept._replace(slices=kept.slices[max(len(kept.slices) - 1 - count, 0) :])
        more = (Outputs(to, share.rows.start), factors, self.batch, self.work.scale)
        recover(self.work.numbers, weights.stack, weights.w_u, *states, steps, own, *more)
        share.finish(kept, count, finish)

    def _steps(self, x: Tensor, first: int, *, backwards: bool) -> list[Steps]:
        """Return what each share is given of a chunk."""
        count = len(x)
        given = self._known.get(count)
        if given is None:
            schedule = self._schedule(first, count, backwards)
            given = [_own(share.rows, *schedule) for share in self.shares]
            if self._even:
                self._known[count] = given
        pairs = zip(self.shares, given, strict=True)
        return [Steps(_operands(x, share.rows), *own) for share, own in pairs]

    def _schedule(self, first: int, steps: int, backwards: bool) -> tuple[Array, Array, Array]:
        """Return which rows are active, which start anew, and gains, of a chunk."""
        schedule, config = self.work.schedule, self.config
        active = np.ones((steps, self.batch), np.uint8)
        if schedule.mask is not None:
            active = as_array(schedule.mask[first : first + steps]).astype(np.uint8)
        resets = [schedule.reset(t) for t in range(first, first + steps)]
        anew = np.zeros((steps if any(r is not None for r in resets) else 0, self.batch), np.bool_)
        for t, rows in enumerate(resets):
            if rows is not None:
                anew[t, rows.numpy()] = True
        gains = np.empty((0, config.num_layers - 1, self.batch, config.hidden_size), np.int32)
        if schedule.gains is not None and steps:
            order = range(steps)
            # In the order in which a step is met, as a function that draws may expect.
            some = {t: schedule.gain(first + t) for t in (reversed(order) if backwards else order)}
            gains = np.stack([np.asarray(some[t]) for t in order]).astype(np.int32, copy=False)
        return active, anew, gains

    def _new_tape(self, x: Tensor) -> Tape:
        config, steps = self.config, len(x)
        size = config.num_layers * steps * self.batch * config.hidden_size
        above = (config.num_layers - 1) * steps * self.batch * config.hidden_size
        pieces = gru.GRU_PIECES if config.cell == "revgru" else lstm_rows.LSTM_PIECES
        old = self._tape  # its memory serves the next chunk
        if old is None or old.factors.pieces.size != pieces * size:
            memory = Floats(pieces * size)
            between = [np.empty(above, np.float32) for _ in range(2)]
            old = Tape(x, [], memory, Factors(memory.array[: pieces * size], *between))
        self._tape = Tape(x, [], old.memory, old.factors)
        return self._tape

    # --- gradients ---------------------------------------------------------------------------

    def pullback(
        self, tape: Tape, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> None:
        """Carry the gradient over a chunk that was just recovered."""
        config, (steps, batch, _) = self.config, tape.x.shape
        columns = config.num_gates * config.group_size
        memory = Floats(config.num_layers * 2 * steps * batch * columns)
        shape = (config.num_layers, 2, steps, batch, columns)
        ds = memory.array[: math.prod(shape)].reshape(shape)
        given = np.empty((0, 0, 0), np.float32)
        if grad_outputs is not None:
            given = as_array(grad_outputs.float().contiguous())
        state = self._carried
        if state is None or not state.is_of(into):
            state = Carried.of(into, [share.rows for share in self.shares])
        floats, forgets = self.work.weights.floats, config.forgetting
        tasks: list[Task] = []
        for share, dh, dc, at in zip(self.shares, state.h, state.c, tape.aside_at, strict=True):
            outputs = Outputs(given, share.rows.start)
            tasks.append(partial(pull, dh, dc, outputs, tape.factors, at, *floats, forgets, ds))
        run(tasks, self.threads)
        state.give(into)
        self._carried = state
        products(self.work.weights, self.config, tape, ds, into, dx)

    # --- what is left ------------------------------------------------------------------------

    def state(self) -> State:
        """Return the present state."""
        h = np.concatenate([by_layer(share.h) for share in self.shares], 1)
        c = np.concatenate([by_layer(share.c) for share in self.shares], 1)
        heads = np.concatenate([share.heads for share in self.shares])
        return State(
            torch.from_numpy(h),
            torch.from_numpy(c) if self.config.has_cell_state else None,
            torch.from_numpy(heads) if self.config.forgetting else None,
            self.config,
        )

    def store(self) -> Store:
        """Return words and slices; with several shares, one share's words after the other's."""
        none = np.empty(0, np.int16)
        blocks = [block for share in self.shares for block in share.blocks]
        slices = None
        if self.config.slice_size and self.shares[0].slices:
            each = [
                np.concatenate([share.slices[0][:1], *(part[1:] for part in share.slices)])
                for share in self.shares
            ]
            slices = torch.from_numpy(np.concatenate(each, 1))
        words = torch.from_numpy(np.concatenate([none, *blocks]))
        return Store(words, torch.from_numpy(np.zeros(0, np.uint8)), slices)

    def left_over(self) -> Tensor | None:
        """Return how many words a way back left."""
        return torch.tensor(sum(share.left_over for share in self.shares), device="cpu")

    def check_underflow(self) -> None:
        """Do nothing: :meth:`recover` has raised the error."""

    def bytes_kept(self) -> int:
        """Return the bytes kept to go back."""
        return sum(share.bytes_kept() for share in self.shares)


def _operands(x: Tensor, rows: slice) -> Array:
    """Return operands of some rows, int16 ``[C, R, I]``, I made even by zeros."""
    part = x.numpy()[:, rows]
    length = part.shape[2]
    if length % 2:
        part = np.concatenate([part, np.zeros((*part.shape[:2], 1), np.int16)], 2)
    return np.ascontiguousarray(part)


def _own(rows: slice, active: Array, anew: Array, gains: Array) -> tuple[Array, Array, Array]:
    """Return some rows' schedule; those that start anew are numbered, step by step."""
    at = np.full(anew[:, rows].shape, -1, np.int32)
    where = anew[:, rows].nonzero()
    at[where] = np.arange(len(where[0]), dtype=np.int32)
    return np.ascontiguousarray(active[:, rows]), at, np.ascontiguousarray(gains[:, :, rows])


def _outputs(outputs: Tensor | None) -> Array:
    return np.empty((0, 0, 0), np.int32) if outputs is None else outputs.numpy()
