"""Which stacks the kernels take; imports no Triton."""

from __future__ import annotations

from importlib.util import find_spec

from revrnn.config import Config


def missing() -> str | None:
    """Return what is not installed, or ``None``."""
    return "Triton is not installed" if find_spec("triton") is None else None


def stack_refusal(config: Config) -> str | None:
    """Return why a stack is refused, or ``None``."""
    if config.forgetting and config.buffer != "stream":
        return f"the buffer is {config.buffer!r}, not 'stream'"
    # Both cross sums of bytes lie in one int32: fewer than 2^16 summands (PROD-003).
    summands = config.group_size * (1 if config.num_layers == 1 else 3)
    if max(summands, config.input_size) > 2**16 - 512:
        return "a product has 2^16 summands or more"
    return None
