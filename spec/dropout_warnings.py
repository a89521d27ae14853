"""Warnings of dropout that drops nothing, as ``nn.GRU`` has one."""

from __future__ import annotations

from .caller_warnings import warn_caller


def warn_of_one_layer(dropout: float, num_layers: int) -> None:
    """Warn if there is dropout between layers and but one layer."""
    if dropout and num_layers == 1:
        warn_caller(
            f"dropout={dropout} drops outputs of all layers but the last; with num_layers=1 it"
            " drops nothing"
        )


def warn_of_no_key(argument: str, evaluation: str) -> None:
    """Warn that a call in training mode drops nothing, for want of a key.

    Args:
        argument: what the call should have been given.
        evaluation: how to say that nothing is to be dropped.
    """
    warn_caller(
        f"without {argument} nothing is dropped: give it, or, where that is meant, {evaluation}"
    )
