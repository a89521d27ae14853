"""Masks, resets and gains by step, checked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import GAIN_MAX
from revrnn.functions import check_takes

from .checks import check_tensor
from .dropout import GainsOfDropout
from .sequence import Schedule

# A step's gains between layers, int32 [L-1, B, H] with 12 fraction bits, from its number (SEQ-012).
Gains = Callable[[int], Tensor]


class _Checked:
    """Gains from a function of the caller's, checked at every step."""

    def __init__(self, gains: Gains, shape: tuple[int, int, int], device: torch.device) -> None:
        self.gains, self.shape, self.device = gains, shape, device
        self.known = isinstance(gains, GainsOfDropout)

    def __call__(self, t: int) -> Tensor:
        """Return the gains of step ``t``."""
        made = self.gains(t)
        if not self.known:
            check_tensor(f"gains({t})", made, [torch.int32], self.shape, self.device)
            if bool((made < 0).any() | (made > GAIN_MAX).any()):
                allowed = f"0 … {GAIN_MAX}"
                raise RevRNNError("E_RANGE", f"gains({t})", "a gain out of range", allowed)
        return made


def make_schedule(
    config: Config,
    steps: int,
    rows: int,
    device: torch.device,
    mask: Tensor | None,
    resets: Tensor | None,
    gains: Tensor | Gains | None,
) -> Schedule:
    """Check mask, resets and gains and return them as a schedule."""
    check_schedule(config, steps, rows, device, mask, resets, gains)
    by_step: Gains | None = None
    if isinstance(gains, Tensor):
        if bool((gains < 0).any() | (gains > GAIN_MAX).any()):
            raise RevRNNError("E_RANGE", "gains", "a gain out of range", f"0 … {GAIN_MAX}")
        by_step = gains.__getitem__
    elif gains is not None:
        by_step = _Checked(gains, (config.num_layers - 1, rows, config.hidden_size), device)
    starts = None
    if resets is not None:
        # One synchronisation for all steps: the host must know which rows are reset.
        where: list[list[int]] = [[] for _ in range(steps)]
        for t, row in resets.nonzero().tolist():
            where[t].append(row)
        starts = [
            torch.tensor(rows_of_step, device=device) if rows_of_step else None
            for rows_of_step in where
        ]
    return Schedule(mask, starts, by_step)


def check_schedule(
    config: Config,
    steps: int,
    rows: int,
    device: torch.device,
    mask: Tensor | None,
    resets: Tensor | None,
    gains: Tensor | Gains | None,
) -> None:
    """Check types, shapes and devices of mask, resets and gains, not their numbers."""
    for name, value in (("mask", mask), ("resets", resets)):
        if value is not None:
            check_tensor(name, value, [torch.bool], (steps, rows), device)
    if gains is None:
        return
    if config.num_layers == 1:
        raise RevRNNError("E_ARGUMENT", "gains", "gains for one layer", "None, or more layers")
    given: object = gains
    if isinstance(gains, Tensor):
        shape = (steps, config.num_layers - 1, rows, config.hidden_size)
        check_tensor("gains", gains, [torch.int32], shape, device)
    elif not callable(given):
        allowed = "a tensor, or a function of a step's number"
        raise RevRNNError("E_ARGUMENT", "gains", type(given).__name__, allowed)
    elif not isinstance(given, GainsOfDropout):
        check_takes("gains", given, 1, "a function of a step's number")
