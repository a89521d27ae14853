"""Whether the engine of kernels on a GPU can be had; imports no Triton before it is asked for.

What a program is compiled for is known when it is lowered: there it is an error to compile it for
another device than a GPU (:mod:`.calls`).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Final

import jax

from revrnn.config import Config

from ...gpu.sizes import interpreted
from ...gpu.support import missing, stack_refusal

# The last version of JAX with which the kernels were compiled. What is called is XLA's own and
# older than any version that is allowed, but nothing promises that it will stay.
_LAST: Final = (0, 12, 0)


def refusal(config: Config) -> str | None:
    """Return why the engine does not take a stack, or ``None``."""
    reason = missing() or stack_refusal(config)
    if reason is None and not interpreted():
        if jax.__version_info__[:3] > _LAST:
            last = ".".join(map(str, _LAST))
            return f"JAX {jax.__version__} is newer than {last}, the last it was compiled with"
        if jax.default_backend() == "gpu":
            return _fault(config.cell, config.forgetting)
    return reason


def device_refusal() -> str | None:
    """Return why it does not compute on the default device, or ``None``."""
    if interpreted() or jax.default_backend() == "gpu":
        return None
    return f"it computes on GPUs, and the default device is a {jax.default_backend()}"


@cache
def _capable() -> str | None:
    told = str(getattr(jax.devices()[0], "compute_capability", None))
    try:
        major, minor = map(int, told.split("."))
    except ValueError:
        return f"the GPU is not one of CUDA's (its kind is {told!r})"
    return None if (major, minor) >= (8, 0) else f"compute capability {major}.{minor} is below 8.0"


def _fault(cell: str, forgetting: bool) -> str | None:
    check: Any = import_module("..self_check", __package__)
    reason: str | None = _capable() or check.fault("triton", cell, forgetting)
    return reason
