"""What the training loop asks of a framework."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from revrnn.experiments.runs import Arrays

from .corpus import Ids
from .settings import FRAMEWORKS, LmSettings

# Rows of validation and test text.
EVALUATION_ROWS = 10


class Trainer(Protocol):
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

    def parameters(self) -> Arrays:
        """Return a copy of the parameters, float32, by name."""
        ...

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters that :meth:`parameters` gave."""
        ...

    def arrays(self) -> Arrays:
        """Return a copy of all that is needed to go on: parameters, optimiser, exact state."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
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
    generator = np.random.default_rng([seed, 0])
    found: dict[str, npt.NDArray[Any]] = {}
    for name, shape in shapes.items():
        bound = 0.1 if name in ("embedding", "readout.weight") else hidden_size**-0.5
        value = generator.uniform(-bound, bound, shape)
        found[name] = (0 * value if name == "readout.bias" else value).astype(np.float32)
    return found
