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
    config.check_parameter_shapes({name: tuple(v.shape) for name, v in params.items()})
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
    config.check_parameter_shapes({name: tuple(v.shape) for name, v in params.items()})
    return params, config
