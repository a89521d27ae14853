"""Recurrent stacks in JAX, and the reversible one; :mod:`.flax_stacks` has Flax's own cells."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..jax_impl import State, apply, dropout_gains, encode, initial_state, value, value_and_grad
from .framework import Embed, Given, Params, Passed, StackSettings, Trained, Tree


class JaxStack:
    """What stacks share: names, and recurrent weights that are dropped."""

    def __init__(self, settings: StackSettings, shapes: dict[str, tuple[int, ...]]) -> None:
        """Know the shapes; keep no parameters."""
        self.settings, self.prefix = settings, f"{settings.name}."
        self.shapes = {f"{self.prefix}{name}": shape for name, shape in shapes.items()}

    def dropped(self, params: Params, drop: Any) -> tuple[Params, Params]:
        """Return the stack's parameters, some recurrent weights dropped, and the factors."""
        own = {name.removeprefix(self.prefix): params[name] for name in self.shapes}
        rate = self.settings.weight_drop
        factors = {}
        if rate and drop.is_active:
            recurrent = [name for name in own if _is_recurrent(name)]
            factors = {n: drop.factors(f"{self.prefix}{n}", rate, own[n]) for n in recurrent}
        return {n: v * factors[n] if n in factors else v for n, v in own.items()}, factors


def _is_recurrent(name: str) -> bool:
    return name.startswith("weight_hh") or ("dense_h" in name and name.endswith("kernel"))


def steps_of(inputs: jax.Array) -> jax.Array:
    """Return the steps' numbers."""
    return jnp.arange(len(inputs), dtype=jnp.int32)


class RevStack(JaxStack):
    """A reversible stack; see :class:`.framework.Stack`."""

    def __init__(self, settings: StackSettings) -> None:
        """Know the shapes."""
        assert settings.config is not None
        self.config = settings.config
        super().__init__(settings, self.config.parameter_shapes())

    def fresh(self, rows: int) -> State:
        """Return a first state."""
        return initial_state(self.config, rows)

    def _gains(self, drop: Any, steps: jax.Array, rows: int) -> jax.Array | None:
        rate, locked = self.settings.dropout, self.settings.locked
        if not (drop.is_active and rate and self.config.num_layers > 1):
            return None
        key = drop.key(f"{self.prefix}layers")
        return dropout_gains(key, rate, self.config, steps, rows, locked=locked)

    def _streamed(self, params: Params, given: Given, scale: Any) -> tuple[Params, dict[str, Any]]:
        """Return factors of dropped weights, and what functions that stream take.

        The outer parameters are ``(the others, what is seen)``.
        """
        own, factors = self.dropped(params, given.drop)
        steps, drop = steps_of(given.inputs), given.drop

        def embedded(outer: Tree, cut: Tree) -> jax.Array:
            x: jax.Array = given.embed(outer[0], cut[0], drop.at(cut[1]))
            return x

        def readout(outer: Tree, outputs: jax.Array, cut: Tree) -> jax.Array:
            losses = given.read(outer[0], outputs, cut[0], outer[1], drop.at(cut[1]))
            return jnp.asarray(scale * losses)

        return factors, {
            "params": own,
            "outer": (self._others(params), list(given.seen)),
            "inputs": (given.inputs, steps),
            "targets": (given.targets, steps),
            "config": self.config,
            "embed": embedded,
            "readout": readout,
            **_start(given.start),
            "mask": given.mask,
            "gains": self._gains(drop, steps, given.inputs.shape[1]),
            "reduction": "sum",
            "chunk_size": self.settings.chunk_size,
        }

    def _others(self, params: Params) -> Params:
        return {name: v for name, v in params.items() if not name.startswith(self.prefix)}

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
        out = apply(
            self.dropped(params, drop)[0],
            x,
            self.config,
            **_start(start),
            mask=mask,
            gains=self._gains(drop, steps_of(x), x.shape[1]),
            with_outputs=with_outputs,
            chunk_size=self.settings.chunk_size,
        )
        return Passed(out.outputs, out.context, _final(out), out.state, out.status)

    def encode(
        self, params: Params, inputs: jax.Array, embed: Embed, drop: Any, mask: jax.Array
    ) -> Passed:
        """Run chunk by chunk."""
        steps = steps_of(inputs)
        out = encode(
            self.dropped(params, drop)[0],
            self._others(params),
            (inputs, steps),
            self.config,
            embed=lambda outer, cut: embed(outer, cut[0], drop.at(cut[1])),
            mask=mask,
            gains=self._gains(drop, steps, inputs.shape[1]),
            chunk_size=self.settings.chunk_size,
        )
        return Passed(None, out.context, _final(out), None, out.status)

    def gradients(self, params: Params, given: Given, scale: Any, report: bool = False) -> Trained:
        """Return a loss and its gradients."""
        factors, streamed = self._streamed(params, given, scale)
        step = value_and_grad(**streamed)
        of_own, (of_others, of_seen) = step.grads
        of_own = {n: g * factors[n] if n in factors else g for n, g in of_own.items()}
        grads = {f"{self.prefix}{name}": g for name, g in of_own.items()} | of_others
        return Trained(step.loss, grads, step.grad_hx, of_seen, step.state, step.status)

    def measure(self, params: Params, given: Given) -> tuple[tuple[jax.Array, Tree], Any]:
        """Return the sum of the losses and the last state, and the status."""
        out = value(**self._streamed(params, given, 1)[1])
        return (out.loss, out.state), out.status

    def select(self, state: Tree, rows: jax.Array) -> Tree:
        """Return these rows of a state."""
        if isinstance(state, State):
            return state.index_select(rows)
        return jax.tree.map(lambda v: v[:, rows], state)


def _start(start: Tree) -> dict[str, Any]:
    return {"state" if isinstance(start, State) else "hx": start}


def _final(out: Any) -> Tree:
    return out.h_n if out.c_n is None else (out.h_n, out.c_n)
