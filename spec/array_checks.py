"""Checks of the arrays of a request: types, shapes, finite numbers, ranges (ERR-002, 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import RevRNNError
from .kinds import DTYPES, Field, is_int
from .operations import AXES, length_of


def check_arrays(
    fields: Sequence[Field], arrays: Mapping[str, Any], axes: Mapping[str, int]
) -> None:
    """Check all arrays for one fault after the other.

    Args:
        fields: what they must be, in their order.
        arrays: what was given, by name.
        axes: the lengths of axes that are known beforehand.

    Raises:
        RevRNNError: ``E_DTYPE``, ``E_SHAPE``, ``E_NONFINITE`` or ``E_RANGE``.
    """
    lengths = dict(axes)
    for field in fields:
        _check_dtype(field, arrays[field.name])
    for field in fields:
        _check_shape(field, arrays[field.name], lengths)
    for field in fields:
        check_finite(field.name, arrays[field.name])
    for field in fields:
        _check_range(field, arrays[field.name])


def _check_dtype(field: Field, value: object) -> None:
    wanted = DTYPES[field.kind.type]
    given = getattr(value, "dtype", type(value).__name__)
    if isinstance(value, np.ma.MaskedArray):
        given = "a masked array, whose mask would be lost"
        raise RevRNNError("E_DTYPE", field.name, given, f"{wanted} array")
    if not isinstance(value, np.ndarray) or value.dtype != wanted:
        raise RevRNNError("E_DTYPE", field.name, f"elements of {given}", f"{wanted} array")
    if field.kind.type == "bigint" and not all(is_int(element) for element in value.flat):
        raise RevRNNError("E_DTYPE", field.name, "elements of other types", "whole numbers")


def _check_shape(field: Field, value: npt.NDArray[Any], lengths: dict[str, int]) -> None:
    """Check a shape, and bind the letters that stand in it for the first time."""
    if field.axes == ("*",):
        if value.ndim == 0:
            raise RevRNNError("E_SHAPE", field.name, "no axes", "at least one axis")
        return
    right = value.ndim == len(field.axes)
    if right:
        for axis, length in zip(field.axes, value.shape, strict=True):
            if axis in AXES:
                lengths.setdefault(axis, length)
                most = AXES[axis].most
                right &= AXES[axis].least <= length and (most is None or length <= most)
            right &= length == length_of(axis, lengths)
    if not right:
        known = [f"{name} = {lengths[name]}" for name in AXES if name in lengths]
        allowed = f"shape [{', '.join(field.axes)}]" + (
            f" with {', '.join(known)}" if known else ""
        )
        raise RevRNNError("E_SHAPE", field.name, f"shape {list(value.shape)}", allowed)


def check_finite(name: str, value: npt.NDArray[Any]) -> None:
    """Raise ``E_NONFINITE`` if a float array holds NaN or an infinity (QNT-004)."""
    if value.dtype == np.float32 and not np.isfinite(value).all():
        where = np.argwhere(~np.isfinite(value))[0].tolist()
        given = f"{value[tuple(where)]} at {where}"
        raise RevRNNError("E_NONFINITE", name, given, "finite numbers")


def _check_range(field: Field, value: npt.NDArray[Any]) -> None:
    low, high = field.kind.low, field.kind.high
    if low is None or value.size == 0:
        return
    assert not isinstance(high, str)
    smallest, largest = int(value.min()), int(value.max())
    if smallest < low or (high is not None and largest > high):
        allowed = f"at least {low}" if high is None else f"{low} … {high}"
        raise RevRNNError("E_RANGE", field.name, f"values {smallest} … {largest}", allowed)
