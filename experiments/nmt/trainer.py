"""What the training loop asks of a framework."""

from __future__ import annotations

from typing import Any, Protocol

from revrnn.experiments import training
from revrnn.experiments.runs import Arrays
from revrnn.experiments.settings import FRAMEWORKS

from .batches import Batch
from .search import Stepper
from .settings import NmtSettings


class Trainer(training.Trainer, Protocol):
    """A translation model in one framework, with its optimiser."""

    def step(self, batch: Batch, update: int, learning_rate: float) -> float:
        """Train on one batch and return the loss in nats a word, before the update.

        All that is random depends on the run's seed and ``update`` alone.
        """
        ...

    def evaluate(self, batch: Batch) -> float:
        """Return the sum of the batch's losses in nats, without dropout."""
        ...

    def stepper(self, batch: Batch) -> tuple[Stepper[Any], Any]:
        """Return what translates the batch's sources word by word, and its first state."""
        ...

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters that :meth:`parameters` gave."""
        ...


def make_trainer(settings: NmtSettings, source_words: int, target_words: int) -> Trainer:
    """Return a trainer; imports the framework that it needs alone."""
    assert settings.framework in FRAMEWORKS
    if settings.framework == "torch":
        from .torch_trainer import TorchTrainer

        return TorchTrainer(settings, source_words, target_words)
    from .jax_trainer import JaxTrainer

    return JaxTrainer(settings, source_words, target_words)
