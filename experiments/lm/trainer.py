"""What the training loop asks of a framework."""

from __future__ import annotations

from typing import Protocol

from revrnn.experiments import training
from revrnn.experiments.runs import Arrays
from revrnn.experiments.settings import FRAMEWORKS

from .corpus import Ids
from .parameters import Floats
from .settings import LmSettings

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
        log_frequencies: of the words, float32 ``[V]``; see :func:`.parameters.initial_parameters`.
    """
    assert settings.framework in FRAMEWORKS
    if settings.framework == "torch":
        from .torch_trainer import TorchTrainer

        return TorchTrainer(settings, log_frequencies)
    from .jax_trainer import JaxTrainer

    return JaxTrainer(settings, log_frequencies)
