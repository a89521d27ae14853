"""Parameters in a safetensors file that every implementation reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError


def save_parameters(path: str | Path, params: Mapping[str, Tensor], config: Config) -> None:
    """Write parameters and configuration; the file appears whole or not at all.

    Args:
        path: the file.
        params: float arrays by the names of ``config.parameter_shapes()``.
        config: the stack.
    """
    check_names(params, config)
    found = {name: value.detach().contiguous() for name, value in params.items()}
    part = Path(f"{path}.part")
    save_file(found, part, metadata={"revrnn_config": json.dumps(config.as_dict())})
    os.replace(part, path)


def load_parameters(
    path: str | Path, device: torch.device | str | None = None
) -> tuple[dict[str, Tensor], Config]:
    """Return parameters and configuration of a file that any implementation wrote.

    Args:
        path: the file.
        device: where to put the parameters.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if it is no such file.
    """
    with safe_open(path, framework="pt", device=str(device or "cpu")) as file:
        metadata = file.metadata() or {}
        if "revrnn_config" not in metadata:
            given = f"{path}, without a configuration"
            raise RevRNNError("E_ARGUMENT", "path", given, "a file of save_parameters")
        config = Config.from_dict(json.loads(metadata["revrnn_config"]))
        params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    check_names(params, config)
    return params, config


def check_names(params: Mapping[str, Tensor], config: Config) -> None:
    """Raise an error unless names and shapes are the configuration's (CELL-003)."""
    shapes = config.parameter_shapes()
    if set(params) != set(shapes):
        raise RevRNNError("E_ARGUMENT", "params", sorted(params), f"the names {list(shapes)}")
    for name, shape in shapes.items():
        if tuple(params[name].shape) != shape:
            given = f"shape {list(params[name].shape)}"
            raise RevRNNError("E_SHAPE", name, given, f"{list(shape)}")
