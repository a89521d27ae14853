"""The Triton engine's entry; imports no Triton itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from revrnn.config import Config

from ...gpu.sizes import interpreted
from ..engine import Engine, Settings, Work
from ..sequence import Schedule
from .support import refusal


class TritonEngine(Engine):
    """Kernels in Triton for CUDA devices, or in its interpreter for any."""

    def __init__(self, name: str, persistent: bool) -> None:
        """Take the engine's name, and whether one launch takes many steps where it can."""
        self.name, self.persistent = name, persistent

    def refusal(self, config: Config, device: torch.device, settings: Settings) -> str | None:
        """Return why a stack is refused, or ``None``."""
        reason = refusal(config, device, settings)
        if reason is None and not interpreted():
            from . import self_check

            reason = self_check.refusal(device, self.persistent)
        return reason

    def prepare(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> Work:
        """Take parameters in fixed point."""
        from .work import TritonWork

        return TritonWork(config, params, schedule, settings, self.persistent)

    def product(self, config: Config, device: torch.device) -> str:
        """Return the only one, and which batches one launch takes many steps of."""
        product = "signed bytes on tensor cores"
        if not self.persistent:
            return product
        from .launch_persistent import most_rows

        rows = most_rows(config, device)
        if not rows:
            return f"{product}; a launch a phase, since a batch does not fit in one"
        return f"{product}; one launch a chunk for batches of up to {rows} rows"


ENGINE = TritonEngine("triton", persistent=False)
