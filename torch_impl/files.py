"""Parameters and states in safetensors files that every implementation reads.

:mod:`revrnn.parameter_files` says what is in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError, shown, type_name
from revrnn.parameter_files import (
    Contents,
    Described,
    Kind,
    check_parameters,
    directions_of,
    head_range,
    metadata_of,
    parameter_shapes,
    read,
    write,
)

from .checks import check_heads, check_state
from .layers import RevRNNLayers
from .quantise import check_finite
from .state import State, check_device

Path = str | PathLike[str]


def save_parameters(
    path: Path, params: Mapping[str, Tensor] | RevRNNLayers, config: Config | None = None
) -> None:
    """Write parameters and configuration; the file appears whole or not at all.

    A module without biases is written with biases of zero, which is what it computes with; a
    bidirectional one with both directions.

    Args:
        path: the file, in an existing folder. A file that is there is replaced.
        params: a :class:`~revrnn.torch_impl.RevGRU` or ``RevLSTM``, or its ``state_dict()``: finite
            float tensors by name, in any layout of memory, on any device.
        config: the stack, ``module.config``; not needed for a module.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for a wrong path or wrong names; ``E_DTYPE``, ``E_SHAPE`` or
            ``E_NONFINITE`` for a tensor, by its name. Then nothing has been written.
    """
    named: Any = params
    if isinstance(params, RevRNNLayers):
        config = params.config if config is None else config
        if not isinstance(config, Config) or config != params.config:
            raise RevRNNError("E_ARGUMENT", "config", config, "None, or that of the module")
        named = params.named_weights()  # also of one that is parametrised or pruned
    if not isinstance(named, Mapping):
        # Also what wraps a module, as torch.compile and DistributedDataParallel do.
        allowed = "a RevGRU or RevLSTM, or its state_dict()"
        raise RevRNNError("E_ARGUMENT", "params", type_name(params), allowed)
    if not isinstance(config, Config):
        raise RevRNNError("E_ARGUMENT", "config", shown(config), "a Config")
    for name, value in named.items():
        if not isinstance(name, str):
            raise RevRNNError("E_ARGUMENT", "params", f"the name {name!r}", "texts")
        if not isinstance(value, Tensor):
            raise RevRNNError("E_DTYPE", str(name), type(value).__name__, "a torch.Tensor")
    what = {
        name: Described(str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in named.items()
    }
    zeros, directions = check_parameters(what, config), directions_of(list(named))
    tensors = {name: _plain(name, value) for name, value in named.items()}
    check_finite(**tensors)
    like = tensors["weight_ih_l0"]
    for name in zeros:
        tensors[name] = like.new_zeros(parameter_shapes(config, directions)[name])
    write(path, save(tensors, metadata_of(config, "parameters", directions)))


def load_parameters(
    path: Path, device: torch.device | str | None = None
) -> tuple[dict[str, Tensor], Config]:
    """Return parameters and configuration of a file that any implementation wrote.

    Args:
        path: the file.
        device: where to put the parameters.

    Returns:
        The parameters: float tensors by name, for :func:`~revrnn.torch_impl.rev_rnn` or a module's
        ``load_state_dict`` (a module without biases accepts biases of zero); of a bidirectional
        network also names that end in ``_reverse``. And the stack's configuration.

    Raises:
        RevRNNError: with the path, if the file is missing, damaged, of another kind, or has other
            tensors than its configuration asks for, or NaN; ``device`` if there is no such device.
    """
    contents = _read(path, "parameters", device)
    return contents.tensors, contents.config


def save_state(path: Path, state: State) -> None:
    """Write an exact state, as :func:`save_parameters` writes parameters.

    Args:
        path: the file, in an existing folder.
        state: what a call returned. It must know its stack (``state.config``).

    Raises:
        RevRNNError: for a wrong path or state. Then nothing has been written.
    """
    if not isinstance(state, State):
        raise RevRNNError("E_ARGUMENT", "state", type_name(state), "a State")
    if not isinstance(state.config, Config):
        given = None if state.config is None else type(state.config).__name__
        raise RevRNNError("E_ARGUMENT", "state.config", given, "the Config it belongs to")
    if not isinstance(state.h, Tensor):
        raise RevRNNError("E_DTYPE", "state.h", type(state.h).__name__, "a torch.Tensor")
    check_state(state, state.config, state.h.shape[1] if state.h.dim() == 3 else 1, state.h.device)
    check_heads("state.heads", state.heads, state.config)
    tensors = {name: _plain(name, value) for name, value in state.tensors().items()}
    if "heads" in tensors:
        tensors["heads"] = tensors["heads"].to(torch.int64)
    write(path, save(tensors, metadata_of(state.config, "state")))


def load_state(path: Path, device: torch.device | str | None = None) -> State:
    """Return the state of a file that any implementation wrote.

    Args:
        path: the file.
        device: where to put it.

    Raises:
        RevRNNError: as :func:`load_parameters`.
    """
    contents = _read(path, "state", device)
    tensors, config = contents.tensors, contents.config
    heads = tensors.get("heads")
    if heads is not None and config.buffer == "stream":
        heads = heads.to(torch.int32)
    return State(tensors["h"], tensors.get("c"), heads, config)


def _read(path: Path, kind: Kind, device: torch.device | str | None) -> Contents:
    place = check_device("cpu" if device is None else device)
    open_file = partial(safe_open, framework="pt", device="cpu")
    contents = read(path, kind, open_file, torch.clone, _is_sound, (OSError, SafetensorError))
    for name, value in contents.tensors.items():
        contents.tensors[name] = value.to(place)
    return contents


def _is_sound(name: str, value: Tensor, config: Config) -> bool:
    """Say whether a tensor's values are allowed in a file."""
    if value.is_floating_point():
        return bool(torch.isfinite(value).all())
    if name != "heads" or not value.numel():
        return True
    low, high = head_range(config)
    return bool((value >= low).all() & (value <= high).all())


def _plain(name: str, value: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor in the host's memory."""
    if value.layout != torch.strided or value.is_nested or value.is_meta:
        given = "a tensor without numbers" if value.is_meta else f"layout {value.layout}"
        raise RevRNNError("E_DTYPE", name, given, "a dense tensor")
    value = value.detach().resolve_neg().cpu()
    return value.clone(memory_format=torch.contiguous_format)
