"""The character-level language model in JAX, trained by reversal."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from revrnn import Config
from revrnn.jax_impl import State, apply, check, initial_state

from .charlm import Weights
from .text import Batch

Params = dict[str, jax.Array]


def loss_of(
    params: Params, tokens: jax.Array, targets: jax.Array, state: State, config: Config
) -> Any:
    """Return the mean cross-entropy and, beside it, the new state and the status word."""
    x = params["embedding"][tokens]
    stack = {name: params[name] for name in config.parameter_shapes()}
    out = apply(stack, x, config, state=state)
    logits = out.outputs @ params["readout"].T + params["readout_bias"]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    return loss, (out.state, out.status)


class JaxTrainer:
    """Adam on the character model; see :class:`revrnn.experiments.charlm.Trainer`."""

    framework = "jax"

    def __init__(self, config: Config, weights: Weights, rows: int, learning_rate: float) -> None:
        """Start from given weights and a fresh state of ``rows`` rows."""
        self.config = config
        self.params: Params = {name: jnp.asarray(value) for name, value in weights.items()}
        self.state = initial_state(config, rows)
        optimiser = optax.adam(learning_rate)
        self.moments = optimiser.init(self.params)

        @partial(jax.jit, donate_argnums=(0, 1))
        def update(params: Params, moments: Any, state: State, tokens: Any, targets: Any) -> Any:
            value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
            (loss, aux), gradients = value_and_grad(params, tokens, targets, state, config)
            changes, moments = optimiser.update(gradients, moments)
            return optax.apply_updates(params, changes), moments, loss, aux

        self.update = update
        self.gradient = jax.jit(jax.grad(loss_of, has_aux=True), static_argnames="config")

    def gradients(self, batch: Batch) -> Weights:
        """Return the gradients of all weights at a batch, float32, and change nothing."""
        found, (_, status) = self.gradient(
            self.params, batch.tokens, batch.targets, self.state, config=self.config
        )
        check(status)
        return {name: np.array(value) for name, value in found.items()}

    def step(self, batch: Batch) -> float:
        """Train on one batch, carry the state on, and return the loss in nats a character."""
        self.params, self.moments, loss, (self.state, status) = self.update(
            self.params, self.moments, self.state, batch.tokens, batch.targets
        )
        check(status)
        return float(loss)

    def weights(self) -> Weights:
        """Return a copy of the present weights, float32."""
        return {name: np.array(value) for name, value in self.params.items()}

    def carried(self) -> Weights:
        """Return the exact state before the next batch (SEQ-006)."""
        names = ("h", "c", "heads")
        found = {name: getattr(self.state, name) for name in names}
        state = {name: np.array(value) for name, value in found.items() if value is not None}
        if "heads" in state:
            state["heads"] = state["heads"].astype(np.int64)
        return state
