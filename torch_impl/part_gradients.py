"""Whether the gradient of what is made of a chunk is the sum of the gradients of its parts.

Numbers may add up where their gradients do not: where a loss is divided by itself, held fixed
(``with torch.no_grad()``); where weights of an attention over the steps are still zero, so that it
is a mean; where a layer along the steps is multiplied by a factor that is still zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from .collect import Collector

# By how much gradients may differ: of a tensor's largest, and of the largest of all.
_SHARES: Final = (1e-3, 1e-4)
_LOW: Final = (0.1, 0.02)


def gradients_add_up(
    whole: Tensor | float, parts: Sequence[Tensor | float], since: int, low: bool
) -> bool | None:
    """Say whether gradients add up, as far as they show it.

    Args:
        whole: a scalar, with its graph.
        parts: scalars of which it is the sum, with theirs, if they have one.
        since: gradients are those of nodes older than this, and of leaves.
        low: whether numbers are of few bits.

    Returns:
        ``None`` if they do not show it: too few parts have one, it is 0 or not finite.
    """
    of_whole, of_parts = Collector(), Collector()
    with_graph = 0
    for totals, into in (([whole], of_whole), (parts, of_parts)):
        for total in totals:
            if isinstance(total, Tensor) and total.requires_grad:
                # The caller's autocast would round products of gradients.
                with torch.autocast(total.device.type, enabled=False):
                    into.backward([total], [torch.ones_like(total)], since)
                with_graph += 1
    pairs = [(a.double(), b.double()) for a, b in of_whole.beside(of_parts)]
    if not pairs:
        return None
    sizes = [torch.maximum(a.abs().max(), b.abs().max()) for a, b in pairs]
    largest = torch.stack([size.cpu() for size in sizes]).max()
    if not bool(torch.isfinite(largest)) or not bool(largest):
        return None
    own, of_all = _LOW if low else _SHARES
    same = all(
        bool((a - b).abs().max().cpu() <= own * size.cpu() + of_all * largest)
        for (a, b), size in zip(pairs, sizes, strict=True)
    )
    return same and (with_graph > 2 or None)
