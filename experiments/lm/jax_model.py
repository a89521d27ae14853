"""The language model in JAX: embedding, recurrent stack, (projection,) softmax, and dropout."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from revrnn.experiments.flax_cells import FlaxStack
from revrnn.experiments.settings import REVERSIBLE
from revrnn.jax_impl import apply, dropout_gains, initial_state, step_dropout, value_and_grad

from .settings import LmSettings

Tree = Any


class Keys(NamedTuple):
    """What decides the dropouts of a segment."""

    words: jax.Array
    features: jax.Array
    layers: jax.Array
    outputs: jax.Array
    weights: jax.Array


class JaxModel:
    """A language model; parameters are ``(rnn, outer)``, two dictionaries of float32 arrays.

    ``rnn`` has the names of :class:`revrnn.Config` for reversible cells; ``outer`` has
    ``embedding``, ``readout.bias``, and where they are needed ``readout.weight`` and
    ``projection.weight``, ``projection.bias``: names and shapes as in PyTorch.
    """

    def __init__(self, settings: LmSettings, vocabulary: int) -> None:
        """Know the shapes; make no arrays."""
        self.settings, self.vocabulary = settings, vocabulary
        self.is_reversible = settings.cell in REVERSIBLE
        if self.is_reversible:
            self.config = settings.config()
        else:
            sizes = settings.embedding_size, settings.hidden_size, settings.num_layers
            self.own = FlaxStack(settings.cell, *sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return all parameters' shapes; recurrent ones are named ``rnn.…``."""
        settings = self.settings
        embedding, hidden = settings.embedding_size, settings.hidden_size
        found: dict[str, tuple[int, ...]] = {"embedding": (self.vocabulary, embedding)}
        stack = self.config.parameter_shapes() if self.is_reversible else self.own.shapes
        found |= {f"rnn.{name}": shape for name, shape in stack.items()}
        if settings.tied and embedding != hidden:
            found |= {"projection.weight": (embedding, hidden), "projection.bias": (embedding,)}
        if not settings.tied:
            found["readout.weight"] = (self.vocabulary, hidden)
        return found | {"readout.bias": (self.vocabulary,)}

    def fresh_state(self, rows: int) -> Tree:
        """Return a fresh state: exact for reversible cells, floats for others."""
        if self.is_reversible:
            return initial_state(self.config, rows)
        return self.own.fresh(rows)

    # --- parts -----------------------------------------------------------------------------------

    def embed(self, keys: Keys | None, outer: Tree, inputs: Tree) -> jax.Array:
        """Return inputs ``[C, B, E]`` of ``(words, step numbers)``."""
        tokens, steps = inputs
        x: jax.Array = outer["embedding"][tokens]
        if keys is None:
            return x
        p = self.settings.dropout_words
        if p:
            kept = jax.random.bernoulli(keys.words, 1 - p, (self.vocabulary,)) / (1 - p)
            x = x * kept[tokens][..., None]
        return step_dropout(keys.features, self.settings.dropout_input, x, steps, locked=True)

    def read(self, keys: Keys | None, outer: Tree, outputs: jax.Array, given: Tree) -> jax.Array:
        """Return the sum of the losses of outputs ``[C, B, H]`` where the mask says so."""
        targets, steps, mask = given
        if keys is not None:
            rate = self.settings.dropout_output
            outputs = step_dropout(keys.outputs, rate, outputs, steps, locked=True)
        if "projection.weight" in outer:
            outputs = outputs @ outer["projection.weight"].T + outer["projection.bias"]
        weight = outer["readout.weight"] if "readout.weight" in outer else outer["embedding"]
        logits = outputs @ weight.T + outer["readout.bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return jnp.where(mask, losses, 0.0).sum()

    def dropped(self, keys: Keys | None, rnn: Tree) -> tuple[Tree, Tree]:
        """Return the stack's parameters, some recurrent weights dropped, and the factors."""
        p = self.settings.weight_drop
        if keys is None or not p:
            return rnn, {}
        factors = {}
        for number, name in enumerate(sorted(rnn)):
            if self._is_recurrent(name):
                key = jax.random.fold_in(keys.weights, number)
                factors[name] = jax.random.bernoulli(key, 1 - p, rnn[name].shape) / (1 - p)
        return {n: v * factors[n] if n in factors else v for n, v in rnn.items()}, factors

    def _is_recurrent(self, name: str) -> bool:
        if self.is_reversible:
            return name.startswith("weight_hh")
        return "dense_h" in name and name.endswith("kernel")

    # --- whole segments --------------------------------------------------------------------------

    def gradients(self, params: Tree, state: Tree, batch: Tree, keys: Keys) -> Tree:
        """Return the mean loss, gradients, the new state and the status of a segment.

        ``batch`` is ``(tokens, targets, mask)``, each ``[T, B]``; the mask is of whole steps.
        """
        rnn, outer = params
        tokens, targets, mask = batch
        steps = jnp.arange(len(tokens), dtype=jnp.int32)
        dropped, factors = self.dropped(keys, rnn)
        count = mask.sum()
        if self.is_reversible:
            gains, rate = None, self.settings.dropout_layers
            if self.settings.num_layers > 1 and rate:
                rows = tokens.shape[1]
                gains = dropout_gains(keys.layers, rate, self.config, steps, rows, locked=True)
            found = value_and_grad(
                dropped,
                outer,
                (tokens, steps),
                (targets, steps, mask),
                self.config,
                embed=partial(self.embed, keys),
                readout=partial(self.read, keys),
                state=state,
                mask=mask,
                gains=gains,
                reduction="sum",
                chunk_size=self.settings.chunk_size,
            )
            total, (of_rnn, of_outer) = found.loss, found.grads
            end, status = found.state, found.status
        else:
            (total, end), (of_rnn, of_outer) = jax.value_and_grad(
                partial(self._own_loss, state=state, batch=batch, keys=keys), (0, 1), has_aux=True
            )(dropped, outer)
            status = jnp.int32(0)
        of_rnn = {n: g * factors[n] if n in factors else g for n, g in of_rnn.items()}
        grads = jax.tree.map(lambda g: g / count, (of_rnn, of_outer))
        return total / count, grads, end, status

    def measure(self, params: Tree, state: Tree, batch: Tree) -> Tree:
        """Return the sum of a segment's losses, the new state and the status, without dropout."""
        rnn, outer = params
        tokens, targets, mask = batch
        steps = jnp.arange(len(tokens), dtype=jnp.int32)
        if not self.is_reversible:
            total, end = self._own_loss(rnn, outer, state=state, batch=batch, keys=None)
            return total, end, jnp.int32(0)
        x = self.embed(None, outer, (tokens, steps))
        out = apply(rnn, x, self.config, state=state, mask=mask)
        total = self.read(None, outer, out.outputs, (targets, steps, mask))
        return total, out.state, out.status

    def _own_loss(
        self, rnn: Tree, outer: Tree, *, state: Tree, batch: Tree, keys: Keys | None
    ) -> tuple[jax.Array, Tree]:
        """Return the sum of losses and the new state of Flax's own cells."""
        tokens, targets, mask = batch
        steps = jnp.arange(len(tokens), dtype=jnp.int32)
        x = self.embed(keys, outer, (tokens, steps))

        def between(number: int, x: jax.Array) -> jax.Array:
            if keys is None:
                return x
            key = jax.random.fold_in(keys.layers, number)
            return step_dropout(key, self.settings.dropout_layers, x, steps, locked=True)

        outputs, end = self.own(rnn, state, x, mask, between)
        return self.read(keys, outer, outputs, (targets, steps, mask)), end
