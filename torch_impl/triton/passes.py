"""A way over a sequence and back, chunk by chunk, in kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from ..engine import Store
from ..gradients import Gradients
from ..state import State
from .arrays import Arrays
from .launch import Launcher, Mode

if TYPE_CHECKING:
    from .places import Place, TritonWork

_lock = threading.RLock()


class TritonPass:
    """A way over a sequence and back, by chunks (SEQ)."""

    gate_counts: Tensor | None = None
    pushed: Tensor | None = None

    def __init__(self, work: TritonWork, state: State, keep: bool, store: Store | None) -> None:
        """Stand at a state."""
        self.work, self.config, self.keep = work, work.config, keep
        self.stored = work.settings.states == "stored" and keep
        self.device, self.batch = state.h.device, state.h.shape[1]
        self.wraps: Tensor | None = None
        if self.config.can_wrap:
            self.wraps = torch.zeros((), dtype=torch.int64, device=self.device)
        self._at: State | None = state  # None while it is in arrays
        self._place: Place | None = None
        self._blocks: list[Tensor] = []
        self._open: tuple[Tensor, Tensor, Any] | None = None  # words, their number, when it is known
        self._slices: list[Tensor] = []
        self._past: list[tuple[Tensor, ...]] = []
        self._aside: dict[int, tuple[Tensor, Tensor]] = {}
        self._left = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._lowest = torch.zeros_like(self._left)
        if store is not None:
            self._blocks = [store.words]
            self._slices = [] if store.slices is None else [store.slices]

    # --- state -------------------------------------------------------------------------------

    def enter(self, arrays: Arrays) -> None:
        """Bring the state into arrays."""
        state = self._at
        assert state is not None
        arrays.inside(arrays.h).copy_(arrays.by_groups(state.h))
        if state.c is not None:
            arrays.inside(arrays.c).copy_(arrays.by_groups(state.c))
        if state.heads is not None:
            arrays.inside(arrays.heads).copy_(state.heads)
        self._at = None

    def leave(self, arrays: Arrays) -> None:
        """Take the state out of arrays that another pass wants."""
        self._at, self._place = self._state_in(arrays), None

    def _state_in(self, arrays: Arrays) -> State:
        h = arrays.by_layers(arrays.inside(arrays.h))
        c = arrays.by_layers(arrays.inside(arrays.c)) if self.config.has_cell_state else None
        heads = arrays.inside(arrays.heads).clone() if self.config.forgetting else None
        return State(h, c, heads)

    def state(self) -> State:
        """Return the present state, sharing nothing with the pass."""
        with _lock:
            if self._at is None:
                assert self._place is not None
                return self._state_in(self._place.arrays)
        c, heads = self._at.c, self._at.heads
        return State(
            self._at.h.clone(), None if c is None else c.clone(),
            None if heads is None else heads.clone(),
        )  # fmt: skip

    def _enter(self, x: Tensor, first: int) -> tuple[Arrays, Launcher]:
        """Make arrays ready for a chunk."""
        work, steps = self.work, len(x)
        self._place = work.place(self, self.batch, self.device)
        arrays, schedule = self._place.arrays, work.schedule
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
        return arrays, Launcher(arrays, mode)

    def _resets(self, first: int, steps: int) -> dict[int, Tensor]:
        found = {at: self.work.schedule.reset(first + at) for at in range(steps)}
        return {at: rows for at, rows in found.items() if rows is not None}

    # --- forward -----------------------------------------------------------------------------

    def advance(self, x: Tensor, first: int, outputs: Tensor | None = None) -> None:
        """Take a chunk of steps, whose operands are int16 ``[C, B, I]``."""
        if not len(x):
            return
        with _lock:
            self._advance(x, first, outputs)

    def _advance(self, x: Tensor, first: int, outputs: Tensor | None) -> None:
        arrays, launcher = self._enter(x, first)
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
            for t in range(steps):
                if t in resets:
                    self._restart(arrays, launcher, t, first + t, resets[t])
                launcher.step(t)

        self._run(("forward", steps, launcher.mode), launch, not resets)
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
            self._keep_words(arrays, launcher, steps)

    def _run(self, key: Any, launch: Callable[[], None], whole: bool) -> None:
        assert self._place is not None
        if whole:
            self._place.run(key, launch)
        else:
            launch()

    def _restart(
        self, arrays: Arrays, launcher: Launcher, at: int, step: int, rows: Tensor
    ) -> None:
        """Set rows' states aside and let them start anew (SEQ-013)."""
        if self.keep:
            self._aside[step] = (arrays.h[:, rows], arrays.c[:, rows])
        for held in (arrays.h, arrays.c):
            held.index_fill_(1, rows, 0)
        if self.stored:
            for past in arrays.past:
                past[at].index_fill_(1, rows, 0)
        launcher.prepare(at)

    def _keep_words(self, arrays: Arrays, launcher: Launcher, steps: int) -> None:
        self._close()
        count = steps * arrays.operations * arrays.padded_rows * arrays.across
        counts, places = arrays.counts.view(-1)[:count], arrays.places[:count]
        torch.cumsum(counts, 0, dtype=torch.int32, out=places)
        bound = self.config.words_bound(steps) * self.batch * arrays.units
        words = torch.empty(bound, dtype=torch.int16, device=self.device)
        launcher.compact(steps, words)
        # The number of words is fetched while the next chunk runs.
        cuda = self.device.type == "cuda"
        number = torch.empty(1, dtype=torch.int32, pin_memory=cuda)
        number.copy_(places[-1:], non_blocking=cuda)
        event = torch.cuda.Event() if cuda else None
        if event is not None:
            event.record()
        self._open = words, number, event

    def _close(self) -> None:
        """Cut the last block to its words."""
        if self._open is not None:
            words, number, event = self._open
            if event is not None:
                event.synchronize()
            block = words[: int(number)]
            offload = self.work.settings.offload
            self._blocks.append(block.to("cpu", copy=True) if offload else block.clone())
            self._open = None

    # --- back --------------------------------------------------------------------------------

    def recover(
        self, x: Tensor, first: int, outputs: Tensor | None = None, finish: bool = True
    ) -> Any:
        """Take the last chunk back, or look its states up; the tape lies in the arrays."""
        if not len(x):
            return None
        with _lock:
            return self._recover(x, first, outputs, finish)

    def _recover(self, x: Tensor, first: int, outputs: Tensor | None, finish: bool) -> Any:
        self._close()
        arrays, launcher = self._enter(x, first)
        assert self._place is not None
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
            block = self._blocks.pop()
            # A chunk pops no more than a chunk can push; what lies deeper stays where it is.
            deeper = max(0, len(block) - len(arrays.words))
            rest, block = block[:deeper], block[deeper:]
            arrays.words[: len(block)].copy_(block)
            arrays.tops[steps * arrays.operations] = len(block)

        def launch() -> None:
            launcher.input_parts(steps)
            launcher.prepare(steps - 1)
            last = (-1, 0, 0)
            for t in reversed(range(steps)):
                last = launcher.step_back(t, last)
                if t in resets:
                    self._take_back(arrays, launcher, t, self._aside.pop(first + t), resets[t])
            launcher.refill(last)

        self._run(("back", steps, launcher.mode), launch, not resets)
        if popping:
            tops = arrays.tops[: steps * arrays.operations]
            self._lowest = torch.minimum(self._lowest, tops.min())
            if finish:
                self._left = self._left + tops[0].abs() + deeper
            else:
                self.check_underflow()
                self._blocks.append(torch.cat([rest, block[: int(tops[0])]]))
        if outputs is not None:
            outputs.copy_(arrays.outputs[:steps])
        self._place.tape_open = finish
        return steps, first, launcher, resets

    def _take_back(
        self,
        arrays: Arrays,
        launcher: Launcher,
        at: int,
        aside: tuple[Tensor, Tensor],
        rows: Tensor,
    ) -> None:
        held = (arrays.h, arrays.c) if self.config.has_cell_state else (arrays.h,)
        for states, values in zip(held, aside, strict=False):
            states.index_copy_(1, rows, values)
        launcher.prepare(at - 1)

    # --- gradients ---------------------------------------------------------------------------

    def pullback(self, tape: Any, grad_outputs: Tensor | None, into: Gradients) -> Tensor:
        """Carry the gradient over a chunk that was just recovered (GRAD-012 to 014)."""
        if tape is None:
            return torch.zeros(
                (0, self.batch, self.config.input_size), dtype=torch.float32, device=self.device
            )
        with _lock:
            assert self._place is not None
            result = self._pull(self._place.arrays, *tape, grad_outputs, into)
            self._place.tape_open = False
        return result

    def _pull(
        self,
        arrays: Arrays,
        steps: int,
        first: int,
        launcher: Launcher,
        resets: dict[int, Tensor],
        grad_outputs: Tensor | None,
        into: Gradients,
    ) -> Tensor:
        dh, dc, _, _, given = arrays.gradients
        arrays.inside(dh[0]).copy_(arrays.by_groups(into.h))
        if into.c is not None:
            arrays.inside(dc[0]).copy_(arrays.by_groups(into.c))
        if grad_outputs is not None:
            given[:steps].copy_(grad_outputs)

        def launch() -> None:
            now = 0
            for t in reversed(range(steps)):
                launcher.pull_step(t, now, grad_outputs is not None)
                now = now if launcher.gru else 1 - now
                if t in resets:  # what was before has no part in what follows
                    for held in (dh, dc):
                        held[now].index_fill_(1, resets[t], 0)

        key = ("pull", steps, launcher.mode, grad_outputs is not None)
        self._run(key, launch, not resets)
        now = 0 if launcher.gru else steps % 2
        into.h = arrays.by_layers(arrays.inside(dh[now]))
        if into.c is not None:
            into.c = arrays.by_layers(arrays.inside(dc[now]))
        return self._parameters(arrays, steps, into)

    def _parameters(self, arrays: Arrays, steps: int, into: Gradients) -> Tensor:
        """Add a chunk's part to the gradients of the parameters; return the input's."""
        config, units, padded = self.config, arrays.units, arrays.padded_units
        gates, (tape, lower), ds = config.num_gates, arrays.tape, arrays.gradients[2]
        of_view = 2 if config.cell == "revgru" else gates
        x = arrays.x[:steps].flatten(0, 1).float() * 2.0**-config.formats.operand_bits
        dx = torch.zeros_like(x)
        for layer in range(config.num_layers):
            names = [f"{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias")]
            w_ih, w_hh, bias = (
                into.params[name].view(2, gates, units, *into.params[name].shape[1:])
                for name in names
            )
            for group in (0, 1):
                own = ds[2 * layer + group, :steps].view(-1, gates * padded)
                factors = tape[2 * layer + group]
                by_gate = (gates, padded, -1)
                bias[group] += own.sum(0).view(gates, padded)[:, :units]
                if layer == 0:
                    dx.addmm_(own, arrays.floats_in[0][group].flatten(0, 1))
                    w_ih[group] += (own.t() @ x).view(by_gate)[:, :units]
                else:
                    for below in (0, 1):
                        a = lower[2 * layer - 2 + below, 0, :steps].reshape(-1, padded)
                        part = (own.t() @ a).view(by_gate)[:, :units, :units]
                        w_ih[group, ..., below * units : (below + 1) * units] += part
                v = factors[0, :steps].reshape(-1, padded)
                part = own[:, : of_view * padded].t() @ v
                w_hh[group, :of_view] += part.view(-1, padded, padded)[:, :units, :units]
                if of_view < gates:
                    u = factors[5, :steps].reshape(-1, padded)
                    part = own[:, of_view * padded :].t() @ u
                    w_hh[group, of_view:] += part.view(-1, padded, padded)[:, :units, :units]
        return dx.view(steps, self.batch, -1)

    # --- the store ---------------------------------------------------------------------------

    def store(self) -> Store:
        """Return what is in the buffer."""
        self._close()
        none = torch.zeros(0, dtype=torch.int16, device=self.device)
        words = torch.cat([*(block.to(self.device) for block in self._blocks), none])
        slices = None
        if self._slices:
            slices = torch.cat([self._slices[0][:1], *(part[1:] for part in self._slices)])
        return Store(words, torch.zeros(0, dtype=torch.uint8), slices)

    def left_over(self) -> Tensor | None:
        """Return how many words a way back left."""
        return self._left if self.config.forgetting else None

    def check_underflow(self) -> None:
        """Raise ``E_UNDERFLOW`` if more was popped than there was (BUF-032)."""
        if int(self._lowest) < 0:
            raise RevRNNError(
                "E_UNDERFLOW", "words", "an empty store", "a store that was pushed to"
            )

    def bytes_kept(self) -> int:
        """Return the bytes kept to go back: words, slices, states set aside."""
        self._close()
        held = [*self._blocks, *self._slices, *(t for past in self._past for t in past)]
        for h, c in self._aside.values():
            held += [h, c] if self.config.has_cell_state else [h]
        return sum(t.numel() * t.element_size() for t in held)
