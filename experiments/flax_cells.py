"""Flax's own cells over a sequence: the models to compare with in JAX, all states stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Tree = Any


class FlaxStack:
    """A stack of Flax's GRU or LSTM cells; parameters are a flat dictionary of arrays."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, num_layers: int) -> None:
        """Know the shapes; keep no parameters."""
        self.cell, self.hidden_size = cell, hidden_size
        kind = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[cell]
        self.layers = []
        self.names: list[list[str]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        for number in range(num_layers):
            wide = hidden_size if number else input_size
            made = kind(wide, hidden_size, rngs=nnx.Rngs(0))
            graph, *states = nnx.split(made, nnx.Param, ...)
            values, rest = states
            found = {}
            for path, value in jax.tree_util.tree_leaves_with_path(values):
                keys = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
                found[".".join([str(number), *(k for k in keys if k != "value")])] = value.shape
            self.layers.append((graph, jax.tree.structure(values), rest))
            self.names.append(list(found))
            self.shapes |= found

    def fresh(self, rows: int) -> tuple[Tree, ...]:
        """Return zeros: a layer's ``h`` ``[B, H]``, or ``(c, h)``."""
        shape, twice = (rows, self.hidden_size), self.cell == "lstm"
        # Arrays of their own: an array can be donated once.
        return tuple(
            (jnp.zeros(shape), jnp.zeros(shape)) if twice else jnp.zeros(shape) for _ in self.layers
        )

    def __call__(
        self,
        params: dict[str, jax.Array],
        start: tuple[Tree, ...],
        x: jax.Array,
        mask: jax.Array,
        between: Callable[[int, jax.Array], jax.Array],
    ) -> tuple[jax.Array, tuple[Tree, ...]]:
        """Return outputs ``[T, B, H]`` and the final state.

        Args:
            params: by the names of ``shapes``.
            start: the initial state, as :meth:`fresh` gives it.
            x: inputs ``[T, B, I]``.
            mask: bool ``[T, B]``; where it is false the state stays.
            between: what is done with the inputs of a layer above the first, by its number.
        """
        last = []
        for number, (graph, structure, rest) in enumerate(self.layers):
            x = between(number, x) if number else x
            values = jax.tree.unflatten(structure, [params[name] for name in self.names[number]])
            step = partial(_step, graph, values, rest)
            end, x = jax.lax.scan(step, start[number], (x, mask))
            last.append(end)
        return x, tuple(last)


def _step(graph: Any, values: Tree, rest: Tree, carry: Tree, given: Tree) -> tuple[Tree, Any]:
    x, mask = given
    new, output = nnx.merge(graph, values, rest)(carry, x)
    kept = jax.tree.map(lambda a, b: jnp.where(mask[:, None], a, b), new, carry)
    return kept, output
