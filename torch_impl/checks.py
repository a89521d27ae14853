"""What a caller gave, checked before any work is done (ERR-004)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from revrnn.config import Config, check_config
from revrnn.errors import RevRNNError, check_one_of, shown
from revrnn.functions import check_takes
from revrnn.kinds import is_int
from revrnn.parameter_files import head_range
from revrnn.plan import check_size, even_chunks

from .engine import Settings
from .state import State
from .transforms import is_abstract, is_wrapper

# The accepted float types; the exact part does not depend on them (QNT-003).
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Targets handled at a time.
BLOCK_TARGETS: Final = 2**16


def check_tensor(
    name: str,
    value: object,
    dtypes: Sequence[torch.dtype] | None,
    shape: Sequence[int | None],
    device: torch.device | None = None,
    axes: str = "",
) -> None:
    """Raise ``E_DTYPE``, ``E_SHAPE`` or ``E_ARGUMENT`` unless ``value`` is as described.

    Args:
        name: the argument's name.
        value: what was given.
        dtypes: allowed types, or ``None`` for any float type.
        shape: lengths; ``None`` is any length.
        device: where it must be, if anywhere.
        axes: the axes' names, ``(seq, batch)``.
    """
    if not isinstance(value, Tensor):
        raise RevRNNError("E_DTYPE", name, type(value).__name__, "a torch.Tensor")
    check_dense(name, value)
    if dtypes is None and value.dtype not in FLOATS:
        raise RevRNNError("E_DTYPE", name, value.dtype, "a floating-point tensor")
    if dtypes is not None and value.dtype not in dtypes:
        raise RevRNNError("E_DTYPE", name, value.dtype, " or ".join(map(str, dtypes)))
    fits = value.dim() == len(shape) and all(
        length in (None, given) for length, given in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted = [length if length is not None else "any" for length in shape]
        allowed = f"{axes} = {wanted}" if axes else f"shape {wanted}"
        raise RevRNNError("E_SHAPE", name, f"shape {list(value.shape)}", allowed)
    if device is not None and value.device != device:
        raise RevRNNError("E_ARGUMENT", name, f"device {value.device}", f"device {device}")


def check_dense(name: str, value: Tensor) -> None:
    """Raise ``E_UNSUPPORTED`` for tensors that are not whole, plain arrays."""
    kind = ""
    if value.is_nested:
        kind = "a nested tensor"
    elif value.layout != torch.strided:
        kind = f"layout {value.layout}"
    elif hasattr(value, "full_tensor"):
        kind = "a DTensor, a part of a tensor"
    elif isinstance(value, (nn.UninitializedParameter, nn.UninitializedBuffer)):
        kind = "a parameter that has no shape yet"
    elif is_wrapper(value) and not is_abstract([value]):
        kind = f"a {type(value).__name__}, which has operations of its own"
    if kind:
        allowed = "a dense tensor; of rows of different lengths, one with a mask or packed"
        if kind.startswith("a parameter"):
            allowed = "a tensor with numbers"
        elif kind.startswith("a DTensor"):
            allowed = "a whole tensor; a sharded module gathers its own when it is called"
        raise RevRNNError("E_UNSUPPORTED", name, kind, allowed)


def check_params(params: Mapping[str, Tensor], config: Config, device: torch.device) -> None:
    """Check names, types, shapes and devices of float parameters (CELL-003)."""
    shapes = config.parameter_shapes()
    if not isinstance(params, Mapping) or set(params) != set(shapes):
        given: Any = sorted(map(str, params)) if isinstance(params, Mapping) else type(params)
        raise RevRNNError("E_ARGUMENT", "params", given, f"the names {list(shapes)}")
    for name, shape in shapes.items():
        check_tensor(name, params[name], None, shape, device)


def check_state(
    state: State, config: Config, rows: int, device: torch.device, name: str = "state"
) -> None:
    """Check an exact state carried from another call (SEQ-006).

    Args:
        state: what was given.
        config: the stack that is to go on from it.
        rows: the batch.
        device: where it must be.
        name: what the caller calls it.
    """
    if state.config is not None:
        check_config(state.config, f"{name}.config")
    other = config.unlike(state.config)
    if other:
        given = f"a State of a stack with {getattr(state.config, other)!r}"
        wanted = f"{getattr(config, other)!r}, as here"
        raise RevRNNError("E_ARGUMENT", f"{name}.config.{other}", given, wanted)
    shape = (config.num_layers, rows, config.hidden_size)
    axes = "(layers, batch, hidden_size)"
    check_tensor(f"{name}.h", state.h, [torch.int32], shape, device, axes)
    if config.has_cell_state:
        check_tensor(f"{name}.c", state.c, [torch.int32], shape, device, axes)
    elif state.c is not None:
        raise RevRNNError("E_ARGUMENT", f"{name}.c", "a tensor", "None for RevGRU")
    if config.forgetting:
        kind = torch.int32 if config.buffer == "stream" else torch.int64
        check_tensor(f"{name}.heads", state.heads, [kind], (rows, config.group_size), device)
    elif state.heads is not None:
        raise RevRNNError("E_ARGUMENT", f"{name}.heads", "a tensor", "None without forgetting")


def check_heads(name: str, heads: Tensor | None, config: Config) -> None:
    """Raise ``E_RANGE`` for heads that no buffer has (BUF-020, BUF-030)."""
    if heads is None or not config.forgetting or not heads.numel() or is_abstract([heads]):
        return
    low, high = head_range(config)
    if bool((heads < low).any()):
        raise RevRNNError("E_RANGE", name, int(heads.min()), f"{low} … {high}")


def whole(name: str, value: object) -> int:
    """Return a number of steps, a whole number of at least 1, or raise ``E_ARGUMENT``.

    Python's and NumPy's integers are taken; a number beyond any sequence's length means all steps.
    """
    return min(check_size(name, value), 2**31 - 1)


def flag(name: str, value: object) -> bool:
    """Return a bool of Python or NumPy as Python's, or raise ``E_ARGUMENT``."""
    if not isinstance(value, (bool, np.bool_)):
        raise RevRNNError("E_ARGUMENT", name, shown(value), "True, False")
    return bool(value)


def check_settings(
    steps: int, states: str, chunk_size: int | None, checkpoint_every: int | None, offload: bool
) -> Settings:
    """Check how a sequence of so many steps is to be processed."""
    check_one_of("states", states, ("reversed", "stored"))
    chunk = None if chunk_size is None else whole("chunk_size", chunk_size)
    every = None if checkpoint_every is None else whole("checkpoint_every", checkpoint_every)
    return Settings(chunk or even_chunks(steps), states, every, flag("offload", offload))


def check_reduction(value: object) -> str:
    """Return ``"mean"`` or ``"sum"``, or raise ``E_ARGUMENT``."""
    check_one_of("reduction", value, ("mean", "sum"))
    return str(value)


def check_targets_of(logits: Tensor, targets: object) -> None:
    """Raise unless there is a class, or a probability of each, for every row of logits.

    PyTorch's loss sees rows alone, and so takes targets in another order of axes.
    """
    if not isinstance(targets, Tensor):
        raise RevRNNError("E_DTYPE", "targets", type(targets).__name__, "a torch.Tensor")
    check_dense("targets", targets)
    if not targets.is_floating_point() and targets.dtype not in (torch.int64, torch.uint8):
        allowed = "torch.int64, torch.uint8, or floats, probabilities of all classes"
        raise RevRNNError("E_DTYPE", "targets", targets.dtype, allowed)
    wanted = logits.shape if targets.is_floating_point() else logits.shape[:-1]
    if targets.shape != wanted:
        given, allowed = f"shape {list(targets.shape)}", f"shape {list(wanted)}"
        raise RevRNNError("E_SHAPE", "targets", given, allowed)


def check_classes(name: str, targets: Any, classes: int | None, ignored: int) -> None:
    """Raise unless targets are numbers of so many classes, with one synchronisation.

    Args:
        name: what the caller calls them.
        targets: int64 or uint8.
        classes: how many there are, if that is known.
        ignored: another number that is allowed.
    """
    flat = targets.flatten()
    wrong = [
        ((part < 0) | (part >= (classes or 2**31))) & (part != ignored)
        for part in torch.split(flat, BLOCK_TARGETS)
    ]
    if bool(torch.stack([part.any() for part in wrong]).any()):
        given = f"class {int(flat[torch.cat(wrong).nonzero()[0, 0]])}"
        last = f"0 … {classes - 1}" if classes else "0 and above"
        raise RevRNNError("E_RANGE", name, given, f"{last}, or ignore_index={ignored}")


def _index(value: object) -> int:
    if not is_int(value) or not -(2**63) <= value < 2**63:
        raise RevRNNError("E_ARGUMENT", "ignore_index", shown(value), "a whole number of 64 bits")
    return int(value)


def _smoothing(value: object) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # type: ignore[operator]
        raise RevRNNError("E_ARGUMENT", "label_smoothing", shown(value), "a number, 0 … 1")
    return float(value)  # type: ignore[arg-type]


def _linear(value: Any) -> Any:
    allowed = "an nn.Linear, or a function"
    if not callable(value):
        raise RevRNNError("E_ARGUMENT", "linear", type(value).__name__, allowed)
    if not isinstance(value, nn.Module):  # the class of a layer is no layer
        check_takes("linear", value, 1, allowed)
    return value


# The checks of what a LinearCrossEntropy is made of, by name.
LOSS_SETTINGS: Final[dict[str, Callable[[Any], Any]]] = {
    "linear": _linear,
    "reduction": check_reduction,
    "ignore_index": _index,
    "label_smoothing": _smoothing,
}
