"""Training a language model in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from revrnn.experiments.jax_training import tree_arrays, tree_from, updated
from revrnn.experiments.runs import Arrays, prefixed, without_prefix
from revrnn.jax_impl import check

from .corpus import Ids
from .jax_model import JaxModel, Keys
from .parameters import Floats, initial_parameters
from .segments import longest
from .settings import LmSettings

Tree = Any


class JaxTrainer:
    """See :class:`revrnn.experiments.lm.trainer.Trainer`."""

    def __init__(self, settings: LmSettings, log_frequencies: Floats) -> None:
        """Make a model with its first values, and the optimiser."""
        self.settings = settings
        self.model = JaxModel(settings, len(log_frequencies))
        # Segments of all lengths run through one program, so they have the greatest length.
        self.params: Tree = None
        self.length = longest(settings.steps, settings.random_steps)
        shapes = self.model.shapes()
        self.set_parameters(initial_parameters(shapes, settings, log_frequencies))
        parts = [optax.clip_by_global_norm(settings.clip)]
        if settings.optimiser == "sgd":
            parts += [optax.add_decayed_weights(settings.weight_decay)]
        else:
            parts += [optax.scale_by_adam(), optax.add_decayed_weights(settings.weight_decay)]
        # The learning rate changes from segment to segment, so it is an argument of the update.
        self.optimiser = optax.chain(*parts)
        self.moments = self.optimiser.init(self.params)
        self.update = jax.jit(self._update, donate_argnums=(0, 1, 2))
        self.measure = jax.jit(self.model.measure)
        self.start_anew()

    def _update(
        self, params: Tree, moments: Tree, state: Tree, batch: Tree, key: Tree, rate: Tree
    ) -> Tree:
        keys = Keys(*jax.random.split(key, len(Keys._fields)))
        loss, grads, state, status = self.model.gradients(params, state, batch, keys)
        changes, moments = self.optimiser.update(grads, moments, params)
        return updated(params, changes, rate), moments, state, loss, status

    def start_anew(self) -> None:
        """Forget the carried state."""
        self.state = self.model.fresh_state(self.settings.batch_size)

    def _batch(self, tokens: Ids, targets: Ids, length: int) -> Tree:
        """Return tokens, targets and mask, filled up to a length."""
        more = ((0, length - len(tokens)), (0, 0))
        mask = np.pad(np.ones(tokens.shape, np.bool_), more)
        return jnp.asarray(np.pad(tokens, more)), jnp.asarray(np.pad(targets, more)), mask

    def step(self, tokens: Ids, targets: Ids, update: int, learning_rate: float) -> float:
        """Train on one segment."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), update)
        batch = self._batch(tokens, targets, self.length)
        self.params, self.moments, self.state, loss, status = self.update(
            self.params, self.moments, self.state, batch, key, learning_rate
        )
        check(status)
        return float(loss)

    def evaluate(self, ids: Ids) -> float:
        """Return the mean loss in nats a word."""
        state, total = self.model.fresh_state(ids.shape[1]), 0.0
        size = self.settings.steps
        for first in range(0, len(ids) - 1, size):
            if not self.settings.carry_state:
                state = self.model.fresh_state(ids.shape[1])
            part = ids[first : first + size + 1]
            batch = self._batch(part[:-1], part[1:], size)
            found, state, status = self.measure(self.params, state, batch)
            check(status)
            total += float(found)
        mean: float = total / ((len(ids) - 1) * ids.shape[1])
        return mean

    def parameters(self) -> Arrays:
        """Return a copy of the parameters, named as in PyTorch."""
        rnn, outer = self.params
        found = {f"rnn.{name}": value for name, value in rnn.items()} | outer
        return {name: np.array(value) for name, value in found.items()}

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters."""
        found = {name: jnp.array(value) for name, value in arrays.items()}
        rnn = {n.removeprefix("rnn."): v for n, v in found.items() if n.startswith("rnn.")}
        self.params = rnn, {n: v for n, v in found.items() if not n.startswith("rnn.")}

    def arrays(self) -> Arrays:
        """Return all that is needed to go on."""
        found = prefixed("parameters", self.parameters())
        return found | tree_arrays("state", self.state) | tree_arrays("moments", self.moments)

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.set_parameters(without_prefix("parameters", arrays))
        self.state = tree_from("state", arrays, self.state)
        self.moments = tree_from("moments", arrays, self.moments)
