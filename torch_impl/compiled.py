"""Steps fused by ``torch.compile``: the same bits, fewer passes over memory.

A step of a small batch consists of many small integer operations, and most of its time is spent on
starting them. Compiling needs a C++ compiler (on CUDA devices Triton) and takes tens of seconds the
first time a configuration is used, so it is off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

from revrnn.errors import RevRNNError, shown

F = TypeVar("F", bound=Callable[..., Any])

_enabled = False
_made: dict[Callable[..., Any], Callable[..., Any]] = {}


def set_compiled_steps(enabled: bool) -> None:
    """Choose whether steps are compiled; no result depends on it."""
    global _enabled
    given: object = enabled
    if not isinstance(given, (bool, np.bool_)):
        raise RevRNNError("E_ARGUMENT", "enabled", shown(enabled), "True, False")
    _enabled = bool(given)


def steps_are_compiled() -> bool:
    """Return what was chosen."""
    return _enabled


@contextmanager
def compiled_steps(enabled: bool = True) -> Iterator[None]:
    """Choose whether steps are compiled for the time of a ``with`` block."""
    before = _enabled
    set_compiled_steps(enabled)
    try:
        yield
    finally:
        set_compiled_steps(before)


def compiled(function: F) -> F:
    """Return ``function``, compiled if that is chosen."""
    if not _enabled:
        return function
    if function not in _made:
        _made[function] = torch.compile(function, dynamic=False)
    return _made[function]  # type: ignore[return-value]
