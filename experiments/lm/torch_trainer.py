"""Training a language model in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from revrnn.experiments.runs import Arrays, prefixed, without_prefix
from revrnn.experiments.torch_training import TorchTraining, seed_from
from revrnn.torch_impl import compiled_steps

from .corpus import Ids
from .parameters import Floats, initial_parameters
from .settings import LmSettings
from .torch_model import TorchModel, state_arrays, state_from


class TorchTrainer(TorchTraining):
    """See :class:`revrnn.experiments.lm.trainer.Trainer`."""

    def __init__(self, settings: LmSettings, log_frequencies: Floats) -> None:
        """Make a model with its first values, and the optimiser."""
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = TorchModel(settings, len(log_frequencies)).to(self.device)
        kind = torch.optim.SGD if settings.optimiser == "sgd" else torch.optim.AdamW
        rate, decay = settings.learning_rate, settings.weight_decay
        if settings.compiled:
            # What runs before in this process compiled counts against a limit of programs.
            torch.compiler.reset()
        super().__init__(self.model, kind(self.model.parameters(), rate, weight_decay=decay))
        shapes = {name: tuple(value.shape) for name, value in self.names.items()}
        self.set_parameters(initial_parameters(shapes, settings, log_frequencies))
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the carried state."""
        self.state = self._fresh(self.settings.batch_size)

    def _fresh(self, rows: int) -> Any:
        fresh = self.model.initial_state(rows)
        moved = {name: value.to(self.device) for name, value in state_arrays(fresh).items()}
        return state_from(moved, fresh)

    def _tensor(self, ids: Ids) -> Tensor:
        return torch.from_numpy(ids).long().to(self.device)

    def step(self, tokens: Ids, targets: Ids, update: int, learning_rate: float) -> float:
        """Train on one segment."""
        seed_from(self.settings.seed, 2, update)
        self.model.train()
        self.optimiser.zero_grad()
        with compiled_steps(self.settings.compiled):
            loss, self.state = self.model.backward(
                self._tensor(tokens), self._tensor(targets), self.state
            )
        self.update(learning_rate, self.settings.clip)
        return loss

    def evaluate(self, ids: Ids) -> float:
        """Return the mean loss in nats a word."""
        self.model.eval()
        state, total = self._fresh(ids.shape[1]), 0.0
        for first in range(0, len(ids) - 1, self.settings.steps):
            if not self.settings.carry_state:
                state = self._fresh(ids.shape[1])
            part = self._tensor(ids[first : first + self.settings.steps + 1])
            with compiled_steps(self.settings.compiled):
                loss, state = self.model.measure(part[:-1], part[1:], state)
            total += loss * (len(part) - 1)
        return total / (len(ids) - 1)

    def arrays(self) -> Arrays:
        """Return all that is needed to go on."""
        state = {name: value.cpu().numpy() for name, value in state_arrays(self.state).items()}
        return super().arrays() | prefixed("state", state)

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        super().restore(arrays)
        state = without_prefix("state", arrays)
        tensors = {name: torch.from_numpy(value).to(self.device) for name, value in state.items()}
        self.state = state_from(tensors, self.state)
