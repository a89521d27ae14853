"""What the Flax and the Equinox modules share: their doors, and a call in the caller's layout."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from os import PathLike
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from revrnn.config import Config, check_unchanged
from revrnn.dropout_warnings import warn_of_no_key, warn_of_one_layer
from revrnn.errors import RevRNNError, one_of, shown
from revrnn.formats import Formats
from revrnn.parameter_files import is_bias
from revrnn.plan import CHUNK_SIZE

from .autograd import apply
from .call import Output
from .dropout import check_gain_rate, module_gains
from .files import load_stack, save_parameters
from .settings import check_flag, settings_of
from .state import State, check_config, initial_state

# What a module's call may be given beside its inputs and its randomness.
_SETTINGS = tuple(
    name for name, p in signature(apply).parameters.items() if p.kind is p.KEYWORD_ONLY
)
# Attributes that a module was made for.
_FIXED = (*Config.__dataclass_fields__, "bias", "bidirectional")


class RecurrentModule:
    """What modules of either library can do besides being called."""

    config: Config
    _cell: ClassVar[str]

    def initial_state(self, batch_size: int) -> State:
        """Return a fresh exact state, to be given as ``state`` (SEQ-006)."""
        return initial_state(self.config, batch_size)

    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters and configuration: :func:`revrnn.jax_impl.save_parameters`."""
        save_parameters(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str], **settings: Any) -> Self:
        """Return a module with the parameters of a file that any implementation wrote.

        Args:
            path: the file.
            settings: arguments that the file does not decide: ``batch_first``, ``dropout``, …

        Raises:
            RevRNNError: for a file that cannot be read, or is of another cell or two directions.
        """
        params, config = load_stack(path, cls._cell, settings.get("bias", True))
        return cls._filled(params, _loaded_arguments(config, settings))

    @classmethod
    def _filled(cls, params: dict[str, jax.Array], arguments: dict[str, Any]) -> Self:
        """Return a module made with these arguments that has these parameters."""
        raise NotImplementedError


def checked_config(cell: str, given: Mapping[str, Any]) -> Config:
    """Return the configuration of a constructor's arguments, all of which are checked.

    Args:
        cell: ``"revgru"`` or ``"revlstm"``.
        given: the arguments by name.

    Raises:
        RevRNNError: for a bad argument, by its name.
    """
    for name in ("bias", "batch_first", "bidirectional", "locked_dropout"):
        check_flag(name, given[name])
    if given["bidirectional"]:
        allowed = "False: run a second module on the reversed inputs"
        raise RevRNNError("E_UNSUPPORTED", "bidirectional", "True", allowed)
    check_gain_rate("dropout", given["dropout"])
    formats = Formats() if given["formats"] is None else given["formats"]
    fields = {name: given[name] for name in Config.__dataclass_fields__ if name in given}
    config = Config(**(fields | {"cell": cell, "formats": formats}))
    check_config(config)
    chunk = CHUNK_SIZE if given["chunk_size"] is None else given["chunk_size"]
    settings_of(config, chunk, given["checkpoint_every"])
    warn_of_one_layer(given["dropout"], config.num_layers)
    return config


def check_fixed(module: Any, name: str, value: Any) -> None:
    """Raise ``E_ARGUMENT`` for another value of what a module was made for.

    Another ``config`` is taken if its parameters are the same.
    """
    own = vars(module)
    if name == "config" and name in own:
        check_config(value)
        now = own[name]
        if (value.cell, value.parameter_shapes()) != (now.cell, now.parameter_shapes()):
            given = "a stack with other parameters"
            raise RevRNNError("E_ARGUMENT", name, given, "one with the same, or a new module")
    elif name in _FIXED and "config" in own:
        check_unchanged(name, value, getattr(own["config"], name, own.get(name, False)))


def _loaded_arguments(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a module for a stack from a file, and other settings.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for a setting that the file decides.
    """
    stack = {name: getattr(config, name) for name in config.as_dict() if name != "cell"}
    for name in settings:
        if name in stack:
            given = shown(settings[name])
            raise RevRNNError("E_ARGUMENT", name, given, "nothing, since the file says it")
    return stack | dict(settings)


def with_biases(
    params: Mapping[str, jax.Array], config: Config, bias: bool
) -> dict[str, jax.Array]:
    """Return a module's parameters, with zeros for the biases if it has none."""
    shapes = {} if bias else config.parameter_shapes()
    zeros = {n: jnp.zeros(s, jnp.float32) for n, s in shapes.items() if is_bias(n)}
    return zeros | dict(params)


def without_biases(params: Mapping[str, jax.Array], bias: bool) -> dict[str, jax.Array]:
    """Return the parameters that a module has."""
    return {name: value for name, value in params.items() if bias or not is_bias(name)}


def run(
    module: Any,
    params: dict[str, jax.Array],
    x: jax.Array,
    key: jax.Array | None,
    given: Any,
    missing: tuple[str, str] | None,
) -> Output:
    """Call :func:`apply` with what a module's call was given, in the layout of its inputs.

    Args:
        module: a module, for its settings, which may have been changed since it was made.
        params: its parameters, all of them.
        x: the inputs, ``[T, B, I]``, ``[B, T, I]`` with ``batch_first``, or ``[T, I]``.
        key: with it outputs between layers are dropped.
        given: settings of :func:`apply`; masks and resets in the layout of the inputs.
        missing: in training mode, what the call lacks if ``key`` is ``None``, and how to say that
            nothing is to be dropped.
    """
    for name in given:
        if name not in _SETTINGS:
            raise RevRNNError("E_ARGUMENT", name, "an unknown argument", one_of(_SETTINGS))
    settings = {"chunk_size": module.chunk_size, "checkpoint_every": module.checkpoint_every}
    settings |= given
    if settings["chunk_size"] is None:
        settings["chunk_size"] = CHUNK_SIZE
    check_flag("batch_first", module.batch_first)
    check_flag("locked_dropout", module.locked_dropout)
    check_gain_rate("dropout", module.dropout)
    if isinstance(settings.get("hx"), State) and settings.get("state") is None:
        settings["state"] = settings.pop("hx")
    if not hasattr(x, "ndim"):
        raise RevRNNError("E_DTYPE", "x", type(x).__name__, "an array")
    batched = x.ndim != 2
    by_step = [name for name in ("mask", "resets") if settings.get(name) is not None]
    if not batched:
        x = x[:, None]
        for name in by_step:
            settings[name] = _wider(name, settings[name], 1)
        hx = settings.get("hx")
        if hx is not None:
            several = isinstance(hx, (tuple, list))
            parts = tuple(_wider("hx", v, 2) for v in (hx if several else (hx,)))
            settings["hx"] = parts if several else parts[0]
    elif module.batch_first:
        x = _swapped("x", x, 3)
        for name in by_step:
            settings[name] = _swapped(name, settings[name], 2)
    if module.dropout and module.config.num_layers > 1:
        own_gains = settings.get("gains") is not None
        if key is not None and own_gains:
            raise RevRNNError("E_ARGUMENT", "gains", "gains and a key", "one of the two")
        if key is not None:
            settings["gains"] = module_gains(
                key, module.dropout, module.config, x, module.locked_dropout
            )
        elif missing is not None and not own_gains:
            warn_of_no_key(*missing)
    out = apply(params, x, module.config, **settings)
    if not batched:
        names = ("outputs", "h_n", "c_n", "slices", "context")
        fields = {name: getattr(out, name) for name in names}
        rows: dict[str, Any] = {n: None if v is None else v[:, 0] for n, v in fields.items()}
        return out._replace(**rows)
    if module.batch_first:
        return out._replace(outputs=out.outputs.swapaxes(0, 1))
    return out


def _wider(name: str, value: Any, axes: int) -> Any:
    """Return what belongs to an input without a batch with one row, in its second axis."""
    if getattr(value, "ndim", None) != axes:
        given = f"shape {list(jnp.shape(value))}"
        raise RevRNNError("E_SHAPE", name, given, f"{axes} axes, since x has no batch")
    return value[:, None]


def _swapped(name: str, value: Any, axes: int) -> Any:
    """Return what is ``[B, T, …]`` as ``[T, B, …]``."""
    if getattr(value, "ndim", None) != axes:
        given = f"shape {list(jnp.shape(value))}"
        allowed = "[B, T, I]" if axes == 3 else "[B, T], as x with batch_first"
        raise RevRNNError("E_SHAPE", name, given, allowed)
    return value.swapaxes(0, 1)
