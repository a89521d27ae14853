"""What the Triton engine takes, and why it refuses the rest; imports no Triton."""

from __future__ import annotations

from functools import cache

import torch

from revrnn.config import Config

from ...gpu.sizes import interpreted
from ...gpu.support import missing, stack_refusal
from ..engine import Settings


@cache
def device_refusal(kind: str, index: int | None) -> str | None:
    """Return what a device lacks, or ``None``."""
    lacking = missing()
    if lacking is not None or interpreted():
        return lacking
    if kind != "cuda":
        return f"the device is {kind}, not cuda"
    if torch.version.cuda is None:
        return "this PyTorch is not built for CUDA"
    major, minor = torch.cuda.get_device_capability(index)
    if (major, minor) < (8, 0):
        return f"compute capability {major}.{minor} is below 8.0"
    return None


def resident(device: torch.device) -> int:
    """Return how many programs run at the same time for certain.

    A program that could be compiled has room on a multiprocessor that is free. The interpreter
    runs one after the other.
    """
    if device.type != "cuda" or interpreted():
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def refusal(config: Config, device: torch.device, settings: Settings) -> str | None:
    """Return why a stack is refused, or ``None``."""
    lacking = device_refusal(device.type, device.index)
    if lacking is not None:
        return lacking
    if settings.count:
        return "gates are to be counted for a report"
    return stack_refusal(config)
