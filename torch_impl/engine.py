"""The interface of engines, which run a stack over a sequence.

An :class:`Engine` processes a sequence by chunks of steps. :meth:`Pass.advance` runs a chunk
forward; :meth:`Pass.recover` reverses it, and returns what its gradients need, the *tape*;
:meth:`Pass.pullback` carries the gradient back over a tape. Engines differ in speed alone: states,
outputs, buffer and counts are the same bits. Gradients are float32, equal within an engine
(GRAD-020) and close between engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.plan import CHUNK_SIZE

from .conversions import CONVERSIONS, Conversions
from .gradients import Gradients
from .sequence import Schedule
from .state import State


@dataclass(frozen=True)
class Settings:
    """How a sequence is processed; no state depends on it.

    Attributes:
        chunk_size: steps handled together.
        states: ``"reversed"``, or ``"stored"`` to keep all states (GRAD-020).
        checkpoint_every: keep the exact state every so many steps, and the words of one piece at a
            time; pieces are run again in the backward pass. ``None`` keeps all words.
        offload: whether full blocks of words go to the host's memory.
        count: whether to count gates and words for a report.
        in_order: whether :meth:`Pass.store` must give words in the order of BUF-005.
    """

    chunk_size: int = CHUNK_SIZE
    states: str = "reversed"
    checkpoint_every: int | None = None
    offload: bool = False
    count: bool = False
    in_order: bool = False


@dataclass
class Store:
    """A buffer's store, bottom to top, as the specification orders it (EVAL-006).

    Attributes:
        words: int16 bit patterns ``[W]`` for ``stream``, int64 ``[P, B, G]`` for ``wordlist``.
        flags: uint8 ``[F]``, none for ``stream``.
        slices: int32 ``[T+1, B, D]``, or ``None`` (SEQ-007).
    """

    words: Tensor
    flags: Tensor
    slices: Tensor | None = None


class Pass(Protocol):
    """The forward and backward pass over a piece of a sequence, chunk by chunk."""

    @property
    def wraps(self) -> Tensor | None:
        """How often a state wrapped, int64 ``[]``, or ``None`` where none can (FMT-006)."""

    @property
    def gate_counts(self) -> Tensor | None:
        """Histograms of the gates, int64 ``[L, 1025]``, or ``None`` if not counted (ACC-001)."""

    @property
    def pushed(self) -> Tensor | None:
        """Words (planes) that each layer pushed, int64 ``[L]``, counted with the gates."""

    def advance(self, x: Tensor, first: int, outputs: Tensor | None = None) -> None:
        """Take a chunk of steps.

        Args:
            x: their input operands, int16 ``[C, B, I]``, ``C`` at most the chunk size times
                :attr:`Engine.ahead`.
            first: number of the first.
            outputs: where to write ``h`` of the top layer after each, int32 ``[C, B, H]``.
        """

    def recover(
        self, x: Tensor, first: int, outputs: Tensor | None = None, finish: bool = True
    ) -> Any:
        """Reverse the last chunk, or look its states up, and return its tape.

        Args:
            x: its input operands again.
            first: number of its first step.
            outputs: where to write ``h`` of the top layer after each, int32 ``[C, B, H]``.
            finish: whether words left in the buffer's block are a fault. If not, the next call may
                continue with the same block.
        """

    def pullback(
        self, tape: Any, grad_outputs: Tensor | None, into: Gradients, dx: Tensor | None
    ) -> None:
        """Carry the gradient over a chunk that was just recovered.

        Args:
            tape: from :meth:`recover`; it is used up.
            grad_outputs: with respect to the chunk's outputs, float32 ``[C, B, H]``.
            into: the gradient with respect to the state after the chunk, which becomes that with
                respect to the state before it; parameter gradients are added up.
            dx: where the gradient with respect to the chunk's input is written, float32 ``[C, B,
                I]``; ``None`` if it is not wanted.
        """

    def take_back(
        self,
        x: Tensor,
        first: int,
        outputs: Tensor | None,
        grad_outputs: Tensor | None,
        into: Gradients,
        dx: Tensor | None,
    ) -> None:
        """Do both: recover what one :meth:`advance` took, and carry the gradient over it.

        ``x`` and all that follows it are of as many steps, ``C`` at most as there.
        """

    def state(self) -> State:
        """Return the present state, sharing nothing with the pass."""

    def store(self) -> Store:
        """Return what is in the buffer; words in their order if the settings ask for it."""

    def left_over(self) -> Tensor | None:
        """Return how much the reversal left in the buffer, for SEQ-009; 0 or ``None`` is right."""

    def check_underflow(self) -> None:
        """Raise ``E_UNDERFLOW`` or ``E_RANGE`` if more was popped than there was (BUF-032)."""

    def bytes_kept(self) -> int:
        """Return the bytes kept for the backward pass: words, slices, states of reset rows."""


def take_back_by_parts(
    self: Pass,
    x: Tensor,
    first: int,
    outputs: Tensor | None,
    grad_outputs: Tensor | None,
    into: Gradients,
    dx: Tensor | None,
) -> None:
    """Do :meth:`Pass.take_back` by its two parts."""
    self.pullback(self.recover(x, first, outputs), grad_outputs, into, dx)


class Work(Protocol):
    """A stack with its weights prepared, ready for passes over pieces of one sequence."""

    def start(self, state: State, *, keep: bool, count: bool, store: Store | None = None) -> Pass:
        """Return a pass at the beginning of a piece.

        Args:
            state: where to start; it is not changed.
            keep: whether there will be a backward pass.
            count: whether to count gates and words.
            store: what was kept of a chunk, if ``state`` is the state *after* that chunk.
        """


class Engine(Protocol):
    """A way to compute passes.

    Attributes:
        name: what it is chosen by.
        ahead: how many chunks :meth:`Pass.advance` takes in one call, and :meth:`Pass.take_back`,
            of steps that have no mask, resets or gains, where their inputs and outputs are in
            memory anyway.
    """

    name: str
    ahead: int = 1

    @property
    def conversions(self) -> Conversions:
        """Conversions of inputs and outputs: PyTorch's, unless the engine has its own."""
        return CONVERSIONS

    def refusal(self, config: Config, device: torch.device, settings: Settings) -> str | None:
        """Return the reason why the engine does not take this, or ``None`` if it does."""

    def prepare(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> Work:
        """Take parameters in fixed point, int16 weights and int32 biases (CELL-003)."""

    def product(self, config: Config, device: torch.device) -> str:
        """Describe which exact product the engine would use."""
