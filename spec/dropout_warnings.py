"""Warnings of dropout that drops nothing, as ``nn.GRU`` has one."""

from __future__ import annotations

import sys
import warnings
from typing import Final

# Packages whose frames lie between a caller and a module of his.
_BETWEEN: Final = ("revrnn", "torch", "jax", "flax", "equinox")


def warn_of_one_layer(dropout: float, num_layers: int) -> None:
    """Warn if there is dropout between layers and but one layer."""
    if dropout and num_layers == 1:
        _warn(
            f"dropout={dropout} drops outputs of all layers but the last; with num_layers=1 it"
            " drops nothing"
        )


def warn_of_no_key(argument: str, evaluation: str) -> None:
    """Warn that a call in training mode drops nothing, for want of a key.

    Args:
        argument: what the call should have been given.
        evaluation: how to say that nothing is to be dropped.
    """
    _warn(f"without {argument} nothing is dropped: give it, or, where that is meant, {evaluation}")


def _warn(text: str) -> None:
    """Warn at the place outside these packages from which they were called."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
