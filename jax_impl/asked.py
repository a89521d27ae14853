"""A call by chunks: the arrays that a caller gives, and a program for them on whatever mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax

from revrnn.config import Config

from .checks import Floats, Params, check_trees, several
from .meshes import Rows, batches_of, on_automatic_axes
from .programs import compiled_once
from .state import State, carried
from .status import check, is_concrete, named_errors

Tree = Any
R = TypeVar("R")


class Asked(NamedTuple):
    """The arrays of a call by chunks; the arguments of :func:`revrnn.jax_impl.value_and_grad`."""

    params: Params
    outer: Tree
    inputs: Tree
    targets: Tree = None
    hx: Floats = None
    state: State | None = None
    mask: jax.Array | None = None
    gains: jax.Array | None = None
    resets: jax.Array | None = None

    def several(self) -> tuple[jax.Array, ...] | None:
        """Return the arrays of ``hx``."""
        return several(self.hx)

    def answered(
        self, config: Config, function: Callable[[Asked], R], specs: Callable[[Rows, Asked], Any]
    ) -> R:
        """Return what ``function`` gives for the arrays, by a program that is compiled once.

        Args:
            config: the stack.
            function: its result has a ``state`` and a ``status``.
            specs: how results are sharded where the batch is sharded over mesh axes.

        Raises:
            RevRNNError: for what cannot be taken for arrays; outside jit what the status says.
        """
        named = self._asdict()
        arrays = {name: named[name] for name in ("mask", "gains", "resets")}
        trees = {name: named[name] for name in ("outer", "inputs", "targets", "hx")}
        check_trees(config, self.params, self.state, arrays, **trees)
        # Of a mapping that JAX does not know, such as a ChainMap, a program has no arrays.
        own = dict(self.params) if jax.tree_util.all_leaves([self.params]) else self.params

        def call(asked: Asked) -> R:
            batches = [(leaf, 1) for leaf in jax.tree.leaves((asked.inputs, asked.targets))]
            batches += batches_of(asked.several(), *asked[5:])
            return on_automatic_axes(function, asked, batches, lambda rows: specs(rows, asked))

        floats = {name: named[name] for name in ("params", "hx", "inputs", "outer")}
        with named_errors("streaming", **floats):
            out: Any = compiled_once(call, self._replace(params=own))
        if is_concrete(out.status):
            check(out.status, **floats)
        result: R = out._replace(state=carried(out.state, self.state, config))
        return result
