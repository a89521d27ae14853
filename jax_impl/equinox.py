"""RevGRU and RevLSTM as Equinox modules: the parameters, and a call of :func:`apply`."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax

from revrnn.config import Config

from .autodiff import Output, apply, init
from .dropout import module_gains


class _RevRNN(eqx.Module):
    """What both cells share.

    Attributes:
        params: the parameters by name, as the functions of ``revrnn.jax_impl`` take them.
        config: the stack.
        dropout: probability of dropping outputs of all layers but the last.
        batch_first: whether inputs and outputs are ``[B, T, …]`` instead of ``[T, B, …]``.
    """

    params: dict[str, jax.Array]
    config: Config = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    batch_first: bool = eqx.field(static=True)
    _cell: ClassVar[str]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        key: jax.Array,
        dropout: float = 0.0,
        batch_first: bool = False,
        **options: Any,
    ) -> None:
        """Make new parameters from ``key``; ``options`` are further fields of Config."""
        self.config = Config(self._cell, input_size, hidden_size, num_layers, **options)
        self.dropout, self.batch_first = dropout, batch_first
        self.params = init(key, self.config)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None, **settings: Any) -> Output:
        """Run over a batch of sequences, float32 ``[T, B, I]``.

        Args:
            x: the inputs.
            key: with it outputs between layers are dropped.
            settings: as for :func:`revrnn.jax_impl.apply`: ``hx``, ``state``, ``mask``, …; what has
                an axis of steps is ``[T, B, …]``, whatever ``batch_first``.
        """
        x = x.swapaxes(0, 1) if self.batch_first else x
        gains = module_gains(key, self.dropout, self.config, x)
        found = apply(self.params, x, self.config, gains=gains, **settings)
        if self.batch_first:
            found = found._replace(outputs=found.outputs.swapaxes(0, 1))
        return found


class RevGRU(_RevRNN):
    """A reversible GRU: ``RevGRU(64, 128, num_layers=2, max_forget_bits=3, key=key)``."""

    _cell: ClassVar[str] = "revgru"


class RevLSTM(_RevRNN):
    """A reversible LSTM, with the arguments of :class:`RevGRU`."""

    _cell: ClassVar[str] = "revlstm"
