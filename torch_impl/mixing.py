"""Whether a readout mixes the steps of a chunk, as its graph shows.

A softmax over the steps, say, gives for a chunk something else than for the whole sequence. Only
what is certain is refused: a function along the steps, on whose results the loss depends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

# Functions along one axis, and the place of that axis among their arguments.
_ALONG: Final = {
    "softmax": 1,
    "log_softmax": 1,
    "softmin": 1,
    "cumsum": 1,
    "cumprod": 1,
    "logcumsumexp": 1,
    "normalize": 2,
}


def along_first_axis(name: str, args: Any, given: Mapping[str, Any]) -> bool:
    """Say whether a call is that of a function along the first axis of its array."""
    place = _ALONG.get(name)
    if place is None:
        return False
    array = args[0] if args else given.get("input")
    axis = given.get("dim", args[place] if len(args) > place else None)
    return isinstance(array, Tensor) and isinstance(axis, int) and axis in (0, -array.dim())


def check_not_mixed(name: str, array: Tensor, outputs: Tensor, loss: Tensor) -> None:
    """Raise ``E_ARGUMENT`` if the loss depends on an array whose elements depend on several steps.

    Args:
        name: of the function that made the array.
        array: its result, ``[C, B, …]``.
        outputs: of the chunk, ``[C, B, H]``.
        loss: of the chunk.
    """
    if outputs.requires_grad and _reaches(loss, array.grad_fn) and _is_mixed(array, outputs):
        given = f"a loss with {name} along the steps, of which it sees a chunk"
        allowed = "functions of each step alone; or a chunk_size of all steps"
        raise RevRNNError("E_ARGUMENT", "readout", given, allowed)


def _reaches(loss: Tensor, node: Any) -> bool:
    """Say whether a node belongs to the graph of a loss."""
    seen, waiting = set[Any](), [loss.grad_fn]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        if one is node:
            return True
        seen.add(one)
        waiting += [below for below, _ in one.next_functions]
    return False


def _is_mixed(array: Tensor, outputs: Tensor) -> bool:
    """Say whether the last step of an array has a gradient with respect to several steps."""
    with torch.enable_grad():
        total = array.select(0, -1).sum()
    try:
        (gradient,) = torch.autograd.grad(total, [outputs], retain_graph=True, allow_unused=True)
    except RuntimeError:  # a graph that only a whole backward pass can be run on
        return False
    return gradient is not None and int((gradient != 0).flatten(1).any(1).sum()) > 1
