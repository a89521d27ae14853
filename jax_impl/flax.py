"""RevGRU and RevLSTM as Flax NNX modules: the parameters, and a call of :func:`apply`."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from revrnn.config import Config

from .autodiff import Output, apply, init
from .dropout import module_gains


class _RevRNN(nnx.Module):
    """What both cells share.

    The parameters are attributes by their names, ``weight_ih_l0`` and so on (CELL-003).

    Attributes:
        config: the stack.
        dropout: probability of dropping outputs of all layers but the last.
        batch_first: whether inputs and outputs are ``[B, T, …]`` instead of ``[T, B, …]``.
    """

    _cell: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        rngs: nnx.Rngs,
        dropout: float = 0.0,
        batch_first: bool = False,
        **options: Any,
    ) -> None:
        """Make new parameters from ``rngs.params()``; ``options`` are further fields of Config."""
        self.config = Config(self._cell, input_size, hidden_size, num_layers, **options)
        self.dropout, self.batch_first = dropout, batch_first
        for name, value in init(rngs.params(), self.config).items():
            setattr(self, name, nnx.Param(value))

    def params(self) -> dict[str, jax.Array]:
        """Return the parameters by name, as the functions of ``revrnn.jax_impl`` take them."""
        return {name: getattr(self, name)[...] for name in self.config.parameter_shapes()}

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None, **settings: Any) -> Output:
        """Run over a sequence, float32 ``[T, B, I]``.

        Args:
            x: the inputs.
            rngs: with it outputs between layers are dropped, by ``rngs.dropout()``.
            settings: as for :func:`revrnn.jax_impl.apply`: ``hx``, ``state``, ``mask``, …; what has
                an axis of steps is ``[T, B, …]``, whatever ``batch_first``.
        """
        x = x.swapaxes(0, 1) if self.batch_first else x
        key = None if rngs is None or not self.dropout else rngs.dropout()
        gains = module_gains(key, self.dropout, self.config, x)
        found = apply(self.params(), x, self.config, gains=gains, **settings)
        if self.batch_first:
            found = found._replace(outputs=found.outputs.swapaxes(0, 1))
        return found


class RevGRU(_RevRNN):
    """A reversible GRU: ``RevGRU(64, 128, num_layers=2, max_forget_bits=3, rngs=nnx.Rngs(0))``."""

    _cell = "revgru"


class RevLSTM(_RevRNN):
    """A reversible LSTM, with the arguments of :class:`RevGRU`."""

    _cell = "revlstm"
