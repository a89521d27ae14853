"""The arguments of a recurrent module's call, checked and brought to the internal layout.

Inside, inputs are ``[T, B, I]``, masks ``[T, B]`` and initial states ``[L · directions, B, H]``.
Callers may give ``batch_first``, unbatched or packed sequences; messages use the caller's names and
layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from revrnn.errors import RevRNNError, type_name
from revrnn.plan import check_shape

from .checks import FLOATS, check_dense, check_state, check_tensor
from .forks import wait_for_none
from .layers import RevRNNLayers
from .state import State


@dataclass
class Given:
    """A call's arguments in the internal layout.

    Attributes:
        x: ``[T, B, I]``.
        hx: the float initial states, none, ``h``, or ``h`` and ``c``: ``[L · directions, B, H]``.
        state: the exact one instead.
        mask: bool ``[T, B]``, or ``None``.
        resets: bool ``[T, B]``, or ``None``.
        lengths: of the rows, if they were packed, longest first.
        batched: whether there was a batch.
    """

    x: Tensor
    hx: list[Tensor]
    state: State | None
    mask: Tensor | None = None
    resets: Tensor | None = None
    lengths: Tensor | None = None
    batched: bool = True


def take(
    module: RevRNNLayers, name: str, value: object, hx: Any, mask: Any = None, resets: Any = None
) -> Given:
    """Check the arguments of a call.

    Args:
        module: the module.
        name: what it calls its input.
        value: the input.
        hx: the initial state.
        mask: as given.
        resets: as given.

    Raises:
        RevRNNError: by the name of the argument, before any work is done.
    """
    wait_for_none()
    by_step = {"mask": mask, "resets": resets}
    if isinstance(value, PackedSequence):
        return _packed(module, name, value, hx, by_step)
    if not isinstance(value, Tensor):
        given = type(value).__name__
        raise RevRNNError("E_DTYPE", name, given, "a tensor, or a PackedSequence")
    check_dense(name, value)
    axes = {2: "(seq, input_size)", 3: "(seq, batch, input_size)"}
    if module.batch_first:
        axes[3] = "(batch, seq, input_size)"
    _check_floats(module, name, value, axes)
    check_shape(name, (*value.shape[:-1], max(module.hidden_size, module.input_size)))
    batched = value.dim() == 3
    steps_axes = axes[value.dim()].replace(", input_size", "" if batched else ",")
    for key, each in by_step.items():
        if each is not None:
            shape = tuple(value.shape[:-1])
            check_tensor(key, each, [torch.bool], shape, value.device, steps_axes)
    if not batched:
        value = value.unsqueeze(1)
        by_step = {n: None if m is None else m.unsqueeze(1) for n, m in by_step.items()}
    elif module.batch_first:
        value = value.transpose(0, 1)
        by_step = {n: None if m is None else m.transpose(0, 1) for n, m in by_step.items()}
    floats, state = _initial(module, hx, value.shape[1], batched, value.device)
    return Given(value, floats, state, by_step["mask"], by_step["resets"], None, batched)


def _check_floats(module: RevRNNLayers, name: str, value: Tensor, axes: dict[int, str]) -> None:
    """Check type, shape and device of the input, or of a packed one's data."""
    if value.dtype not in FLOATS:
        raise RevRNNError("E_DTYPE", name, value.dtype, "a floating-point tensor")
    size = module.input_size
    lengths = {n: text.replace("input_size", f"input_size={size}") for n, text in axes.items()}
    shape = f"shape {list(value.shape)}"
    if value.dim() not in axes:
        raise RevRNNError("E_SHAPE", name, shape, " or ".join(lengths[n] for n in sorted(axes)))
    if value.shape[-1] != size:
        raise RevRNNError("E_SHAPE", name, shape, lengths[value.dim()])
    place = module.any_weight().device
    if value.device != place:
        allowed = f"device {place}, that of the parameters"
        raise RevRNNError("E_ARGUMENT", name, f"device {value.device}", allowed)


def _initial(
    module: RevRNNLayers, hx: Any, rows: int, batched: bool, device: torch.device
) -> tuple[list[Tensor], State | None]:
    """Check ``hx`` and return it as floats ``[L · directions, B, H]``, or as a state."""
    if hx is None:
        return [], None
    if isinstance(hx, State):
        if module.bidirectional:
            raise RevRNNError("E_UNSUPPORTED", "hx", "a State", "floats if bidirectional")
        check_state(hx, module.config, rows, device, "hx")
        return [], hx
    layers = module.num_layers * (2 if module.bidirectional else 1)
    shape: tuple[int, ...] = (layers, rows, module.hidden_size)
    axes = "(layers, batch, hidden_size)"
    if module.bidirectional:
        axes = "(layers · directions, batch, hidden_size)"
    if not batched:
        shape, axes = (layers, module.hidden_size), axes.replace("batch, ", "")
    named = {"hx": hx}
    if module.config.has_cell_state:
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise RevRNNError("E_ARGUMENT", "hx", _kind(hx), f"(h, c), each {axes}, or a State")
        named = {"hx[0]": hx[0], "hx[1]": hx[1]}
    elif not isinstance(hx, Tensor):
        raise RevRNNError("E_ARGUMENT", "hx", _kind(hx), f"a tensor {axes}, or a State")
    for name, value in named.items():
        check_tensor(name, value, None, shape, device, axes)
    floats = list(named.values())
    return floats if batched else [value.unsqueeze(1) for value in floats], None


def _kind(value: object) -> str:
    """Describe a value for a message."""
    if isinstance(value, Tensor):
        return "one tensor"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type_name(value)


def _packed(
    module: RevRNNLayers, name: str, packed: PackedSequence, hx: Any, by_step: dict[str, Any]
) -> Given:
    """Check a packed sequence; its rows come in the order of their lengths."""
    for key, value in by_step.items():
        if value is not None:
            raise RevRNNError("E_ARGUMENT", key, "given", "None with a PackedSequence")
    data, sizes = packed.data, packed.batch_sizes
    check_dense(name, data)
    _check_floats(module, f"{name}.data", data, {2: "(all steps, input_size)"})
    plain = isinstance(sizes, Tensor) and sizes.dim() == 1 and sizes.dtype == torch.int64
    counts = sizes.tolist() if plain else []
    falling = all(a >= b for a, b in pairwise(counts))
    if not counts or not falling or counts[-1] < 1 or sum(counts) != len(data):
        allowed = f"int64 numbers that fall, at least 1, {len(data)} in all"
        given = counts if plain else f"{type(sizes).__name__} {sizes}"
        raise RevRNNError("E_SHAPE", f"{name}.batch_sizes", given, allowed)
    for key, order in (("sorted", packed.sorted_indices), ("unsorted", packed.unsorted_indices)):
        if order is not None and sorted(order.tolist()) != list(range(counts[0])):
            allowed = f"an order of {counts[0]} rows"
            raise RevRNNError("E_RANGE", f"{name}.{key}_indices", order.tolist(), allowed)
    there, back = packed.sorted_indices, packed.unsorted_indices
    rows = torch.arange(counts[0], device=data.device)
    if there is not None and back is not None and not torch.equal(there[back], rows):
        given = f"{back.tolist()} beside sorted_indices {there.tolist()}"
        raise RevRNNError("E_RANGE", f"{name}.unsorted_indices", given, "the inverse order")
    x, lengths = pad_packed_sequence(PackedSequence(data, sizes))
    floats, state = _initial(module, hx, counts[0], True, data.device)
    if there is not None:
        floats = [value.index_select(1, there) for value in floats]
        state = None if state is None else state.index_select(there)
    mask = torch.arange(len(x), device=lengths.device)[:, None] < lengths
    return Given(x, floats, state, mask.to(x.device), None, lengths)
