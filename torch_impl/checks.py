"""What a caller gave, checked before any work is done (ERR-004)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .bptt import Settings
from .sequence import CHUNK_SIZE
from .state import State


def check_tensor(
    name: str,
    value: object,
    dtypes: Sequence[torch.dtype] | None,
    shape: Sequence[int | None],
    device: torch.device | None = None,
) -> None:
    """Raise ``E_DTYPE``, ``E_SHAPE`` or ``E_ARGUMENT`` unless ``value`` is as described.

    Args:
        name: the argument's name.
        value: what was given.
        dtypes: allowed types, or ``None`` for any float type.
        shape: lengths; ``None`` is any length.
        device: where it must be, if anywhere.
    """
    if not isinstance(value, Tensor):
        raise RevRNNError("E_DTYPE", name, type(value).__name__, "a torch.Tensor")
    if dtypes is None and not value.is_floating_point():
        raise RevRNNError("E_DTYPE", name, value.dtype, "a floating-point tensor")
    if dtypes is not None and value.dtype not in dtypes:
        raise RevRNNError("E_DTYPE", name, value.dtype, " or ".join(map(str, dtypes)))
    wanted = [length if length is not None else "any" for length in shape]
    fits = value.dim() == len(shape) and all(
        length in (None, given) for length, given in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise RevRNNError("E_SHAPE", name, f"shape {list(value.shape)}", f"shape {wanted}")
    if device is not None and value.device != device:
        raise RevRNNError("E_ARGUMENT", name, f"device {value.device}", f"device {device}")


def check_params(params: Mapping[str, Tensor], config: Config, device: torch.device) -> None:
    """Check names, types, shapes and devices of float parameters (CELL-003)."""
    shapes = config.parameter_shapes()
    if set(params) != set(shapes):
        raise RevRNNError("E_ARGUMENT", "params", sorted(params), f"the names {list(shapes)}")
    for name, shape in shapes.items():
        check_tensor(name, params[name], None, shape, device)


def check_state(state: State, config: Config, rows: int, device: torch.device) -> None:
    """Check an exact state carried from another call (SEQ-006)."""
    shape = (config.num_layers, rows, config.hidden_size)
    check_tensor("state.h", state.h, [torch.int32], shape, device)
    if config.has_cell_state:
        check_tensor("state.c", state.c, [torch.int32], shape, device)
    if config.forgetting:
        kind = torch.int32 if config.buffer == "stream" else torch.int64
        check_tensor("state.heads", state.heads, [kind], (rows, config.group_size), device)


def check_settings(
    states: str, chunk_size: int | None, checkpoint_every: int | None, offload: bool
) -> Settings:
    """Check how a sequence is to be gone through."""
    if states not in ("reversed", "stored"):
        raise RevRNNError("E_ARGUMENT", "states", repr(states), "'reversed', 'stored'")
    for name, value in (("chunk_size", chunk_size), ("checkpoint_every", checkpoint_every)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value is not None and not whole:
            raise RevRNNError("E_ARGUMENT", name, repr(value), "a whole number, at least 1")
    if not isinstance(offload, bool):
        raise RevRNNError("E_ARGUMENT", "offload", repr(offload), "True, False")
    return Settings(chunk_size or CHUNK_SIZE, states, checkpoint_every, offload)
