"""JAX, as models of experiments use it; see :mod:`.framework`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..jax_impl import check, step_dropout
from .framework import FAULTLESS, Model, Optimiser, Params, StackSettings, Trained, Tree
from .jax_stacks import RevStack
from .runs import Arrays, prefixed, without_prefix

# Whether batches of unequal sizes should be filled up, each size being compiled anew.
FILLS_UP: Final = True


def lookup(table: jax.Array, numbers: jax.Array) -> jax.Array:
    """Return rows of a table."""
    return table[numbers]


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Return ``x`` times the weight ``[O, I]``, and a bias."""
    return x @ weight.T if bias is None else x @ weight.T + bias


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the sum of the losses, nats, of logits ``[C, B, V]``; -100 is no target."""
    is_there = targets >= 0
    numbers = jnp.where(is_there, targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, numbers)
    return jnp.where(is_there, losses, 0.0).sum()


einsum, tanh, where = jnp.einsum, jnp.tanh, jnp.where
concatenate, softmax, log_softmax = jnp.concatenate, jax.nn.softmax, jax.nn.log_softmax


def over(drop: Any, inputs: jax.Array) -> Any:
    """Return the dropout of a whole sequence."""
    return drop.at(jnp.arange(len(inputs), dtype=jnp.int32))


def first_fault(first: Any, second: Any) -> jax.Array:
    """Return the status of two calls."""
    return jnp.where(jnp.asarray(first) == FAULTLESS, second, first)


class Dropout:
    """See :class:`.framework.Dropout`; without a key nothing is dropped."""

    def __init__(self, key: jax.Array | None = None, steps: jax.Array | None = None) -> None:
        """Drop as a key decides, and the numbers of the steps."""
        self._key, self._steps = key, steps

    @property
    def is_active(self) -> bool:
        """Whether anything is dropped."""
        return self._key is not None

    def at(self, steps: jax.Array) -> Dropout:
        """Return the dropout of some steps of the sequence."""
        return Dropout(self._key, steps)

    def key(self, name: str) -> jax.Array:
        """Return the key of a place in the model."""
        return jax.random.fold_in(jax.random.clone(self._key), zlib.crc32(name.encode()))

    def __call__(self, name: str, rate: float, x: jax.Array, locked: bool = False) -> jax.Array:
        """Return ``x`` with elements dropped."""
        if self._key is None or self._steps is None or not rate:
            return x
        return step_dropout(self.key(name), rate, x, self._steps, locked=locked)

    def factors(self, name: str, rate: float, like: jax.Array) -> jax.Array:
        """Return the same factors at every call in the sequence."""
        if self._key is None:
            return jnp.ones_like(like)
        return jax.random.bernoulli(self.key(name), 1 - rate, like.shape) / (1 - rate)


jax.tree_util.register_pytree_node(
    Dropout, lambda drop: ((drop._key, drop._steps), None), lambda _, parts: Dropout(*parts)
)


def make_stack(settings: StackSettings) -> Any:
    """Return a stack of any cell."""
    if settings.is_reversible:
        return RevStack(settings)
    from .flax_stacks import FlaxStack  # the demo goes without Flax

    return FlaxStack(settings)


def apart(function: Callable[[Params], tuple[Tree, Any]], params: Params) -> Any:
    """Return what a function gives, its status, and the way back from gradients to gradients."""
    values, pull, status = jax.vjp(function, params, has_aux=True)
    return values, status, lambda grads: pull(grads)[0]


class Training:
    """See :class:`.framework.Training`; parameters are a tuple of dictionaries, stacks first."""

    def __init__(
        self, model: Model, optimiser: Optimiser, first: Arrays, compiled: bool = False
    ) -> None:
        """Begin with first values."""
        self.model = model
        self._groups: tuple[Params, ...] = ()
        self.set_parameters(first)
        parts = [optax.clip_by_global_norm(optimiser.clip)]
        if optimiser.kind == "adam":
            parts.append(optax.scale_by_adam())
        parts.append(optax.add_decayed_weights(optimiser.weight_decay))
        # The learning rate changes from update to update, so it is an argument.
        self.optimiser = optax.chain(*parts)
        self.moments = self.optimiser.init(self._groups)
        self._changed = jax.jit(self._changed_by, donate_argnums=(1, 2))
        self._functions: dict[Callable[..., Any], Any] = {}

    def _grouped(self, params: Params) -> tuple[Params, ...]:
        stacks = [{n: params[n] for n in stack.shapes} for stack in self.model.stacks]
        known = {name for group in stacks for name in group}
        return (*stacks, {n: v for n, v in params.items() if n not in known})

    def _changed_by(self, grads: Tree, groups: Tree, moments: Tree, rate: Tree) -> Tree:
        changes, moments = self.optimiser.update(grads, moments, groups)
        return jax.tree.map(lambda p, c: p - rate * c, groups, changes), moments

    def _compiled(self, function: Callable[..., Any]) -> Any:
        """Return a method of the model as a program, the same at every call."""
        if function not in self._functions:
            program = jax.jit(lambda groups, *rest: function(_flat(groups), *rest))
            self._functions[function] = program
        return self._functions[function]

    def _trained(
        self, function: Callable[..., Trained], state: Tree, batch: Tree, at: tuple[int, int] | None
    ) -> Trained:
        key = None if at is None else jax.random.fold_in(jax.random.key(at[0]), at[1])
        trained: Trained = self._compiled(function)(self._groups, state, batch, Dropout(key))
        check(trained.status)
        return trained

    def update(self, state: Tree, batch: Tree, at: tuple[int, int], rate: float) -> Any:
        """Train on a batch and return the loss and the new state."""
        trained = self._trained(self.model.gradients, state, batch, at)
        grads = self._grouped({name: trained.grads[name] for name in self.model.shapes})
        self._groups, self.moments = self._changed(grads, self._groups, self.moments, rate)
        return float(trained.loss), trained.end

    def gradients(
        self,
        function: Callable[..., Trained],
        state: Tree,
        batch: Tree,
        at: tuple[int, int] | None = None,
    ) -> tuple[Arrays, Trained]:
        """Return the gradients at a batch, and the rest."""
        trained = self._trained(function, state, batch, at)
        return {name: np.array(value) for name, value in trained.grads.items()}, trained

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a method of the model gives."""
        value, status = self._compiled(function)(self._groups, *arguments)
        check(status)
        return value

    def parameters(self) -> Arrays:
        """Return a copy of the parameters."""
        params = _flat(self._groups)
        return {name: np.array(params[name]) for name in self.model.shapes}

    def set_parameters(self, arrays: Arrays) -> None:
        """Take parameters."""
        self._groups = self._grouped({n: jnp.array(arrays[n]) for n in self.model.shapes})
        for name, value in _flat(self._groups).items():
            _check_shape(name, value, self.model.shapes[name])

    def arrays(self) -> Arrays:
        """Return a copy of parameters and optimiser."""
        moments = prefixed("moments", state_arrays(self.moments))
        return prefixed("parameters", self.parameters()) | moments

    def restore(self, arrays: Arrays) -> None:
        """Go on from what :meth:`arrays` gave."""
        self.set_parameters(without_prefix("parameters", arrays))
        self.moments = state_from(without_prefix("moments", arrays), self.moments)


def _flat(groups: tuple[Params, ...]) -> Params:
    return {name: value for group in groups for name, value in group.items()}


def _check_shape(name: str, value: jax.Array, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} of shape {value.shape}, not {shape}")


def named_state(state: Tree) -> dict[str, jax.Array]:
    """Return the parts of an exact state, by name."""
    named = {name: getattr(state, name) for name in ("h", "c", "heads")}
    return {name: value for name, value in named.items() if value is not None}


def state_arrays(state: Tree) -> Arrays:
    """Return a copy of a pytree's leaves, named ``0``, ``1`` and so on."""
    return {str(i): np.array(value) for i, value in enumerate(jax.tree.leaves(state))}


def state_from(arrays: Arrays, like: Tree) -> Tree:
    """Return the pytree that :func:`state_arrays` took apart, of the structure of ``like``."""
    leaves = [jnp.array(arrays[str(i)]) for i in range(len(arrays))]
    for number, (leaf, wanted) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True)):
        _check_shape(str(number), leaf, jnp.shape(wanted))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
