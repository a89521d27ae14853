"""What the Triton engine takes, and why it refuses the rest; imports no Triton."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch

from revrnn.config import Config

from ..engine import Settings


def interpreted() -> bool:
    """Say whether kernels run in Triton's interpreter, on any device (``TRITON_INTERPRET=1``)."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on", "yes", "y")


@cache
def device_refusal(kind: str, index: int | None) -> str | None:
    """Return what a device lacks, or ``None``."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if interpreted():
        return None
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
    if config.forgetting and config.buffer != "stream":
        return f"the buffer is {config.buffer!r}, not 'stream'"
    if settings.count:
        return "gates are to be counted for a report"
    # Both cross sums of bytes lie in one int32: fewer than 2^16 summands (PROD-003).
    summands = config.group_size * (1 if config.num_layers == 1 else 3)
    if max(summands, config.input_size) > 2**16 - 512:
        return "a product has 2^16 summands or more"
    return None
