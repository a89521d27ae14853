"""Over what PyTorch's cross-entropies average: targets that count, or their weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

# What PyTorch averages over the targets that count, not over all.
CROSS: Final[dict[Any, inspect.Signature]] = {
    function: inspect.signature(function)
    for function in (functional.cross_entropy, functional.nll_loss)
}


def counted(func: Any, args: Any, given: Mapping[str, Any]) -> tuple[Tensor | None, float] | None:
    """Return what a cross-entropy is averaged over, and how many targets there are.

    Args:
        func: one of :data:`CROSS`.
        args: of the call.
        given: the same, by name.

    Returns:
        What a mean is over, or ``None`` of a sum, and all targets; ``None`` if it is neither.
    """
    bound = CROSS[func].bind(*args, **given)
    bound.apply_defaults()
    values = bound.arguments
    reduction = values["reduction"]
    old_names = values["size_average"] is not None or values["reduce"] is not None
    if reduction not in ("mean", "sum") or old_names:
        return None
    scores, target = values["input"].detach(), values["target"].detach()
    positions = float(target.numel())
    if target.is_floating_point():
        positions /= scores.shape[1 if scores.dim() > 1 else 0]
    if reduction == "sum":
        return None, positions
    if target.is_floating_point():
        return target.new_tensor(positions, dtype=torch.float32), positions
    keep, weight = target != values["ignore_index"], values["weight"]
    each = keep.float()
    if weight is not None:
        wide = weight.detach().float()
        each = torch.where(keep, wide[torch.where(keep, target, 0).long()], 0)
    return each.sum(), positions
