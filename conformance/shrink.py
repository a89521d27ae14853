"""Making a failing random request smaller, as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.formats import Formats
from revrnn.operations import arguments_of

from .contents import Arguments

# Requests that are tried at most.
ATTEMPTS: Final = 200


def shrink(
    operation: str, arguments: Mapping[str, Any], fails: Callable[[Arguments], bool]
) -> Arguments:
    """Return arguments that still fail and have no smaller neighbour that does.

    Args:
        operation: what is asked for.
        arguments: arguments that fail.
        fails: says whether others still do; it is asked :data:`ATTEMPTS` times at most.
    """
    best, left = dict(arguments), ATTEMPTS
    changed = True
    while changed and left > 0:
        changed = False
        for candidate in smaller(operation, best):
            left -= 1
            if fails(candidate):
                best, changed = candidate, True
                break
            if left <= 0:
                break
    return best


def smaller(operation: str, arguments: Arguments) -> Iterator[Arguments]:
    """Give neighbours of a request that are smaller or simpler, the boldest first."""
    axes = _axes(operation, arguments)
    for name in ("T", "B", "M", "N", "K", "*"):
        length = axes.get(name, 0)
        low = 0 if name == "T" else 1
        parts = [(0, n) for n in (length // 2, length - 1) if low <= n < length]
        if name in "B*" and length > 1:
            parts += [(length // 2, length), (1, length)]
        for begin, end in dict.fromkeys(parts):
            yield _cut(operation, arguments, name, slice(begin, end))
    yield from _simpler(arguments)


def _dimensions(operation: str, arguments: Arguments) -> dict[str, tuple[str, ...]]:
    """Return the names of each array's axes."""
    given = arguments.get("config")
    config = Config.from_dict(given) if isinstance(given, Mapping) else given
    fields = arguments_of(operation, config, arguments)
    return {f.name: f.axes for f in fields if f.is_array and f.name in arguments}


def _axes(operation: str, arguments: Arguments) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for name, names in _dimensions(operation, arguments).items():
        shape = np.shape(arguments[name])
        for axis, length in zip(names, shape, strict=False):
            lengths.setdefault(axis, length)
    return lengths


def _cut(operation: str, arguments: Arguments, axis: str, part: slice) -> Arguments:
    """Keep a part of the steps, rows or whatever has a free length."""
    smaller_arguments = dict(arguments)
    for name, names in _dimensions(operation, arguments).items():
        value = arguments[name]
        for position, here in enumerate(names):
            if here == axis:
                value = value[(slice(None),) * position + (part,)]
            elif here == "T+1" and axis == "T":
                value = value[(slice(None),) * position + (slice(0, part.stop + 1),)]
        smaller_arguments[name] = value.copy() if isinstance(value, np.ndarray) else value
    return smaller_arguments


def _simpler(arguments: Arguments) -> Iterator[Arguments]:
    """Give the request with one argument made simpler."""
    if "gains" in arguments:
        yield {name: value for name, value in arguments.items() if name != "gains"}
    if arguments.get("slice_size"):
        yield arguments | {"slice_size": 0}
    config = arguments.get("config")
    if isinstance(config, Mapping):
        whole = Config.from_dict(config)
        if whole.formats != Formats():
            yield arguments | {"config": replace(whole, formats=Formats()).as_dict()}
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray) or not value.size or name in ("words", "flags"):
            continue
        if value.dtype == bool:
            if not value.all():
                yield arguments | {name: np.ones_like(value)}
        elif name == "heads":
            low = np.full_like(value, value.min())
            if (low != value).any():
                yield arguments | {name: low}
        elif name == "z":
            if (value != 1024).any():
                yield arguments | {name: np.full_like(value, 1024)}
        elif value.any():
            yield arguments | {name: np.zeros_like(value)}
            if np.issubdtype(value.dtype, np.integer) and np.abs(value.astype(object)).max() > 1:
                yield arguments | {name: (value // 2).astype(value.dtype)}
