"""Training a translation model in PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from revrnn.experiments.torch_training import TorchTraining, seed_from
from revrnn.torch_impl import compiled_steps

from .batches import Batch
from .parameters import initial_parameters
from .search import Stepper
from .settings import NmtSettings
from .torch_model import Tensors, TorchModel, TorchStepper


class TorchTrainer(TorchTraining):
    """See :class:`revrnn.experiments.nmt.trainer.Trainer`."""

    def __init__(self, settings: NmtSettings, source_words: int, target_words: int) -> None:
        """Make a model with its first values, and the optimiser."""
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = TorchModel(settings, source_words, target_words).to(self.device)
        optimiser = torch.optim.Adam(self.model.parameters(), settings.learning_rate)
        super().__init__(self.model, optimiser)
        shapes = {name: tuple(value.shape) for name, value in self.names.items()}
        self.set_parameters(initial_parameters(shapes, settings.seed, settings.hidden_size))

    def step(self, batch: Batch, update: int, learning_rate: float) -> float:
        """Train on one batch."""
        seed_from(self.settings.seed, 2, update)
        self.model.train()
        self.optimiser.zero_grad()
        with compiled_steps(self.settings.compiled):
            loss, _ = self.model.backward(Tensors.of(batch, self.device))
        self.update(learning_rate, self.settings.clip)
        return float(loss)

    def evaluate(self, batch: Batch) -> float:
        """Return the sum of the batch's losses in nats."""
        self.model.eval()
        with compiled_steps(self.settings.compiled):
            return self.model.measure(Tensors.of(batch, self.device))

    def stepper(self, batch: Batch) -> tuple[Stepper[Any], Any]:
        """Return what translates the batch."""
        self.model.eval()
        found = TorchStepper(self.model)
        return found, found.first(Tensors.of(batch, self.device))
