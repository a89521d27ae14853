"""What training in PyTorch shares: parameters, checkpoints, random numbers, updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .runs import Arrays, prefixed, without_prefix


def seed_from(*numbers: int) -> None:
    """Let these numbers decide what PyTorch draws next."""
    torch.manual_seed(int(np.random.SeedSequence(list(numbers)).generate_state(1)[0]))


@torch.no_grad()
def set_parameters(model: nn.Module, arrays: Arrays) -> None:
    """Give a model's parameters, by name, new values."""
    for name, value in model.named_parameters():
        if arrays[name].shape != value.shape:
            raise ValueError(f"{name} of shape {arrays[name].shape}, not {tuple(value.shape)}")
        value.copy_(torch.from_numpy(arrays[name]))


class TorchTraining:
    """A model and its optimiser, as updates change them and checkpoints hold them."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Take both; the optimiser is one of all the model's parameters."""
        self._model, self.optimiser = model, optimiser
        # A shared parameter is there once, under its first name.
        self.names: Mapping[str, nn.Parameter] = dict(model.named_parameters())

    def update(self, learning_rate: float, clip: float) -> None:
        """Change the parameters by their gradients, first cut to a norm of ``clip`` together."""
        nn.utils.clip_grad_norm_(self.names.values(), clip)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()

    def parameters(self) -> Arrays:
        """Return a copy of the parameters, float32, by name."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.names.items()}

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters that :meth:`parameters` gave."""
        set_parameters(self._model, arrays)

    def arrays(self) -> Arrays:
        """Return a copy of parameters and optimiser."""
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
            parameter, tensor = self.names[name], torch.from_numpy(value.copy())
            # Adam's count of updates stays on the host.
            moved = tensor if kind == "step" else tensor.to(parameter.device)
            self.optimiser.state[parameter][kind] = moved
