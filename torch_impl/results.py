"""What a readout returns for a chunk: a scalar, or a sum and a count; or that it cannot."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

# Errors that a trial of a caller's function passes on; any other speaks of what was tried.
OWN: Final = (RevRNNError, torch.OutOfMemoryError)


def check_loss(loss: object, name: str = "a scalar tensor, or (sum, count)") -> None:
    """Raise unless a loss is a scalar of a float type."""
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        given = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise RevRNNError("E_SHAPE", "readout", given, name)
    if not loss.is_floating_point():
        raise RevRNNError("E_DTYPE", "readout", loss.dtype, f"{name}, of a float type")


def checked(result: Any) -> tuple[Tensor, Tensor] | None:
    """Return sum and count as tensors, or ``None`` of a scalar that may be a loss."""
    if isinstance(result, (tuple, list)):
        return pair_of(result)
    check_loss(result)
    return None


def pair_of(result: Any) -> tuple[Tensor, Tensor]:
    """Return sum and count as tensors."""
    if len(result) != 2:
        raise RevRNNError("E_SHAPE", "readout", f"{len(result)} results", "a scalar, (sum, count)")
    total, count = result
    check_loss(total, "(sum, count), both scalars")
    if isinstance(count, Tensor):
        if count.numel() != 1 or count.is_complex() or count.dtype == torch.bool:
            given = f"a count of shape {list(count.shape)}, {count.dtype}"
            raise RevRNNError("E_SHAPE", "readout", given, "(sum, count), both scalars")
        if count.requires_grad:  # which would be lost
            given = "a count that requires a gradient"
            allowed = "a number of targets or sum of weights, held fixed: count.detach()"
            raise RevRNNError("E_ARGUMENT", "readout", given, allowed)
        return total, count.reshape(())
    try:
        if isinstance(count, bool):
            raise TypeError
        number = float(operator.index(count) if not hasattr(count, "is_integer") else count)
    except (TypeError, ValueError):
        given = f"a count of type {type(count).__name__}"
        raise RevRNNError("E_ARGUMENT", "readout", given, "a number or a scalar tensor") from None
    if not 0 <= number < float("inf"):
        raise RevRNNError("E_ARGUMENT", "readout", f"a count of {number}", "0 or more")
    return total, as_count(number, total)


def counts_nothing(result: Any) -> bool:
    """Say whether a result is (sum, count) with a plain number 0 as its count."""
    pair = isinstance(result, (tuple, list))
    return pair and not isinstance(result[1], Tensor) and not result[1]


def as_count(count: Tensor | float, total: Tensor) -> Tensor:
    """Return a count as a tensor beside its sum, whatever the default type of a number is."""
    if isinstance(count, Tensor):
        return count.to(total.device)
    return torch.tensor(count, dtype=torch.float32, device=total.device)


@contextmanager
def named_failure(name: str, function: object, *given: object, allowed: str) -> Iterator[None]:
    """Name the argument where one of PyTorch's own functions or modules does not take its data.

    What a function of the caller's raises is theirs, and is raised as it is.

    Raises:
        RevRNNError: ``E_ARGUMENT``.
    """
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        called: Any = function.func if isinstance(function, partial) else function
        kind = called if hasattr(called, "__name__") else type(called)
        passed_on = isinstance(error, OWN)
        if passed_on or not str(kind.__module__).startswith("torch.nn."):
            raise
        shown = " and ".join(
            f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else str(type(value))
            for value in given
        )
        first = str(error).partition("\n")[0]
        fails = f"{kind.__name__}, which does not take {shown}: {first}"
        raise RevRNNError("E_ARGUMENT", name, fails, allowed) from error
