"""Training a translation model in JAX."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from revrnn.experiments.jax_training import tree_arrays, tree_from, updated
from revrnn.experiments.runs import Arrays, prefixed, without_prefix
from revrnn.jax_impl import check

from .batches import Batch
from .jax_model import JaxModel, Keys, SearchState, Tokens
from .parameters import initial_parameters
from .search import Stepper
from .settings import NmtSettings

Tree = Any

# Sentences are filled up to multiples of so many steps: every number of steps is a program of its
# own, which takes long to compile.
_STEPS = 16


class JaxTrainer:
    """See :class:`revrnn.experiments.nmt.trainer.Trainer`."""

    def __init__(self, settings: NmtSettings, source_words: int, target_words: int) -> None:
        """Make a model with its first values, and the optimiser."""
        self.settings = settings
        self.model = JaxModel(settings, source_words, target_words)
        self.params: Tree = None
        first = initial_parameters(self.model.shapes, settings.seed, settings.hidden_size)
        self.set_parameters(first)
        # The learning rate changes between updates, so it is an argument of the update.
        self.optimiser = optax.chain(
            optax.clip_by_global_norm(settings.clip), optax.scale_by_adam()
        )
        self.moments = self.optimiser.init(self.params)
        self.update = jax.jit(self._update, donate_argnums=(0, 1))
        self.measure = jax.jit(self.model.measure)
        self.first, self.next = jax.jit(self.model.first), jax.jit(self.model.step)
        self.select_rows = jax.jit(self.model.select)

    def _update(self, params: Tree, moments: Tree, batch: Tokens, key: Tree, rate: Tree) -> Tree:
        keys = Keys(*jax.random.split(key, len(Keys._fields)))
        loss, grads, status = self.model.gradients(params, batch, keys)
        changes, moments = self.optimiser.update(grads, moments, params)
        return updated(params, changes, rate), moments, loss, status

    def _tokens(self, batch: Batch, rows: int) -> Tokens:
        return Tokens(*astuple(batch.padded(_STEPS, rows)))

    def step(self, batch: Batch, update: int, learning_rate: float) -> float:
        """Train on one batch."""
        key = jax.random.fold_in(jax.random.key(self.settings.seed), update)
        tokens = self._tokens(batch, self.settings.batch_size)
        self.params, self.moments, loss, status = self.update(
            self.params, self.moments, tokens, key, learning_rate
        )
        check(status)
        return float(loss)

    def evaluate(self, batch: Batch) -> float:
        """Return the sum of the batch's losses in nats."""
        rows = max(self.settings.batch_size, batch.source.shape[1])
        loss, status = self.measure(self.params, self._tokens(batch, rows))
        check(status)
        return float(loss) * batch.words

    def stepper(self, batch: Batch) -> tuple[Stepper[Any], Any]:
        """Return what translates the batch."""
        state, status = self.first(self.params, self._tokens(batch, batch.source.shape[1]))
        check(status)
        return JaxStepper(self), state

    def parameters(self) -> Arrays:
        """Return a copy of the parameters, named as in PyTorch (but for Flax's own cells)."""
        encoder, decoder, outer = self.params
        found = {f"encoder.{name}": value for name, value in encoder.items()}
        found |= {f"decoder.{name}": value for name, value in decoder.items()} | outer
        return {name: np.array(value) for name, value in found.items()}

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters."""
        found = {name: jnp.array(value) for name, value in arrays.items()}
        parts = [
            {n.removeprefix(start): v for n, v in found.items() if n.startswith(start)}
            for start in ("encoder.", "decoder.")
        ]
        outer = {n: v for n, v in found.items() if not n.startswith(("encoder.", "decoder."))}
        self.params = (*parts, outer)

    def arrays(self) -> Arrays:
        """Return all that is needed to go on."""
        found = prefixed("parameters", self.parameters())
        return found | tree_arrays("moments", self.moments)

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.set_parameters(without_prefix("parameters", arrays))
        self.moments = tree_from("moments", arrays, self.moments)


class JaxStepper:
    """See :class:`revrnn.experiments.nmt.search.Stepper`."""

    def __init__(self, trainer: JaxTrainer) -> None:
        """Translate by a trainer's present parameters."""
        self.trainer = trainer

    def step(self, state: SearchState, words: Any) -> tuple[Any, SearchState]:
        """Go on by one word."""
        scores, state, status = self.trainer.next(self.trainer.params, state, words)
        check(status)
        return np.asarray(scores), state

    def select(self, state: SearchState, rows: Any) -> SearchState:
        """Return these rows."""
        found: SearchState = self.trainer.select_rows(state, rows.astype(np.int32))
        return found
