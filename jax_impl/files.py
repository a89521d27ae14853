"""Parameters and states in safetensors files that every implementation reads.

:mod:`revrnn.parameter_files` says what is in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from revrnn.config import Config
from revrnn.errors import RevRNNError, shown, type_name
from revrnn.parameter_files import (
    Contents,
    Described,
    Kind,
    check_parameters,
    directions_of,
    head_range,
    is_bias,
    metadata_of,
    parameter_shapes,
    read,
    state_shapes,
    write,
)

from .state import State
from .status import kind_of
from .x64 import join64_numpy, split64_numpy

Path = str | PathLike[str]
Array = npt.NDArray[Any]


def save_parameters(
    path: Path, params: Mapping[str, jax.Array] | Any, config: Config | None = None
) -> None:
    """Write parameters and configuration; the file appears whole or not at all.

    Args:
        path: the file, in an existing folder. A file that is there is replaced.
        params: finite float arrays by the names of ``config.parameter_shapes()``, of JAX or NumPy,
            in any layout of memory; without biases those are written as zeros. Or a module of
            ``revrnn.jax_impl.flax`` or ``revrnn.jax_impl.equinox``.
        config: the stack; of a module it is known.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for a wrong path or wrong names; ``E_DTYPE``, ``E_SHAPE`` or
            ``E_NONFINITE`` for an array, by its name. Then nothing has been written.
    """
    named: Any = params
    own = getattr(params, "config", None)
    if isinstance(own, Config) and hasattr(params, "params"):
        if config is not None and config != own:
            raise RevRNNError("E_ARGUMENT", "config", config, "None, or that of the module")
        config, named = own, named.params
        named = named() if callable(named) else named
    if not isinstance(named, Mapping):
        allowed = "a mapping of arrays, or a module of revrnn.jax_impl"
        raise RevRNNError("E_ARGUMENT", "params", type_name(params), allowed)
    if not isinstance(config, Config):
        raise RevRNNError("E_ARGUMENT", "config", shown(config), "a Config")
    arrays = {str(name): _plain(str(name), value) for name, value in named.items()}
    what = {name: Described(v.dtype.name, v.shape) for name, v in arrays.items()}
    zeros, directions = check_parameters(what, config), directions_of(list(arrays))
    for name, value in arrays.items():
        if not _is_finite(value):
            raise RevRNNError("E_NONFINITE", name, "NaN or an infinity", "finite numbers")
    like = arrays["weight_ih_l0"].dtype
    for name in zeros:
        arrays[name] = np.zeros(parameter_shapes(config, directions)[name], like)
    write(path, save(arrays, metadata_of(config, "parameters", directions)))


def load_parameters(path: Path) -> tuple[dict[str, jax.Array], Config]:
    """Return parameters and configuration of a file that any implementation wrote.

    Args:
        path: the file.

    Returns:
        float32 arrays by name, whatever float type is in the file, for
        :func:`~revrnn.jax_impl.apply`; of a network in two directions, which JAX does not run, with
        names that end in ``_reverse`` besides. And the stack.

    Raises:
        RevRNNError: with the path, if the file is missing, damaged, of another kind, or has other
            arrays than its configuration asks for, or what is not finite as float32.
    """
    contents = _read(path, "parameters")
    return {name: jnp.asarray(_single(v)) for name, v in contents.tensors.items()}, contents.config


def load_stack(path: Path, cell: str, bias: bool) -> tuple[dict[str, jax.Array], Config]:
    """Return what :func:`load_parameters` does, for a module of a cell, of one direction.

    Raises:
        RevRNNError: as :func:`load_parameters`; ``E_ARGUMENT`` for another cell, two directions, or
            biases that a module without biases would lose.
    """
    params, config = load_parameters(path)
    if config.cell != cell:
        raise RevRNNError("E_ARGUMENT", "path", f"{path}, a file of {config.cell}", cell)
    if directions_of(list(params)) == 2:
        raise RevRNNError("E_UNSUPPORTED", "path", f"{path}, of two directions", "one direction")
    if not bias and any(is_bias(name) and bool(v.any()) for name, v in params.items()):
        raise RevRNNError("E_ARGUMENT", "bias", f"False, and {path} with biases", "True")
    return {name: v for name, v in params.items() if bias or not is_bias(name)}, config


def save_state(path: Path, state: State) -> None:
    """Write an exact state, as :func:`save_parameters` writes parameters.

    Args:
        path: the file, in an existing folder.
        state: what a call returned. It must know its stack (``state.config``).

    Raises:
        RevRNNError: for a wrong path or state. Then nothing has been written.
    """
    if not isinstance(state, State):
        raise RevRNNError("E_ARGUMENT", "state", type_name(state), "a State of revrnn.jax_impl")
    config = state.config
    if not isinstance(config, Config):
        given = None if config is None else type_name(config)
        raise RevRNNError("E_ARGUMENT", "state.config", given, "the Config it belongs to")
    arrays = {
        name: _plain(f"state.{name}", value)
        for name, value in zip(State._fields, state, strict=True)
        if value is not None
    }
    rows = arrays["h"].shape[1] if "h" in arrays and arrays["h"].ndim == 3 else 1
    shapes = state_shapes(config, rows)
    if set(arrays) != set(shapes):
        raise RevRNNError("E_ARGUMENT", "state", sorted(arrays), f"the arrays {list(shapes)}")
    for name, shape in shapes.items():
        wide = name == "heads" and config.buffer != "stream"
        dtype, shape = ("uint32", (*shape, 2)) if wide else ("int32", shape)
        value = arrays[name]
        if value.dtype.name != dtype:
            raise RevRNNError("E_DTYPE", f"state.{name}", value.dtype, dtype)
        if value.shape != shape:
            given = f"shape {list(value.shape)}"
            raise RevRNNError("E_SHAPE", f"state.{name}", given, f"shape {list(shape)}")
    if "heads" in arrays:
        heads = arrays["heads"]
        arrays["heads"] = join64_numpy(heads) if heads.ndim == 3 else heads.astype(np.int64)
        if not _is_sound("heads", arrays["heads"], config):
            low, high = head_range(config)
            raise RevRNNError("E_RANGE", "state.heads", "a head out of range", f"{low} … {high}")
    write(path, save(arrays, metadata_of(config, "state")))


def load_state(path: Path) -> State:
    """Return the state of a file that any implementation wrote.

    Args:
        path: the file.

    Raises:
        RevRNNError: as :func:`load_parameters`.
    """
    contents = _read(path, "state")
    arrays, config = dict(contents.tensors), contents.config
    heads = arrays.get("heads")
    if heads is not None:
        stream = config.buffer == "stream"
        arrays["heads"] = heads.astype(np.int32) if stream else split64_numpy(heads)
    parts = {name: jnp.asarray(value) for name, value in arrays.items()}
    return State(parts["h"], parts.get("c"), parts.get("heads"), config)


def _read(path: Path, kind: Kind) -> Contents:
    open_file = partial(safe_open, framework="numpy")
    return read(path, kind, open_file, np.array, _is_sound, (OSError, SafetensorError))


def _is_sound(name: str, value: Array, config: Config) -> bool:
    """Say whether an array's values may stand in a file, and be float32."""
    if name in ("h", "c"):
        return True
    if name != "heads":
        return _is_finite(_single(value))
    low, high = head_range(config)
    return bool(((value >= low) & (value <= high)).all())


def _is_finite(value: Array) -> bool:
    """Say whether all numbers are finite, of bfloat16 too, which NumPy does not know."""
    return bool(np.isfinite(_single(value)).all())


def _single(value: Array) -> npt.NDArray[np.float32]:
    """Return floats as float32, the nearest; too large ones as infinities."""
    with np.errstate(over="ignore"):
        return value.astype(np.float32)


def _plain(name: str, value: Any) -> Array:
    """Return an array's numbers row by row, in this machine's order of bytes.

    safetensors writes the memory as it lies, whatever the strides and the order of bytes.
    """
    if isinstance(value, jax.core.Tracer):
        raise RevRNNError("E_ARGUMENT", name, "a traced value", "an array outside jit")
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise RevRNNError("E_DTYPE", name, type(value).__name__, "an array")
    if isinstance(value, np.ma.MaskedArray):
        raise RevRNNError("E_DTYPE", name, kind_of(value), "an array of JAX or NumPy")
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        raise RevRNNError("E_DTYPE", name, value.dtype, "an array of numbers")
    if isinstance(value, jax.Array) and value.is_deleted():
        gone = "an array that has been deleted, or donated to a function"
        raise RevRNNError("E_ARGUMENT", name, gone, "an array that is still there")
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        raise RevRNNError("E_ARGUMENT", name, "an array of other hosts too", "a whole array")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # another framework's, with a gradient
        given = f"a {type_name(value)} that NumPy cannot read"
        raise RevRNNError("E_DTYPE", name, given, "an array of JAX or NumPy") from error
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
