"""The character-level language model in PyTorch, trained by reversal."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from revrnn import Config
from revrnn.torch_impl import State, initial_state, rev_rnn

from .charlm import Weights
from .text import Batch


class TorchTrainer:
    """Adam on the character model; see :class:`revrnn.experiments.charlm.Trainer`."""

    framework = "torch"

    def __init__(self, config: Config, weights: Weights, rows: int, learning_rate: float) -> None:
        """Start from given weights and a fresh state of ``rows`` rows."""
        self.config = config
        self.params: dict[str, Tensor] = {
            name: torch.tensor(value).requires_grad_() for name, value in weights.items()
        }
        self.state = initial_state(config, rows)
        self.optimiser = torch.optim.Adam(self.params.values(), lr=learning_rate)

    def loss(self, batch: Batch) -> tuple[Tensor, State]:
        """Return the mean cross-entropy and the state after the batch."""
        tokens = torch.from_numpy(batch.tokens).long()
        targets = torch.from_numpy(batch.targets).long()
        x = functional.embedding(tokens, self.params["embedding"])
        stack = {name: self.params[name] for name in self.config.parameter_shapes()}
        out = rev_rnn(x, stack, self.config, state=self.state)
        logits = functional.linear(out.outputs, self.params["readout"], self.params["readout_bias"])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), out.state

    def gradients(self, batch: Batch) -> Weights:
        """Return the gradients of all weights at a batch, float32, and change nothing."""
        found = torch.autograd.grad(self.loss(batch)[0], list(self.params.values()))
        return {name: grad.numpy() for name, grad in zip(self.params, found, strict=True)}

    def step(self, batch: Batch) -> float:
        """Train on one batch, carry the state on, and return the loss in nats a character."""
        loss, self.state = self.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def weights(self) -> Weights:
        """Return a copy of the present weights, float32."""
        return {name: value.detach().numpy().copy() for name, value in self.params.items()}

    def carried(self) -> Weights:
        """Return the exact state before the next batch (SEQ-006)."""
        names = ("h", "c", "heads")
        found = {name: getattr(self.state, name) for name in names}
        state = {name: value.numpy().copy() for name, value in found.items() if value is not None}
        if "heads" in state:
            state["heads"] = state["heads"].astype(np.int64)
        return state
