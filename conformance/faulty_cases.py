"""Requests with faults: a right one, spoilt in one place or in several (EVAL, ERR-002).

Which of several faults is reported depends on their order, and that is where ports differ first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.kinds import DTYPES, KINDS, RECORDS
from revrnn.operations import OPERATIONS

from .contents import Arguments

Array = npt.NDArray[Any]

# Single values of every kind, in and out of most ranges.
# Of those beyond 2^53 a reader that has float64 alone takes the odd ones for even ones.
_NUMBERS: Final = (
    *(-1, 0, 1, 2, 3, 9, 11, 511, 512, 1025, 2**20 + 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
)
_OTHERS: Final = (None, True, False, "", "4", "no", 4.0, 2**63, 2**70)
_TEXTS: Final = tuple(text for kind in KINDS.values() for text in kind.values)
# What makes another name, or another text, of one: EVAL-001.
_MISSPELT: Final[tuple[Callable[[str], str], ...]] = (
    str.upper,
    str.capitalize,
    lambda name: f" {name}",
    lambda name: f"{name} ",
    lambda name: f"{name}\0",
    lambda name: f"{name}s",
    lambda name: name[:-1],
    lambda name: name.replace("_", "-") if "_" in name else f"_{name}",
    lambda name: name.replace("a", "\u0430").replace("o", "\u043e").replace("e", "\u0435"),
)
# What every object has in some language: names that none was given.
_INBORN: Final = ("constructor", "__proto__", "toString", "__class__", "__len__", "length")
_SINGLE: Final[tuple[Any, ...]] = (*_NUMBERS, *_NUMBERS, *_OTHERS, *_TEXTS, {})
# Names that some operation has, and one that none has; those of layers for the first two layers.
_NAMES: Final = tuple(
    sorted(
        {"zz", "formats", "config"}
        | {
            field.name.replace("{k}", layer)
            for operation in OPERATIONS.values()
            for field in operation.arguments
            for layer in "01"
        }
    )
)
_INTEGERS: Final = ("i16", "i32", "i64", "u8", "u16")
# The ends of all ranges, and what is beyond them.
_ENDS: Final = sorted(
    {
        end + step
        for kind in KINDS.values()
        if kind.type in _INTEGERS and not isinstance(kind.high, str)
        for end in kind.ends
        for step in (-1, 0, 1)
    }
    | {0, -1}
)


def misspelt(name: str, generator: np.random.Generator) -> str:
    """Return a name that is nearly another one, and not the same; or one that objects have."""
    if generator.random() < 0.1:
        return str(_one(_INBORN, generator))
    changed = [change(name) for change in _MISSPELT]
    return str(_one([other for other in changed if other != name], generator))


def spoil(given: Arguments, generator: np.random.Generator) -> Arguments:
    """Return a request with one to three places changed; what was given is unchanged."""
    spoilt = dict(given)
    for _ in range(_one((1, 1, 2, 2, 3), generator)):
        _spoil_once(spoilt, generator)
    return spoilt


def _spoil_once(given: Arguments, generator: np.random.Generator) -> None:
    kind = generator.random()
    if kind < 0.05 and given:
        del given[_one(sorted(given), generator)]
        return
    if kind < 0.07 and given:
        name = _one(sorted(given), generator)
        given[misspelt(name, generator)] = given.pop(name)
        return
    if kind < 0.12 or not given:
        extra: tuple[Any, ...] = (None, 5, {}, np.zeros(1, np.int32))
        given[_one((*_NAMES, *_INBORN), generator)] = _one(extra, generator)
        return
    # Configurations hold as much as all arrays together.
    records = [name for name in ("config", "formats") if isinstance(given.get(name), dict)]
    name = _one((*sorted(given), *sorted(given), *records * len(given)), generator)
    value = given[name]
    if isinstance(value, np.ndarray):
        given[name] = _spoilt_array(value, generator)
    elif name in records and generator.random() < 0.95:
        given[name] = _spoilt_record(name, value, generator)
    else:
        given[name] = _other(value, (*_SINGLE, np.zeros(1, np.int32)), generator)


def _spoilt_record(name: str, record: Arguments, generator: np.random.Generator) -> Arguments:
    """Return a configuration, or its formats, with one to three fields changed."""
    spoilt = dict(record)
    fields = [*(field.name for field in RECORDS[name]), "zz", str(_one(_INBORN, generator))]
    for _ in range(_one((1, 1, 2, 3), generator)):
        field = _one(fields, generator)
        if generator.random() < 0.1:
            spoilt.pop(field, None)
        elif generator.random() < 0.05:
            spoilt[misspelt(field, generator)] = spoilt.pop(field, None)
        elif field == "formats" and generator.random() < 0.8:
            spoilt[field] = _spoilt_record("formats", {}, generator)
        else:
            spoilt[field] = _other(spoilt.get(field), _SINGLE, generator)
    return spoilt


def _other(value: object, others: Sequence[Any], generator: np.random.Generator) -> Any:
    """Return one of other values, or of a text one that is nearly the same."""
    if isinstance(value, str) and value and generator.random() < 0.4:
        return misspelt(value, generator)
    return _one(others, generator)


def _spoilt_array(array: Array, generator: np.random.Generator) -> Any:
    """Return something in the place of an array: no array, another type, shape or content."""
    spoil: Callable[[Array, np.random.Generator], Any]
    ways = (_no_array, *2 * [_retyped], *2 * [_reshaped], *3 * [_refilled])
    spoil = _one(ways, generator)
    return spoil(array, generator)


def _no_array(array: Array, generator: np.random.Generator) -> Any:
    return _one((None, 5, True, "x", {}, 1.0, {"data": 5, "shape": 1}), generator)


def _retyped(array: Array, generator: np.random.Generator) -> Array:
    """Return an array of another type, with the same elements where that type has them."""
    name = _one(sorted(DTYPES), generator)
    dtype = DTYPES[name]
    if array.dtype.kind in "bf" or name in ("bool", "bigint"):
        made: Array = np.full(array.shape, True if name == "bool" else 5, dtype)
        return made
    if name in _INTEGERS:
        ends = np.iinfo(dtype.name)
        values = [min(max(int(v), ends.min), ends.max) for v in array.ravel()]
        return np.array(values, dtype).reshape(array.shape)
    return np.zeros(array.shape, dtype)


def _reshaped(array: Array, generator: np.random.Generator) -> Array:
    """Return an array with other axes or lengths, often of as many elements."""
    shape = list(array.shape)
    kind = generator.random()
    if kind < 0.2:
        return array.reshape(-1)
    if kind < 0.4:
        return array[..., None] if generator.random() < 0.5 else array[None]
    if kind < 0.5 and array.ndim > 1:
        return np.swapaxes(array, 0, 1)
    if shape:
        axis = int(generator.integers(len(shape)))
        shape[axis] = _one([n for n in (0, 1, 2, 3) if n != shape[axis]], generator)
    first = array.ravel()[0] if array.size else array.dtype.type(5)
    return np.full(shape, first, array.dtype)


def _refilled(array: Array, generator: np.random.Generator) -> Array:
    """Return an array with another element, often at or beyond the end of a range."""
    if not array.size:
        return array
    spoilt: Array = array.copy()
    place = int(generator.integers(array.size))
    if array.dtype.kind == "f":
        spoilt.flat[place] = _one((np.nan, np.inf, -np.inf), generator)
    elif array.dtype.kind == "b":
        spoilt.flat[place] = not spoilt.flat[place]
    elif array.dtype.kind == "O":
        spoilt.flat[place] = -1
    else:
        ends = np.iinfo(array.dtype)
        spoilt.flat[place] = _one([n for n in _ENDS if ends.min <= n <= ends.max], generator)
    return spoilt


def _one(choices: Sequence[Any], generator: np.random.Generator) -> Any:
    return choices[int(generator.integers(len(choices)))]
