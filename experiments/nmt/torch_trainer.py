"""Training a translation model in PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from revrnn.experiments.runs import Arrays, prefixed, without_prefix
from revrnn.torch_impl import compiled_steps

from .batches import Batch
from .search import Stepper
from .settings import NmtSettings
from .torch_model import Tensors, TorchModel, TorchStepper
from .trainer import initial_parameters


class TorchTrainer:
    """See :class:`revrnn.experiments.nmt.trainer.Trainer`."""

    def __init__(self, settings: NmtSettings, source_words: int, target_words: int) -> None:
        """Make a model with its first values, and the optimiser."""
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = TorchModel(settings, source_words, target_words).to(self.device)
        self.names = dict(self.model.named_parameters())
        shapes = {name: tuple(value.shape) for name, value in self.names.items()}
        self.set_parameters(initial_parameters(shapes, settings.seed, settings.hidden_size))
        self.optimiser = torch.optim.Adam(self.names.values(), settings.learning_rate)

    def _steps(self) -> Any:
        return compiled_steps() if self.settings.compiled else nullcontext()

    def step(self, batch: Batch, update: int, learning_rate: float) -> float:
        """Train on one batch."""
        seed_from(self.settings.seed, 2, update)
        self.model.train()
        self.optimiser.zero_grad()
        with self._steps():
            loss, _ = self.model.backward(Tensors.of(batch, self.device))
        torch.nn.utils.clip_grad_norm_(self.names.values(), self.settings.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        return float(loss)

    def evaluate(self, batch: Batch) -> float:
        """Return the sum of the batch's losses in nats."""
        self.model.eval()
        with self._steps():
            return self.model.measure(Tensors.of(batch, self.device))

    def stepper(self, batch: Batch) -> tuple[Stepper[Any], Any]:
        """Return what translates the batch."""
        self.model.eval()
        found = TorchStepper(self.model)
        return found, found.first(Tensors.of(batch, self.device))

    def parameters(self) -> Arrays:
        """Return a copy of the parameters."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.names.items()}

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters."""
        with torch.no_grad():
            for name, value in self.names.items():
                value.copy_(torch.from_numpy(arrays[name]))

    def arrays(self) -> Arrays:
        """Return all that is needed to go on."""
        found = prefixed("parameters", self.parameters())
        for name, parameter in self.names.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"optimiser/{key}/{name}"] = value.cpu().numpy().copy()
        return found

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.set_parameters(without_prefix("parameters", arrays))
        for key, value in without_prefix("optimiser", arrays).items():
            kind, _, name = key.partition("/")
            tensor = torch.from_numpy(value.copy())
            # Adam's count of updates stays on the host.
            moved = tensor if kind == "step" else tensor.to(self.device)
            self.optimiser.state[self.names[name]][kind] = moved


def seed_from(*numbers: int) -> None:
    """Let these numbers decide what PyTorch draws next."""
    torch.manual_seed(int(np.random.SeedSequence(list(numbers)).generate_state(1)[0]))
