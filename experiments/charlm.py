"""A character-level language model around a reversible stack: what both frameworks share.

``embedding`` → reversible stack → ``readout``, cross-entropy in nats a character. The model for a
framework is in ``charlm_torch`` or ``charlm_jax``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from revrnn import Config

from .text import Batch

Weights = dict[str, npt.NDArray[Any]]


class Trainer(Protocol):
    """A model in one framework, with its optimiser and the exact state that it carries."""

    framework: str

    def gradients(self, batch: Batch) -> Weights:
        """Return the gradients of all weights at a batch, float32, and change nothing."""
        ...

    def step(self, batch: Batch) -> float:
        """Train on one batch, carry the state on, and return the loss in nats a character."""
        ...

    def weights(self) -> Weights:
        """Return the present weights, float32."""
        ...

    def carried(self) -> Weights:
        """Return the exact state before the next batch: ``h``, ``c``, ``heads`` (SEQ-006)."""
        ...


def initial_weights(config: Config, vocabulary: int, seed: int) -> Weights:
    """Return float32 weights by name: the stack's, ``embedding`` ``[V, I]``, ``readout``."""
    generator = np.random.default_rng(seed)
    bound = 1 / np.sqrt(config.hidden_size)
    weights = {
        name: generator.uniform(-bound, bound, shape)
        for name, shape in config.parameter_shapes().items()
    }
    weights["embedding"] = generator.normal(0, 0.5, (vocabulary, config.input_size))
    weights["readout"] = generator.uniform(-bound, bound, (vocabulary, config.hidden_size))
    weights["readout_bias"] = np.zeros(vocabulary)
    return {name: value.astype(np.float32) for name, value in weights.items()}
