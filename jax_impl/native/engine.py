"""Whether the native engine can be had; numba is imported when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import jax

from revrnn.config import Config

# What :mod:`revrnn.native.frames` reads by offsets.
_MAJOR: Final = "#define XLA_FFI_API_MAJOR 0\n"


def refusal(config: Config) -> str | None:
    """Return why the engine does not take a stack, or ``None``."""
    if jax.default_backend() != "cpu":
        return f"it computes on the CPU, and the default device is a {jax.default_backend()}"
    if config.forgetting and config.buffer != "stream":
        return f"it has the buffer 'stream', and the configuration asks for {config.buffer!r}"
    reason = _fault()
    if reason is None:
        check: Any = import_module("..self_check", __package__)
        reason = check.fault("native", config.cell, config.forgetting)
    return reason


@cache
def _fault() -> str | None:
    """Return what is wrong with numba or with XLA's interface, once per process."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        if _MAJOR not in header.read_text(encoding="utf-8"):
            return f"JAX {jax.__version__} has another interface for foreign functions"
        products: Any = import_module("revrnn.native.products")
        import_module(".calls", __package__)
        right = products.self_check()
    except MemoryError:  # which says nothing of numba, and may be over next time
        raise
    except Exception as error:  # whatever a broken installation raises: XLA's scan goes on
        return f"numba cannot be used ({type(error).__name__}: {str(error).splitlines()[:1]})"
    return None if right else "its products are wrong on this processor"
