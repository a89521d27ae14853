"""The eager engine: tensor operations on every device, for every stack.

It reads like the specification; the other engines are compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from revrnn.config import Config

from .buffer import Buffer, make_buffer
from .engine import Engine, Settings, Store
from .gradients import Backward
from .product import method_for
from .sequence import Schedule, Stack
from .state import State
from .walk import Walk


class EagerWork:
    """A stack ready for walks over one sequence."""

    def __init__(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> None:
        """Prepare the weights."""
        self.config, self.params, self.schedule = config, params, schedule
        self.settings, self.stack = settings, Stack(config, params)
        self._made: Backward | None = None

    def start(self, state: State, *, keep: bool, count: bool, store: Store | None = None) -> Walk:
        """Return a walk that starts at a state."""
        stored = self.settings.states == "stored"
        keeps_words = keep and not stored
        buffer = make_buffer(self.config, state.heads, keeps_words, self.settings.offload)
        walk = Walk(
            self.stack,
            state,
            self.schedule,
            buffer,
            self.settings.chunk_size,
            backward=self._backward,
            keep=keep,
            keep_states=keep and stored,
            count=count,
        )
        if store is not None:
            walk.slices = [] if store.slices is None else [store.slices]
            load(buffer, store)
        return walk

    def _backward(self) -> Backward:
        if self._made is None:
            self._made = Backward(self.config, self.params, self.schedule)
        return self._made


def load(buffer: Buffer | None, store: Store) -> None:
    """Make a store a buffer's only block (EVAL-006)."""
    if buffer is not None:
        buffer.load(store.words, store.flags)


class EagerEngine(Engine):
    """Tensor operations, step by step."""

    name = "eager"

    def refusal(self, config: Config, device: torch.device, settings: Settings) -> str | None:
        """Refuse nothing that a configuration can ask for."""
        return None

    def prepare(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> EagerWork:
        """Prepare the weights."""
        return EagerWork(config, params, schedule, settings)

    def product(self, config: Config, device: torch.device) -> str:
        """Return the ways of the recurrent products and of the input's."""
        return method_for(config, device)


ENGINE = EagerEngine()
