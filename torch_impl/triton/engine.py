"""The Triton engine's entry; imports no Triton itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from revrnn.config import Config

from ..engine import Settings, Work
from ..sequence import Schedule
from .support import interpreted, refusal


class TritonEngine:
    """Kernels in Triton for CUDA devices, or in its interpreter for any."""

    name = "triton"

    def refusal(self, config: Config, device: torch.device, settings: Settings) -> str | None:
        """Return why a stack is refused, or ``None``."""
        reason = refusal(config, device, settings)
        if reason is None and not interpreted():
            from . import self_check

            reason = self_check.refusal(device)
        return reason

    def prepare(
        self, config: Config, params: Mapping[str, Tensor], schedule: Schedule, settings: Settings
    ) -> Work:
        """Take parameters in fixed point."""
        from .work import TritonWork

        return TritonWork(config, params, schedule, settings)

    def product(self, config: Config, device: torch.device) -> str:
        """Return the only one."""
        return "signed bytes on tensor cores"


ENGINE = TritonEngine()
