"""Back-propagation through time that recomputes states: forward, and back by reversal.

:class:`Bptt` holds no input, no output and no gradient of the length of the sequence: inputs come
from a function, chunk by chunk, forwards and back; outputs, gradients of outputs and gradients of
inputs go through functions of the same kind. What it keeps is the buffer, and for very long
sequences a few states (:attr:`Settings.checkpoint_every`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .buffer import make_buffer
from .gradients import Backward, Gradients
from .sequence import CHUNK_SIZE, Schedule, Stack, Walk
from .state import State

# From the number of the first step and of the one after the last, the input operands int16.
Inputs = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Settings:
    """How a sequence is gone through; no state depends on it.

    Attributes:
        chunk_size: steps handled together.
        states: ``"reversed"``, or ``"stored"`` to keep all states (GRAD-020).
        checkpoint_every: keep the exact state every so many steps, and words only of the piece in
            work; the pieces are run again on the way back. ``None`` keeps all words.
        offload: whether full blocks of words go to the host's memory.
        count: whether to count gates and words for a report.
    """

    chunk_size: int = CHUNK_SIZE
    states: str = "reversed"
    checkpoint_every: int | None = None
    offload: bool = False
    count: bool = False


class Bptt:
    """One sequence, forward and back.

    Attributes:
        end: the final state, after :meth:`forward`.
        wraps: how often a state wrapped (MUL-006).
        gate_counts: int64 ``[L, 1025]`` on the device, if counted.
        pushed: words that each layer pushed, int64 ``[L]``, if counted.
        bytes_kept: bytes kept after the forward pass in order to go back, host included.
    """

    def __init__(
        self,
        config: Config,
        params: Mapping[str, Tensor],
        steps: int,
        start: State,
        schedule: Schedule,
        settings: Settings,
    ) -> None:
        """Take parameters in fixed point and everything but the inputs."""
        self.config, self.params, self.steps = config, params, steps
        self.start, self.schedule, self.settings = start, schedule, settings
        self.stack = Stack(config, params)
        self.end = start
        self.wraps = 0
        self.gate_counts: Tensor | None = None
        self.pushed: Tensor | None = None
        self.bytes_kept = 0
        every = settings.checkpoint_every
        if settings.states == "stored" or every is None or every >= steps:
            every = max(steps, 1)
        chunk = settings.chunk_size
        self.every = -(-every // chunk) * chunk  # pieces are whole chunks
        self._checkpoints: list[State] = []
        self._walk: Walk | None = None

    def forward(
        self,
        inputs: Inputs,
        outputs: Callable[[int, Tensor], None] | None = None,
        keep: bool = True,
    ) -> State:
        """Run forward and return the final state.

        Args:
            inputs: where inputs come from.
            outputs: takes each chunk's first step and outputs, int32 ``[C, B, H]``.
            keep: whether there will be a way back; without it nothing is kept (SEQ-010).
        """
        state, wraps = self.start, []
        for begin in range(0, max(self.steps, 1), self.every):
            stop = min(begin + self.every, self.steps)
            last = stop == self.steps
            # What is counted must be pushed, also in pieces whose words are then let go.
            count = self.settings.count
            walk = self._walk_from(state, keep=keep and (last or count), count=count)
            if keep:
                self._checkpoints.append(state)
                self.bytes_kept += 0 if begin == 0 else _bytes_of(state)
            self._run(walk, begin, stop, inputs, outputs)
            state = walk.state()
            if walk.wraps is not None:
                wraps.append(walk.wraps)
            self._add_counts(walk)
            if keep and last:
                self._walk = walk
                self.bytes_kept += walk.bytes_kept()
        self.wraps = int(torch.stack(wraps).sum()) if wraps else 0
        self.end = state
        return state

    def backward(
        self,
        inputs: Inputs,
        inputs_back: Inputs,
        grad_state: tuple[Tensor | None, Tensor | None],
        grad_outputs: Callable[[int, Tensor], Tensor | None],
        grad_inputs: Callable[[int, Tensor], None] | None = None,
    ) -> Gradients:
        """Go back and return the gradients.

        Args:
            inputs: the same inputs again, for pieces that are run again.
            inputs_back: the same, last chunk first; each is followed by its ``grad_inputs``.
            grad_state: with respect to the final ``h`` and ``c``, float ``[L, B, H]``.
            grad_outputs: is given each chunk's first step and outputs, int32 ``[C, B, H]``, last
                chunk first; gives the gradient with respect to these outputs.
            grad_inputs: is given each chunk's first step and the gradient of its input.

        Raises:
            RevRNNError: ``E_REVERSAL`` if the way back does not end where it began (SEQ-009).
        """
        backward = Backward(self.config, self.params, self.schedule, self.end)
        backward.add_to_state(*grad_state)
        end, walk = self.end, self._walk
        while self._checkpoints:
            start = self._checkpoints.pop()
            begin = len(self._checkpoints) * self.every
            stop = min(begin + self.every, self.steps)
            if walk is None:
                walk = self._walk_from(start, keep=True, count=False)
                self._run(walk, begin, stop, inputs, None)
                _check_same(walk.state(), end, None)
            for first in reversed(range(begin, stop, self.settings.chunk_size)):
                x = inputs_back(first, min(first + self.settings.chunk_size, stop))
                shape = (*x.shape[:2], self.config.hidden_size)
                outputs = torch.empty(shape, dtype=torch.int32, device=x.device)
                steps = walk.back(x, first, outputs)
                gradient = grad_outputs(first, outputs)
                dx = backward.chunk(x, first, steps, gradient)
                if grad_inputs is not None:
                    grad_inputs(first, dx)
            if walk.states is None:
                _check_same(walk.state(), start, walk)
            end, walk, self._walk = start, None, None
        return backward.gradients()

    def _walk_from(self, state: State, *, keep: bool, count: bool) -> Walk:
        stored = self.settings.states == "stored"
        buffer = make_buffer(self.config, state.heads, keep and not stored, self.settings.offload)
        return Walk(
            self.stack, state, self.schedule, buffer, self.settings.chunk_size,
            keep_states=keep and stored, keep=keep, count=count,
        )  # fmt: skip

    def _run(
        self,
        walk: Walk,
        begin: int,
        stop: int,
        inputs: Inputs,
        outputs: Callable[[int, Tensor], None] | None,
    ) -> None:
        for first in range(begin, stop, self.settings.chunk_size):
            x = inputs(first, min(first + self.settings.chunk_size, stop))
            found = None
            if outputs is not None:
                shape = (*x.shape[:2], self.config.hidden_size)
                found = torch.empty(shape, dtype=torch.int32, device=x.device)
            walk.forward(x, first, found)
            if outputs is not None and found is not None:
                outputs(first, found)

    def _add_counts(self, walk: Walk) -> None:
        counts, pushed = walk.context.gate_counts, walk.context.pushed
        if counts is not None and pushed is not None:
            self.gate_counts = counts if self.gate_counts is None else self.gate_counts + counts
            self.pushed = pushed if self.pushed is None else self.pushed + pushed


def _bytes_of(state: State) -> int:
    tensors = [t for t in (state.h, state.c, state.heads) if t is not None]
    return sum(t.numel() * t.element_size() for t in tensors)


def _check_same(found: State, wanted: State, walk: Walk | None) -> None:
    """Raise ``E_REVERSAL`` unless states and buffer are as wanted (SEQ-009).

    All comparisons are made with one synchronisation.
    """
    pairs = [(found.h, wanted.h), (found.c, wanted.c), (found.heads, wanted.heads)]
    different = [(a != b).any() for a, b in pairs if a is not None and b is not None]
    if walk is not None and walk.buffer is not None:
        different.append((walk.buffer.left_over != 0).any())
    if bool(torch.stack(different).any()):
        raise RevRNNError("E_REVERSAL", "state", "another state or buffer", "those at the start")
