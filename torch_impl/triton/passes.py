"""The Triton engine's forward and backward pass over a sequence, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from ...gpu.constants import Mode
from ...gpu.order import NONE
from ..engine import Store, take_back_by_parts
from ..gradients import Gradients
from ..state import State
from .arrays import Arrays
from .blocks import Words
from .launch import Launcher
from .parameter_gradients import add_parameters
from .places import Place, Prepared, lock


def on(device: torch.device) -> AbstractContextManager[object]:
    """Return what makes a device the present one, where kernels are launched."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _runs(steps: int, resets: Iterable[int]) -> list[tuple[int, int]]:
    """Return first step and length of the runs of steps that no reset interrupts."""
    return [(begin, end - begin) for begin, end in pairwise(sorted({0, *resets, steps}))]


class TritonPass:
    """A pass over a sequence, forward and backward, by chunks (SEQ)."""

    gate_counts: Tensor | None = None
    pushed: Tensor | None = None
    take_back = take_back_by_parts

    def __init__(self, work: Prepared, state: State, keep: bool, store: Store | None) -> None:
        """Stand at a state."""
        self.work, self.config, self.keep = work, work.config, keep
        self.stored = work.settings.states == "stored" and keep
        self.device, self.batch = state.h.device, state.h.shape[1]
        number: Any = {"dtype": torch.int64, "device": self.device}
        self.wraps: Tensor | None = torch.zeros((), **number) if self.config.can_wrap else None
        self._at: State | None = state  # None while it is in arrays
        self.place: Place | None = None  # where the state is, if not here
        self._words = Words(work.settings.offload)
        self._slices: list[Tensor] = []
        self._past: list[tuple[Tensor, ...]] = []
        self._aside: dict[int, tuple[Tensor, Tensor]] = {}
        self._left = torch.zeros(1, **number)
        self._lowest = torch.zeros_like(self._left)
        if store is not None:
            self._words.put_back(store.words)
            self._slices = [] if store.slices is None else [store.slices]

    # --- state -------------------------------------------------------------------------------

    def enter(self, arrays: Arrays) -> None:
        """Bring the state into arrays."""
        assert self._at is not None
        arrays.put_state(self._at)
        self._at = None

    def leave(self, arrays: Arrays) -> None:
        """Take the state out of arrays that another pass wants."""
        self._at, self.place = arrays.state(), None

    def state(self) -> State:
        """Return the present state, sharing nothing with the pass."""
        with lock:
            if self._at is None:
                assert self.place is not None
                return self.place.arrays.state()
            copies = {name: value.clone() for name, value in self._at.tensors().items()}
        return State(copies["h"], copies.get("c"), copies.get("heads"))

    def _enter(self, x: Tensor, first: int) -> tuple[Place, Launcher]:
        """Make arrays ready for a chunk."""
        work, steps = self.work, len(x)
        self.place = place = work.place(self, self.batch, self.device)
        arrays, schedule = place.arrays, work.schedule
        arrays.x[:steps].copy_(x)
        if schedule.mask is not None:
            arrays.mask[:steps].copy_(schedule.mask[first : first + steps])
        gains = self.config.num_layers > 1 and schedule.gains is not None
        if gains:
            for at in range(steps):
                gain = schedule.gain(first + at)
                assert gain is not None
                arrays.gains[at].copy_(gain)
        keep = self.keep and not self.stored and self.config.forgetting
        mode = Mode(schedule.mask is not None, gains, keep, self.stored)
        return place, work.launcher(arrays, mode)

    def _resets(self, first: int, steps: int) -> dict[int, Tensor]:
        by_step = {at: self.work.schedule.reset(first + at) for at in range(steps)}
        return {at: rows for at, rows in by_step.items() if rows is not None}

    # --- forward -----------------------------------------------------------------------------

    def advance(self, x: Tensor, first: int, outputs: Tensor | None = None) -> None:
        """Take a chunk of steps, whose operands are int16 ``[C, B, I]``."""
        if not len(x):
            return
        with lock, on(self.device):
            self._advance(x, first, outputs)

    def _advance(self, x: Tensor, first: int, outputs: Tensor | None) -> None:
        place, launcher = self._enter(x, first)
        arrays = place.arrays
        steps, resets, depth = len(x), self._resets(first, len(x)), self.config.slice_size
        if depth and self.keep:
            kept = x.new_empty((steps + 1, self.batch, depth), dtype=torch.int32)
            kept[0] = arrays.inside(arrays.h)[-2, :, :depth]
        if self.stored:
            for into, held in zip(arrays.past, (arrays.h, arrays.c), strict=True):
                into[0].copy_(arrays.inside(held))

        def launch() -> None:
            arrays.wraps.zero_()
            launcher.input_parts(steps)
            launcher.prepare(0)
            for t, count in _runs(steps, resets):
                if t in resets:
                    self._restart(arrays, launcher, t, first + t, resets[t])
                launcher.steps(t, count)

        captured = launcher.captured and not resets
        place.run(("forward", steps, launcher.mode) if captured else None, launch)
        if self.wraps is not None:
            self.wraps = self.wraps + arrays.wraps[0]
        if outputs is not None:
            outputs.copy_(arrays.outputs[:steps])
        if depth and self.keep:
            kept[1:] = arrays.outputs[:steps, :, :depth]
            self._slices.append(kept)
        if self.stored:
            self._past.append(tuple(part[: steps + 1].clone() for part in arrays.past))
        if launcher.mode.keep:
            self._words.push(arrays, launcher, steps)

    def _restart(
        self, arrays: Arrays, launcher: Launcher, at: int, step: int, rows: Tensor
    ) -> None:
        """Keep rows' states and reset them to zero (SEQ-013)."""
        if self.keep:
            self._aside[step] = (arrays.h[:, rows], arrays.c[:, rows])
        for held in (arrays.h, arrays.c):
            held.index_fill_(1, rows, 0)
        if self.stored:
            for past in arrays.past:
                past[at].index_fill_(1, rows, 0)
        launcher.prepare(at)

    # --- back --------------------------------------------------------------------------------

    def recover(
        self, x: Tensor, first: int, outputs: Tensor | None = None, finish: bool = True
    ) -> Any:
        """Reverse the last chunk, or look its states up; the tape stays in the arrays."""
        if not len(x):
            return None
        with lock, on(self.device):
            return self._recover(x, first, outputs, finish)

    def _recover(self, x: Tensor, first: int, outputs: Tensor | None, finish: bool) -> Any:
        place, launcher = self._enter(x, first)
        arrays = place.arrays
        steps, resets, depth = len(x), self._resets(first, len(x)), self.config.slice_size
        popping = self.config.forgetting and not self.stored
        if depth and not self.stored:
            kept = self._slices.pop()
            restore = kept[len(kept) - 1 - steps : -1]
            if not finish:
                self._slices.append(kept[: len(kept) - steps])
            for at, rows in resets.items():
                restore = restore.clone()
                restore[at].index_fill_(0, rows, 0)
            arrays.restore[: restore.numel()].copy_(restore.reshape(-1))
        if self.stored:
            for into, held in zip(arrays.past, self._past.pop(), strict=True):
                into[: steps + 1].copy_(held)
        if popping:
            block = self._words.pop()
            # A chunk pops no more than a chunk can push; deeper words stay where they are.
            deeper = max(0, len(block) - len(arrays.words))
            rest, block = block[:deeper], block[deeper:]
            arrays.words[: len(block)].copy_(block)
            arrays.tops[steps * arrays.operations] = len(block)

        def launch() -> None:
            launcher.input_parts(steps)
            launcher.prepare(steps - 1)
            last = NONE
            for t, count in reversed(_runs(steps, resets)):
                last = launcher.steps_back(t, count, last)
                if t in resets:
                    self._take_back(arrays, launcher, t, self._aside.pop(first + t), resets[t])
            launcher.refill(last)

        captured = launcher.captured and not resets
        place.run(("back", steps, launcher.mode) if captured else None, launch)
        if popping:
            tops = arrays.tops[: steps * arrays.operations]
            self._lowest = torch.minimum(self._lowest, tops.min())
            if finish:
                self._left = self._left + tops[0].abs() + deeper
            else:
                self.check_underflow()
                self._words.put_back(torch.cat([rest, block[: int(tops[0])]]))
        if outputs is not None:
            outputs.copy_(arrays.outputs[:steps])
        place.tape_open = finish
        return steps, launcher, resets

    def _take_back(
        self, arrays: Arrays, launcher: Launcher, at: int, aside: tuple[Tensor, ...], rows: Tensor
    ) -> None:
        held = (arrays.h, arrays.c) if self.config.has_cell_state else (arrays.h,)
        for states, values in zip(held, aside, strict=False):
            states.index_copy_(1, rows, values)
        launcher.prepare(at - 1)

    # --- gradients ---------------------------------------------------------------------------

    def pullback(
        self, tape: Any, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> None:
        """Carry the gradient over a chunk that was just recovered (GRAD-012 to 014)."""
        if tape is None:
            return
        with lock, on(self.device):
            assert self.place is not None
            made = self._pull(tape, grad_outputs, into)
            if dx is not None:
                dx.copy_(made)
            self.place.tape_open = False

    def _pull(self, tape: Any, grad_outputs: Tensor | None, into: Gradients) -> Tensor:
        steps, launcher, resets = tape
        place = self.place
        assert place is not None
        arrays = place.arrays
        dh, dc, _, _, given = arrays.gradients
        arrays.inside(dh[0]).copy_(arrays.by_groups(into.h))
        if into.c is not None:
            arrays.inside(dc[0]).copy_(arrays.by_groups(into.c))
        if grad_outputs is not None:
            given[:steps].copy_(grad_outputs)

        def launch() -> None:
            now = 0
            for t, count in reversed(_runs(steps, resets)):
                now = launcher.pull_steps(t, count, now, grad_outputs is not None)
                if t in resets:  # nothing before a reset affects what follows
                    for held in (dh, dc):
                        held[now].index_fill_(1, resets[t], 0)

        key = ("pull", steps, launcher.mode, grad_outputs is not None)
        place.run(key if launcher.captured and not resets else None, launch)
        now = 0 if launcher.gru else steps % 2
        into.h = arrays.by_layers(arrays.inside(dh[now]))
        if into.c is not None:
            into.c = arrays.by_layers(arrays.inside(dc[now]))
        return add_parameters(arrays, steps, into)

    # --- the store ---------------------------------------------------------------------------

    def store(self) -> Store:
        """Return what is in the buffer."""
        none = torch.zeros(0, dtype=torch.int16, device=self.device)
        words = torch.cat([*(block.to(self.device) for block in self._words.all()), none])
        slices = None
        if self._slices:
            slices = torch.cat([self._slices[0][:1], *(part[1:] for part in self._slices)])
        return Store(words, torch.zeros(0, dtype=torch.uint8), slices)

    def left_over(self) -> Tensor | None:
        """Return how many words the reversal left."""
        return self._left if self.config.forgetting else None

    def check_underflow(self) -> None:
        """Raise ``E_UNDERFLOW`` if more was popped than there was (BUF-032)."""
        if int(self._lowest) < 0:
            fault = ("E_UNDERFLOW", "words", "an empty store", "a store that was pushed to")
            raise RevRNNError(*fault)

    def bytes_kept(self) -> int:
        """Return the bytes kept for the backward pass: words, slices, states of reset rows."""
        held = [*self._words.all(), *self._slices, *(t for past in self._past for t in past)]
        for h, c in self._aside.values():
            held += [h, c] if self.config.has_cell_state else [h]
        return sum(t.numel() * t.element_size() for t in held)
