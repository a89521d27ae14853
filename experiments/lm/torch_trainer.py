"""Training a language model in PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from revrnn.experiments.runs import Arrays, prefixed, without_prefix
from revrnn.torch_impl import compiled_steps

from .corpus import Ids
from .settings import LmSettings
from .torch_model import TorchModel, state_arrays, state_from
from .trainer import initial_parameters


class TorchTrainer:
    """See :class:`revrnn.experiments.lm.trainer.Trainer`."""

    def __init__(self, settings: LmSettings, vocabulary: int) -> None:
        """Make a model with its first values, and the optimiser."""
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = TorchModel(settings, vocabulary).to(self.device)
        # A shared weight is there once, under its first name.
        self.names = dict(self.model.named_parameters())
        shapes = {name: tuple(value.shape) for name, value in self.names.items()}
        self.set_parameters(initial_parameters(shapes, settings.seed, settings.hidden_size))
        self.optimiser = self._optimiser()
        self.start_anew()

    def _optimiser(self) -> torch.optim.Optimizer:
        settings = self.settings
        parameters, rate = list(self.names.values()), settings.learning_rate
        if settings.optimiser == "sgd":
            return torch.optim.SGD(parameters, rate, weight_decay=settings.weight_decay)
        return torch.optim.AdamW(parameters, rate, weight_decay=settings.weight_decay)

    def _steps(self) -> Any:
        return compiled_steps() if self.settings.compiled else nullcontext()

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
        torch.manual_seed(
            int(np.random.SeedSequence([self.settings.seed, 2, update]).generate_state(1)[0])
        )
        self.model.train()
        self.optimiser.zero_grad()
        with self._steps():
            loss, self.state = self.model.backward(
                self._tensor(tokens), self._tensor(targets), self.state
            )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        return loss

    def evaluate(self, ids: Ids) -> float:
        """Return the mean loss in nats a word."""
        self.model.eval()
        state, total = self._fresh(ids.shape[1]), 0.0
        for first in range(0, len(ids) - 1, self.settings.steps):
            part = self._tensor(ids[first : first + self.settings.steps + 1])
            with self._steps():
                loss, state = self.model.measure(part[:-1], part[1:], state)
            total += loss * (len(part) - 1)
        return total / (len(ids) - 1)

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
        state = {name: value.cpu().numpy() for name, value in state_arrays(self.state).items()}
        found |= prefixed("state", state)
        for name, parameter in self.names.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"optimiser/{key}/{name}"] = value.cpu().numpy().copy()
        return found

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.set_parameters(without_prefix("parameters", arrays))
        state = without_prefix("state", arrays)
        tensors = {name: torch.from_numpy(value).to(self.device) for name, value in state.items()}
        self.state = state_from(tensors, self.state)
        for name, parameter in self.names.items():
            for key, value in without_prefix("optimiser", arrays).items():
                kind, _, whose = key.partition("/")
                if whose == name:
                    tensor = torch.from_numpy(value.copy())
                    moved = tensor if kind == "step" else tensor.to(self.device)
                    self.optimiser.state[parameter][kind] = moved
