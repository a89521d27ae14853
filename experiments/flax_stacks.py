"""Stacks of Flax's own cells, with all states stored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from .framework import FAULTLESS, Given, Params, Passed, StackSettings, Trained, Tree
from .jax_stacks import JaxStack, steps_of


class FlaxStack(JaxStack):
    """A stack of Flax's GRU or LSTM cells; see :class:`.framework.Stack`."""

    def __init__(self, settings: StackSettings) -> None:
        """Know the shapes."""
        kind = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[settings.cell]
        inputs, units, layers = settings.sizes
        self.layers: list[Any] = []
        shapes: dict[str, tuple[int, ...]] = {}
        for number in range(layers):
            made = kind(units if number else inputs, units, rngs=nnx.Rngs(0))
            graph, *states = nnx.split(made, nnx.Param, ...)
            values, rest = states
            own = {}
            for path, leaf in jax.tree_util.tree_leaves_with_path(values):
                keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
                own[".".join([str(number), *(k for k in keys if k != "value")])] = leaf.shape
            self.layers.append((graph, jax.tree.structure(values), rest, list(own)))
            shapes |= own
        super().__init__(settings, shapes)

    def fresh(self, rows: int) -> tuple[Tree, ...]:
        """Return zeros: a layer's ``h`` ``[B, H]``, or ``(c, h)``."""
        shape, twice = (rows, self.settings.sizes[1]), self.settings.cell == "lstm"
        # Arrays of their own: an array can be donated once.
        return tuple(
            (jnp.zeros(shape), jnp.zeros(shape)) if twice else jnp.zeros(shape) for _ in self.layers
        )

    def run(
        self,
        params: Params,
        x: jax.Array,
        start: Tree,
        drop: Any,
        mask: jax.Array | None = None,
        with_outputs: bool = True,
    ) -> Passed:
        """Run over inputs."""
        own, _ = self.dropped(params, drop)
        start = self.fresh(x.shape[1]) if start is None else start
        mask = jnp.ones(x.shape[:2], jnp.bool_) if mask is None else mask
        drop, last = drop.at(steps_of(x)), []
        for number, (graph, structure, rest, names) in enumerate(self.layers):
            if number:
                name, rate = f"{self.prefix}{number}", self.settings.dropout
                x = drop(name, rate, x, self.settings.locked)
            values = jax.tree.unflatten(structure, [own[name] for name in names])
            step = partial(_step, graph, values, rest)
            end, x = jax.lax.scan(step, start[number], (x, mask))
            last.append(end)
        return Passed(x, None, tuple(last), tuple(last))

    def gradients(self, params: Params, given: Given, scale: Any, report: bool = False) -> Trained:
        """Return a loss and its gradients."""

        def scaled(params: Params, start: Tree, seen: Any) -> tuple[jax.Array, Tree]:
            total, end = self._total(params, given, start, seen)
            return scale * total, end

        losses = jax.value_and_grad(scaled, (0, 1, 2), has_aux=True)
        (loss, end), grads = losses(params, given.start, list(given.seen))
        return Trained(loss, grads[0], grads[1], grads[2], end)

    def measure(self, params: Params, given: Given) -> tuple[tuple[jax.Array, Tree], Any]:
        """Return the sum of the losses and the last state, and the status."""
        return self._total(params, given, given.start, given.seen), FAULTLESS

    def _total(
        self, params: Params, given: Given, start: Tree, seen: Sequence[jax.Array]
    ) -> tuple[jax.Array, Tree]:
        drop = given.drop.at(steps_of(given.inputs))
        x = given.embed(params, given.inputs, drop)
        out = self.run(params, x, start, drop, given.mask)
        return given.read(params, out.outputs, given.targets, seen, drop), out.end

    def select(self, state: Tree, rows: jax.Array) -> Tree:
        """Return these rows of a state."""
        return jax.tree.map(lambda v: v[rows], state)


def _step(graph: Any, values: Tree, rest: Tree, carry: Tree, given: Tree) -> tuple[Tree, Any]:
    x, mask = given
    new, output = nnx.merge(graph, values, rest)(carry, x)
    kept = jax.tree.map(lambda a, b: jnp.where(mask[:, None], a, b), new, carry)
    return kept, output
