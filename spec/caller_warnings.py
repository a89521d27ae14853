"""Warnings that name the line of the caller's, and not one of this project's."""

from __future__ import annotations

import sys
import warnings
from typing import Final

# Packages whose frames lie between a caller and what he called.
_BETWEEN: Final = ("revrnn", "torch", "jax", "flax", "equinox")


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the place outside these packages from which they were called."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
