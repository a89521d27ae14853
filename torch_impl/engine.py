"""The interface of engines, which run a stack over a sequence, and the choice among them.

An :class:`Engine` processes a sequence by chunks of steps. :meth:`Pass.advance` runs a chunk
forward; :meth:`Pass.recover` reverses it, and returns what its gradients need, the *tape*;
:meth:`Pass.pullback` carries the gradient back over a tape. Engines differ in speed alone: states,
outputs, buffer and counts are the same bits. Gradients are float32, equal within an engine
(GRAD-020) and close between engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from revrnn.config import Config, check_config
from revrnn.engine_plan import EnginePlan
from revrnn.errors import RevRNNError, check_one_of, shown, type_name
from revrnn.plan import CHUNK_SIZE

from .conversions import CONVERSIONS, Conversions
from .forks import wait_for_none
from .gradients import Gradients
from .sequence import Schedule
from .state import State

# In order of preference; the last one takes everything.
_ENGINES: Final = {
    "triton-persistent": "triton.persistent_engine",
    "triton": "triton.engine",
    "native": "native.engine",
    "eager": "eager",
}
# Those that "auto" does not choose, and why.
_UNTRIED: Final = "no GPU has run it yet, so it must be chosen by name"
_BY_NAME: Final = {"triton-persistent": _UNTRIED, "triton": _UNTRIED}


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


_chosen = "auto"


def set_engine(name: str) -> None:
    """Choose what computes sequences; no state depends on it.

    Args:
        name: ``"eager"`` takes every cell, layout and device; ``"auto"`` the fastest that takes
            what is asked; any other name that engine alone, an error where it refuses.
    """
    global _chosen
    check_one_of("name", name, ("auto", *_ENGINES))
    _chosen = name


def chosen_engine() -> str:
    """Return what :func:`set_engine` was given last, or ``"auto"``."""
    return _chosen


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose an engine for the time of a ``with`` block."""
    before = _chosen
    set_engine(name)
    try:
        yield
    finally:
        set_engine(before)


@cache
def _engine(name: str) -> Engine:
    made: Engine = import_module(f".{_ENGINES[name]}", __package__).ENGINE
    return made


def choose(config: Config, device: torch.device, settings: Settings) -> Engine:
    """Return the engine for a sequence.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` with the reason if the chosen engine refuses.
    """
    wait_for_none()
    chosen, reasons = _first(config, device, settings)
    if chosen is None:
        raise RevRNNError("E_UNSUPPORTED", "engine", shown(_chosen), _allowed(reasons[_chosen]))
    return chosen


def _allowed(reason: str) -> str:
    return f"'auto' or 'eager' here: {reason}"


def _first(
    config: Config, device: torch.device, settings: Settings
) -> tuple[Engine | None, dict[str, str]]:
    """Return the first engine asked that does not refuse, and why the others did."""
    reasons: dict[str, str] = {}
    for name in _ENGINES if _chosen == "auto" else (_chosen,):
        candidate = _engine(name)
        reason = candidate.refusal(config, device, settings)
        if reason is None and _chosen == "auto":
            reason = _BY_NAME.get(name)
        if reason is None:
            return candidate, reasons
        reasons[name] = reason
    return None, reasons


def as_device(device: torch.device | str) -> torch.device:
    """Return a device, which need not exist on this machine, or raise ``E_ARGUMENT``."""
    try:
        return torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise RevRNNError("E_ARGUMENT", "device", shown(device), "a device") from error


def engine_plan(
    config: Config, device: torch.device | str = "cpu", settings: Settings | None = None
) -> EnginePlan:
    """Return what would compute a sequence of a stack on a device, and how.

    Args:
        config: the stack (``module.config``).
        device: where its parameters are.
        settings: how it will be processed; by default as modules do.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if the chosen engine refuses.
    """
    check_config(config)
    if settings is not None and not isinstance(settings, Settings):
        raise RevRNNError("E_ARGUMENT", "settings", type_name(settings), "None, or a Settings")
    settings, where = settings or Settings(), as_device(device)
    chosen = choose(config, where, settings)
    _, reasons = _first(config, where, settings)
    return EnginePlan(chosen.name, chosen.product(config, where), reasons)
