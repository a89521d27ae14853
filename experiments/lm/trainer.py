"""What the training loop asks of a framework."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from revrnn.experiments import training
from revrnn.experiments.runs import Arrays, uniform_parameters
from revrnn.experiments.settings import FRAMEWORKS

from .corpus import Ids
from .settings import LmSettings

Floats = npt.NDArray[np.float32]

# Rows of validation and test text.
EVALUATION_ROWS = 10


class Trainer(training.Trainer, Protocol):
    """A language model in one framework, with its optimiser and the state that it carries."""

    def step(self, tokens: Ids, targets: Ids, update: int, learning_rate: float) -> float:
        """Train on one segment ``[T, B]``, carry the state on, return the loss in nats a word.

        All that is random depends on the run's seed and ``update`` alone.
        """
        ...

    def start_anew(self) -> None:
        """Forget the carried state: a new pass over the text begins."""
        ...

    def evaluate(self, ids: Ids) -> float:
        """Return the mean loss of streams ``[N, B]`` in nats a word, from a fresh state.

        Without ``carry_state`` every segment of ``steps`` words begins with one.
        """
        ...

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters that :meth:`parameters` gave."""
        ...


def make_trainer(settings: LmSettings, log_frequencies: Floats) -> Trainer:
    """Return a trainer of a model of V words; imports the framework that it needs alone.

    Args:
        settings: of the run.
        log_frequencies: of the words, float32 ``[V]``; see :func:`initial_parameters`.
    """
    assert settings.framework in FRAMEWORKS
    if settings.framework == "torch":
        from .torch_trainer import TorchTrainer

        return TorchTrainer(settings, log_frequencies)
    from .jax_trainer import JaxTrainer

    return JaxTrainer(settings, log_frequencies)


def initial_parameters(
    shapes: dict[str, tuple[int, ...]], settings: LmSettings, log_frequencies: Floats
) -> Arrays:
    """Return first values, the same in both frameworks.

    Recurrent parameters and the projection are uniform in ±1/√hidden_size, the embedding and an own
    softmax in ±0.1. The softmax's bias begins at the log frequencies of the words: with a bias of 0
    the fastest way to learn them is a state that is large and always the same, and a RevLSTM, whose
    state has no small bound, is driven to the cap of its gates by it.
    """

    def bound(name: str) -> float:
        special = {"embedding": 0.1, "readout.weight": 0.1}
        return float(special.get(name, settings.hidden_size**-0.5))

    return uniform_parameters(shapes, bound, settings.seed) | {"readout.bias": log_frequencies}
