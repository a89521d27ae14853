"""Two directions: what the second one is given, from the last step to the first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .doors import Given


def backwards(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return ``[T, B, F]`` with the steps of each row in reverse; padding stays where it is."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(len(x), device=x.device)[:, None]
    ends = lengths.to(x.device)
    source = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(0, source[:, :, None].expand_as(x))


def given_backwards(given: Given) -> Given:
    """Return a call's arguments, but for initial states, as the second direction meets them.

    A masked step is left out in both directions. A row that starts anew before a step ends there
    for the second direction, which so starts anew before the step that precedes it.
    """
    mask, resets = given.mask, given.resets
    if mask is not None and given.lengths is None:
        mask = mask.flip(0)
    if resets is not None and len(resets):
        resets = torch.cat([torch.zeros_like(resets[:1]), resets.flip(0)[:-1]])
    return replace(given, x=backwards(given.x, given.lengths), mask=mask, resets=resets)


def dropped(x: Tensor, p: float, locked: bool) -> Tensor:
    """Drop elements of ``[T, B, F]`` with probability ``p``; if ``locked``, alike at all steps."""
    if not locked:
        return nn.functional.dropout(x, p)
    return x * nn.functional.dropout(torch.ones_like(x[:1], requires_grad=False), p)
