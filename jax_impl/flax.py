"""RevGRU and RevLSTM as Flax NNX modules: the parameters, and a call of :func:`apply`."""

from __future__ import annotations

import json
from typing import Any, Self

import jax
import numpy as np
from flax import nnx, serialization

from revrnn.errors import RevRNNError
from revrnn.formats import Formats
from revrnn.parameter_files import is_bias

from .call import Output
from .doors import RecurrentModule, check_fixed, checked_config, run, with_biases, without_biases
from .parameters import init
from .state import State, check_state_config

# What a call in training mode lacks that drops nothing, and how to say that nothing shall drop.
_MISSING = ("rngs", "call eval() of the module first")


def _check_rngs(rngs: object) -> None:
    if not isinstance(rngs, nnx.Rngs):
        raise RevRNNError("E_ARGUMENT", "rngs", f"a {type(rngs).__name__}", "an nnx.Rngs")


def _drawn(rngs: nnx.Rngs | None, stream: str) -> jax.Array:
    """Return a stream's next key; raise ``E_ARGUMENT`` if there is no such stream."""
    _check_rngs(rngs)
    try:
        key: jax.Array = getattr(rngs, stream)()
    except AttributeError:
        given, allowed = f"no stream {stream!r}", f"streams {stream!r} or 'default'"
        raise RevRNNError("E_ARGUMENT", "rngs", given, allowed) from None
    return key


def _value(variable: Any) -> Any:
    """Return a parameter's array, or the mere shape that ``nnx.eval_shape`` leaves in its place."""
    try:
        return variable[...]
    except TypeError:
        leaves = jax.tree.leaves(variable)
        return leaves[0] if leaves else None


def _state_dict(state: State) -> dict[str, Any]:
    """Return a state as arrays by name, the configuration as the bytes of its JSON."""
    mapping = state.as_dict()
    if state.config is not None:
        text = json.dumps(mapping["config"]).encode()
        mapping["config"] = np.frombuffer(text, np.uint8)
    return mapping


def _restored(target: State, mapping: dict[str, Any]) -> State:
    """Return the state of :func:`_state_dict`; raise an error unless it is of the same stack."""
    config = mapping.get("config")
    known = None if config is None else json.loads(np.asarray(config, np.uint8).tobytes())
    state = State.from_dict(mapping | {"config": known})
    if target.config is not None:
        check_state_config(state, target.config)
    return state


# So that flax.serialization writes and reads states, alone or in a tree.
serialization.register_serialization_state(  # type: ignore[no-untyped-call]
    State, _state_dict, _restored, override=True
)


class _RevRNN(RecurrentModule, nnx.Module):
    """What both cells share.

    The parameters are attributes by their names, ``weight_ih_l0`` and so on (CELL-003).

    Attributes:
        config: the stack.
        bias, batch_first, dropout, locked_dropout, chunk_size, checkpoint_every: as the
            constructor was given them.
        deterministic: whether nothing is dropped, whatever a call is given: ``eval()`` sets it,
            ``train()`` unsets it.
    """

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
        rngs: nnx.Rngs | None = None,
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

        Args:
            input_size: features of the input.
            hidden_size: units of a layer, an even number: two groups of half as many.
            num_layers: layers of the stack.
            bias: whether there are biases.
            batch_first: whether inputs and outputs are ``[B, T, …]``.
            dropout: probability of dropping outputs of all layers but the last, 0 … 0.9375 or 1.
            bidirectional: must be ``False``.
            rngs: ``rngs.params()`` is the key of the parameters.
            max_forget_bits: how many bits a unit may forget in one multiplication, 1 … 10, or
                ``None`` for no limit (ACT-004, ACT-005). It bounds the buffer.
            forgetting: without it nothing is forgotten and nothing stored (CELL-030, CELL-031).
            buffer: ``"stream"`` or ``"wordlist"``.
            slice_size: units whose values are kept for attention (SEQ-007).
            z_max: largest forget gate in 1024ths (FMT-005).
            p_max: largest gate ``p`` of RevLSTM in 1024ths (FMT-007).
            formats: number formats (FMT-002).
            locked_dropout: whether ``dropout`` drops the same units in all steps.
            chunk_size: steps handled together, by default 16.
            checkpoint_every: see :func:`revrnn.jax_impl.apply`.

        Raises:
            RevRNNError: for a bad argument, by its name.
        """
        config = checked_config(self._cell, locals())
        key = _drawn(rngs, "params")
        self.bias, self.config = bool(bias), config
        self.batch_first, self.dropout = bool(batch_first), float(dropout)
        self.locked_dropout, self.deterministic = bool(locked_dropout), False
        self.chunk_size, self.checkpoint_every = chunk_size, checkpoint_every
        for name, value in without_biases(init(key, self.config), bias).items():
            setattr(self, name, nnx.Param(value))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; what the parameters depend on is fixed.

        Raises:
            RevRNNError: ``E_ARGUMENT``, by the attribute's name.
        """
        check_fixed(self, name, value)
        super().__setattr__(name, value)

    def params(self) -> dict[str, jax.Array]:
        """Return the parameters by name, as the functions of ``revrnn.jax_impl`` take them."""
        names = [n for n in self.config.parameter_shapes() if self.bias or not is_bias(n)]
        own = {name: _value(getattr(self, name, None)) for name in names}
        return with_biases(own, self.config, self.bias)

    def __call__(
        self,
        x: jax.Array,
        hx: jax.Array | tuple[jax.Array, ...] | State | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        mask: jax.Array | None = None,
        resets: jax.Array | None = None,
        **settings: Any,
    ) -> Output:
        """Run over a sequence, as :func:`revrnn.jax_impl.apply`, in the layout of ``x``.

        Args:
            x: float32 ``[T, B, I]``, ``[B, T, I]`` with ``batch_first``, or ``[T, I]``.
            hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, ``[L, B, H]`` (``[L, H]`` for
                one sequence); or an exact state, as ``state``.
            rngs: with it outputs between layers are dropped, by ``rngs.dropout()``. Without it
                nothing is, and a warning says so, unless ``eval()`` was called.
            mask: bool, shaped as ``x`` without its features: which steps a row has (SEQ-002).
            resets: bool of the same shape: where a row starts anew from zero (SEQ-013).
            settings: others of :func:`revrnn.jax_impl.apply`: ``state``, ``capacity``, …

        Returns:
            As :func:`revrnn.jax_impl.apply`; ``outputs`` in the layout of ``x``. For one sequence
            ``state`` alone has a batch, of one row.

        Raises:
            RevRNNError: for bad input, by the argument's name.
        """
        key = None
        if rngs is not None:
            _check_rngs(rngs)
        if rngs is not None and self.dropout and not self.deterministic:
            key = _drawn(rngs, "dropout")
        settings |= {"hx": hx, "mask": mask, "resets": resets}
        missing = None if self.deterministic else _MISSING
        return run(self, self.params(), x, key, settings, missing)

    @classmethod
    def _filled(cls, params: dict[str, jax.Array], arguments: dict[str, Any]) -> Self:
        module = cls(**arguments, rngs=nnx.Rngs(0))
        for name, value in params.items():
            getattr(module, name)[...] = value
        return module


class RevGRU(_RevRNN):
    """A reversible GRU: ``RevGRU(64, 128, num_layers=2, max_forget_bits=3, rngs=nnx.Rngs(0))``."""

    _cell = "revgru"


class RevLSTM(_RevRNN):
    """A reversible LSTM, with the arguments of :class:`RevGRU`."""

    _cell = "revlstm"
