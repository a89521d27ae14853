"""RevGRU and RevLSTM as Equinox modules: the parameters, and a call of :func:`apply`."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import equinox as eqx
import jax

from revrnn.config import Config
from revrnn.formats import Formats

from .call import Output
from .checks import check_key
from .doors import RecurrentModule, checked_config, run, with_biases, without_biases
from .parameters import init
from .state import State

# What a call in training mode lacks that drops nothing, and how to say that nothing shall drop.
_MISSING = ("key", "call eqx.nn.inference_mode(module)")


class Mode(eqx.Module):
    """What ``eqx.nn.inference_mode`` changes; only modules with dropout have one.

    Attributes:
        inference: whether nothing is dropped, whatever a call is given.
    """

    inference: bool


class _RevRNN(RecurrentModule, eqx.Module):
    """What both cells share.

    Attributes:
        params: the parameters by name, as the functions of ``revrnn.jax_impl`` take them, biases
            left out if there are none.
        mode: whether dropout is off, ``None`` without dropout.
        config: the stack.
        bias, batch_first, dropout, locked_dropout, chunk_size, checkpoint_every: as the
            constructor was given them.
    """

    params: dict[str, jax.Array]
    mode: Mode | None
    config: Config = eqx.field(static=True)
    bias: bool = eqx.field(static=True)
    batch_first: bool = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    locked_dropout: bool = eqx.field(static=True)
    chunk_size: int | None = eqx.field(static=True)
    checkpoint_every: int | None = eqx.field(static=True)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        key: jax.Array | None = None,
        max_forget_bits: int | None = 3,
        forgetting: bool = True,
        buffer: str = "stream",
        slice_size: int = 0,
        z_max: int | None = None,
        p_max: int | None = None,
        formats: Formats | None = None,
        locked_dropout: bool = False,
        chunk_size: int | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        """Make new parameters, uniform in ±1/√hidden_size.

        The arguments are those of :class:`revrnn.jax_impl.flax.RevGRU`, but for ``key``, of
        ``jax.random``, for the parameters.

        Raises:
            RevRNNError: for a bad argument, by its name.
        """
        self.config = checked_config(self._cell, locals())
        self.params = without_biases(init(check_key(key), self.config), bias)
        self.bias, self.batch_first, self.dropout = bool(bias), bool(batch_first), float(dropout)
        self.locked_dropout = bool(locked_dropout)
        self.chunk_size, self.checkpoint_every = chunk_size, checkpoint_every
        self.mode = Mode(False) if dropout else None

    def __call__(
        self,
        x: jax.Array,
        hx: jax.Array | tuple[jax.Array, ...] | State | None = None,
        *,
        key: jax.Array | None = None,
        mask: jax.Array | None = None,
        resets: jax.Array | None = None,
        **settings: Any,
    ) -> Output:
        """Run over a sequence, as :func:`revrnn.jax_impl.apply`, in the layout of ``x``.

        Arguments and result are those of a call of :class:`revrnn.jax_impl.flax.RevGRU`, but for
        ``key``: with it outputs between layers are dropped. Without it nothing is, and a warning
        says so, unless the module is one of ``eqx.nn.inference_mode``.

        Raises:
            RevRNNError: for bad input, by the argument's name.
        """
        if key is not None:
            check_key(key)
        inference = self.mode is not None and self.mode.inference
        if inference:
            key = None
        missing = None if inference else _MISSING
        settings |= {"hx": hx, "mask": mask, "resets": resets}
        params = with_biases(self.params, self.config, self.bias)
        return run(self, params, x, key, settings, missing)

    @classmethod
    def _filled(cls, params: dict[str, jax.Array], arguments: dict[str, Any]) -> Self:
        module = cls(**arguments, key=jax.random.key(0))
        filled: Self = eqx.tree_at(lambda m: m.params, module, params)
        return filled


class RevGRU(_RevRNN):
    """A reversible GRU: ``RevGRU(64, 128, num_layers=2, max_forget_bits=3, key=key)``."""

    _cell: ClassVar[str] = "revgru"


class RevLSTM(_RevRNN):
    """A reversible LSTM, with the arguments of :class:`RevGRU`."""

    _cell: ClassVar[str] = "revlstm"
