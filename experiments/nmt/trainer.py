"""What the training loop asks of a framework."""

from __future__ import annotations

from typing import Any, Protocol

from revrnn.experiments import training
from revrnn.experiments.runs import Arrays, uniform_parameters
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


def outer_shapes(
    settings: NmtSettings, source_words: int, target_words: int
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what is not recurrent, the same in both frameworks."""
    embedding, hidden = settings.embedding_size, settings.hidden_size
    seen = sum(settings.context_sizes())
    return {
        "source_embedding": (source_words, embedding),
        "target_embedding": (target_words, embedding),
        "attention.score": (seen, hidden),
        "attention.combine": (hidden, seen + hidden),
        "readout.weight": (target_words, hidden),
        "readout.bias": (target_words,),
    }


def initial_parameters(shapes: dict[str, tuple[int, ...]], seed: int, hidden_size: int) -> Arrays:
    """Return first values, the same in both frameworks for the same names and shapes.

    Embeddings are uniform in ±0.1, the output layer's bias is 0, all else is uniform in
    ±1/√hidden_size.
    """

    def bound(name: str) -> float:
        if name == "readout.bias":
            return 0.0
        return 0.1 if name.endswith("embedding") else hidden_size**-0.5

    return uniform_parameters(dict(sorted(shapes.items())), bound, seed)
