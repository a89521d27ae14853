"""What the training loop asks of a framework."""

from __future__ import annotations

from typing import Protocol

from revrnn.experiments import training
from revrnn.experiments.runs import Arrays, uniform_parameters
from revrnn.experiments.settings import FRAMEWORKS

from .corpus import Ids
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
        """Return the mean loss of streams ``[N, B]`` in nats a word, from a fresh state."""
        ...

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters that :meth:`parameters` gave."""
        ...


def make_trainer(settings: LmSettings, vocabulary: int) -> Trainer:
    """Return a trainer; imports the framework that it needs alone."""
    assert settings.framework in FRAMEWORKS
    if settings.framework == "torch":
        from .torch_trainer import TorchTrainer

        return TorchTrainer(settings, vocabulary)
    from .jax_trainer import JaxTrainer

    return JaxTrainer(settings, vocabulary)


def initial_parameters(shapes: dict[str, tuple[int, ...]], seed: int, hidden_size: int) -> Arrays:
    """Return first values, the same in both frameworks.

    Recurrent parameters and the projection are uniform in ±1/√hidden_size, the embedding and an own
    softmax in ±0.1, the softmax's bias 0.
    """

    def bound(name: str) -> float:
        special = {"embedding": 0.1, "readout.weight": 0.1, "readout.bias": 0.0}
        return float(special.get(name, hidden_size**-0.5))

    return uniform_parameters(shapes, bound, seed)
