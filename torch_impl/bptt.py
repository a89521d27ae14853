"""Back-propagation through time that recomputes states: forward, and back by reversal.

:class:`Bptt` holds no input, no output and no gradient of the length of the sequence: inputs come
from a function, chunk by chunk, forwards and back; outputs, gradients of outputs and gradients of
inputs go through functions of the same kind. What it keeps is the buffer, and for very long
sequences a few states (:attr:`Settings.checkpoint_every`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .engine import Engine, Pass, Settings
from .engines import choose
from .gradients import Gradients
from .saturation import SaturationCounter
from .sequence import Schedule
from .state import State

# From the number of the first step and of the one after the last, the input operands int16.
Inputs = Callable[[int, int], Tensor]


class Bptt:
    """One sequence, forward and back.

    Attributes:
        engine: the engine that computes it.
        end: the final state, after :meth:`forward`.
        wraps: how often a state wrapped (MUL-006).
        gate_counts: int64 ``[L, 1025]`` on the device, if counted.
        pushed: words that each layer pushed, int64 ``[L]``, if counted.
        bytes_kept: bytes kept after the forward pass in order to go back, host included.
        saturation: counts of what saturates.
    """

    def __init__(
        self,
        config: Config,
        params: Mapping[str, Tensor],
        steps: int,
        start: State,
        schedule: Schedule,
        settings: Settings,
        engine: Engine | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Take parameters in fixed point and everything but the inputs; the engine, if known.

        ``whole`` says that inputs and outputs are in memory as a whole, and that gradients with
        respect to outputs are too: nobody reads the outputs of the way back for them.
        """
        self.config, self.steps, self.start, self.settings = config, steps, start, settings
        self.engine = engine or choose(config, start.h.device, settings)
        self.work = self.engine.prepare(config, params, schedule, settings)
        self.end, self.mask = start, schedule.mask
        self.wraps = 0
        self.gate_counts: Tensor | None = None
        self.pushed: Tensor | None = None
        self.bytes_kept = 0
        self.saturation = SaturationCounter(config, start.h.device, self.engine.conversions)
        every = settings.checkpoint_every
        if settings.states == "stored" or every is None or every >= steps:
            every = max(steps, 1)
        chunk = settings.chunk_size
        self.every = -(-every // chunk) * chunk  # pieces are whole chunks
        alike = schedule.mask is None and schedule.resets is None and schedule.gains is None
        ahead = whole and alike and settings.states == "reversed"
        # Steps that go forward together, and back.
        self._stride = chunk * (self.engine.ahead if ahead else 1)
        self._whole = whole
        # The states at which pieces begin, and the way over the last piece, until they are used.
        self._kept: tuple[list[State], Pass | None] | None = None

    def forward(
        self,
        inputs: Inputs,
        outputs: Callable[[int, Tensor], None] | None = None,
        keep: bool = True,
        all_of_outputs: Tensor | None = None,
    ) -> State:
        """Run forward and return the final state.

        Args:
            inputs: where inputs come from.
            outputs: takes each chunk's first step and outputs, int32 ``[C, B, H]``.
            keep: whether there will be a backward pass; without it nothing is kept (SEQ-010).
            all_of_outputs: where outputs are written, int32 ``[T, B, H]``; without it, each chunk's
                are a tensor of their own.
        """
        state, wraps, checkpoints = self.start, [], list[State]()
        for begin in range(0, max(self.steps, 1), self.every):
            stop = min(begin + self.every, self.steps)
            last = stop == self.steps
            # What is counted must be pushed, also in pieces whose words are dropped afterwards.
            count = self.settings.count
            current = self.work.start(state, keep=keep and (last or count), count=count)
            if keep:
                checkpoints.append(state)
                self.bytes_kept += 0 if begin == 0 else _bytes_of(state)
            self._run(current, begin, stop, inputs, outputs, all_of_outputs, count_inputs=True)
            state = current.state()
            if current.wraps is not None:
                wraps.append(current.wraps)
            self._add_counts(current)
            if keep and last:
                self._kept = checkpoints, current
                self.bytes_kept += current.bytes_kept()
        self.wraps = int(torch.stack(wraps).sum()) if wraps else 0
        self.end = self.saturation.end = state
        return state

    def backward(
        self,
        inputs: Inputs,
        inputs_back: Inputs,
        grad_state: tuple[Tensor | None, Tensor | None],
        grad_outputs: Callable[[int, Tensor], Tensor | None],
        grad_inputs: Callable[[int, Tensor], None] | None = None,
        *,
        all_of_inputs: Tensor | None = None,
    ) -> Gradients:
        """Run backward and return the gradients; a second time, after one more forward pass.

        Args:
            inputs: the same inputs again, for what is run again.
            inputs_back: the same, last chunk first; each is followed by its ``grad_inputs``.
            grad_state: with respect to the final ``h`` and ``c``, float ``[L, B, H]``.
            grad_outputs: is given each chunk's first step and outputs, int32 ``[C, B, H]``, last
                chunk first; gives the gradient with respect to these outputs. With ``whole``
                outputs have no numbers yet.
            grad_inputs: is given each chunk's first step and the gradient of its input; without it
                there is none.
            all_of_inputs: where the gradients of inputs are written, float32 ``[T, B, I]``; without
                it, each is a tensor of its own.

        Raises:
            RevRNNError: ``E_REVERSAL`` unless the reversal arrives at the initial state (SEQ-009).
        """
        into = Gradients.zeros(self.config, self.end)
        into.add_to_state(*grad_state)
        kept, self._kept = self._kept, None  # used once
        end, (checkpoints, current) = self.end, kept or self._again(inputs)
        del kept  # a piece's words go before the next piece is run again
        counts_outputs = self.saturation.views == 0  # else they were counted forward
        while checkpoints:
            start = checkpoints.pop()
            begin = len(checkpoints) * self.every
            stop = min(begin + self.every, self.steps)
            if current is None:
                current = self.work.start(start, keep=True, count=False)
                self._run(current, begin, stop, inputs)
                _check_same(current.state(), end, None)
            for first in reversed(range(begin, stop, self._stride)):
                x = inputs_back(first, min(first + self._stride, stop))
                shape = (*x.shape[:2], self.config.hidden_size)
                reads = counts_outputs or not self._whole
                # What nobody reads or writes has a shape, and memory of one number.
                strides = (shape[1] * shape[2], shape[2], 1) if reads else (0, 0, 0)
                kind: dict[str, Any] = {"dtype": torch.int32, "device": x.device}
                outputs = torch.empty_strided(shape, strides, **kind)
                dx = None
                if all_of_inputs is not None:
                    dx = all_of_inputs[first : first + len(x)]
                elif grad_inputs is not None:
                    dx = torch.empty(x.shape, dtype=torch.float32, device=x.device)
                if self._whole:
                    gradient = grad_outputs(first, outputs)
                    made = outputs if reads else None
                    current.take_back(x, first, made, gradient, into, dx)
                else:
                    tape = current.recover(x, first, outputs)
                    current.pullback(tape, grad_outputs(first, outputs), into, dx)
                if counts_outputs:
                    self.saturation.add_states(outputs)
                if grad_inputs is not None and dx is not None:
                    grad_inputs(first, dx)
            if self.settings.states == "reversed":
                _check_same(current.state(), start, current.left_over())
            end, current = start, None
        return into

    def _again(self, inputs: Inputs) -> tuple[list[State], Pass | None]:
        """Run forward once more, after a backward pass has used what was kept."""
        state, checkpoints, current = self.start, list[State](), None
        for begin in range(0, max(self.steps, 1), self.every):
            stop = min(begin + self.every, self.steps)
            current = self.work.start(state, keep=stop == self.steps, count=False)
            checkpoints.append(state)
            self._run(current, begin, stop, inputs)
            state = current.state()
        _check_same(state, self.end, None)
        return checkpoints, current

    def _run(
        self,
        current: Pass,
        begin: int,
        stop: int,
        inputs: Inputs,
        outputs: Callable[[int, Tensor], None] | None = None,
        all_of_outputs: Tensor | None = None,
        count_inputs: bool = False,
    ) -> None:
        for first in range(begin, stop, self._stride):
            x = inputs(first, min(first + self._stride, stop))
            if count_inputs:
                mask = self.mask
                self.saturation.add_inputs(x, None if mask is None else mask[first:][: len(x)])
            h = None
            if all_of_outputs is not None:
                h = all_of_outputs[first : first + len(x)]
            elif outputs is not None:
                shape = (*x.shape[:2], self.config.hidden_size)
                h = torch.empty(shape, dtype=torch.int32, device=x.device)
            current.advance(x, first, h)
            if outputs is not None and h is not None:
                self.saturation.add_states(h)
                outputs(first, h)

    def _add_counts(self, current: Pass) -> None:
        counts, pushed = current.gate_counts, current.pushed
        if counts is not None and pushed is not None:
            self.gate_counts = counts if self.gate_counts is None else self.gate_counts + counts
            self.pushed = pushed if self.pushed is None else self.pushed + pushed


def _bytes_of(state: State) -> int:
    tensors = [t for t in (state.h, state.c, state.heads) if t is not None]
    return sum(t.numel() * t.element_size() for t in tensors)


def _check_same(now: State, wanted: State, left_over: Tensor | None) -> None:
    """Raise ``E_REVERSAL`` unless states and buffer are as wanted (SEQ-009).

    On a device all comparisons are made with one synchronisation.
    """
    states = [(now.h, wanted.h), (now.c, wanted.c), (now.heads, wanted.heads)]
    pairs = [(a, b) for a, b in states if a is not None and b is not None]
    if left_over is not None:
        pairs.append((left_over, torch.zeros_like(left_over)))
    if now.h.device.type == "cpu":
        same = all(torch.equal(a, b) for a, b in pairs)
    else:
        same = not bool(torch.stack([(a != b).any() for a, b in pairs]).any())
    if not same:
        raise RevRNNError("E_REVERSAL", "state", "another state or buffer", "those at the start")
