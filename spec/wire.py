"""Values as JSON, and back (CONF-004): what vectors and messages are written in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .kinds import DTYPE_NAMES, DTYPES, TABLE

# How elements of each type are written.
_FORMS: Final[Mapping[str, str]] = TABLE["dtypes"]
_DECIMAL: Final = re.compile(r"0|-?[1-9][0-9]*")
_HEX_FLOAT: Final = re.compile(
    r"-?(0[xX](?P<whole>[0-9a-fA-F]+)(\.(?P<part>[0-9a-fA-F]*))?([pP](?P<power>[+-]?[0-9]+))?|inf|nan)"
)


def dump(value: Any) -> str:
    """Return the canonical JSON text of a value, on one line."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def encode(value: Any) -> Any:
    """Return an argument or result as what :mod:`json` writes."""
    if isinstance(value, np.ndarray):
        kind = DTYPE_NAMES[value.dtype.name]
        write: Any = {"decimal string": str, "hexadecimal float": float.hex}.get(_FORMS[kind])
        flat = value.flatten().tolist()
        data = flat if write is None else [write(element) for element in flat]
        return {"data": data, "dtype": kind, "shape": list(value.shape)}
    if isinstance(value, float):
        return {"f64": float(value).hex()}
    if isinstance(value, Mapping):
        return {name: encode(item) for name, item in value.items()}
    assert value is None or isinstance(value, bool | int | str), repr(value)
    return value


def decode(value: Any) -> Any:
    """Return an argument or result from what :mod:`json` reads.

    Raises:
        ValueError: if it is none; the message says why.
    """
    if not isinstance(value, dict):
        if isinstance(value, list | float):
            raise ValueError(f"{_short(value)} is no value: arrays and floats are objects")
        return value
    if set(value) == {"f64"}:
        return np.float64(_float(value["f64"]))
    if set(value) == {"data", "dtype", "shape"}:
        return _array(value["dtype"], value["shape"], value["data"])
    return {name: decode(item) for name, item in value.items()}


def _array(kind: object, shape: object, data: object) -> npt.NDArray[Any]:
    if not isinstance(kind, str) or kind not in DTYPES:
        raise ValueError(f"{_short(kind)} is no dtype")
    lengths = shape if isinstance(shape, list) else [-1]
    if not all(type(n) is int and 0 <= n < 2**40 for n in lengths):
        raise ValueError(f"{_short(shape)} is no shape")
    size = 1
    for length in lengths:
        size *= length
    if not isinstance(data, list) or len(data) != size:
        count = len(data) if isinstance(data, list) else "no"
        raise ValueError(f"{count} elements for shape {lengths}")
    elements = [_element(kind, element) for element in data]
    return np.array(elements, DTYPES[kind]).reshape(lengths)


def _element(kind: str, element: Any) -> Any:
    form = _FORMS[kind]
    if form == "truth value":
        if type(element) is not bool:
            raise ValueError(f"{_short(element)} is no element of bool")
        return element
    if form == "hexadecimal float":
        number = _float(element)
        with np.errstate(over="ignore"):
            narrow = float(np.float32(number))
        if kind == "f32" and narrow != number and not np.isnan(number):
            raise ValueError(f"{element} is no float32")
        return number
    if form == "decimal string":
        if not isinstance(element, str) or not _DECIMAL.fullmatch(element):
            raise ValueError(f"{_short(element)} is no decimal string, as {kind} wants it")
        element = int(element)
    if type(element) is not int:
        raise ValueError(f"{_short(element)} is no element of {kind}")
    if kind != "bigint":
        ends = np.iinfo(DTYPES[kind].name)
        if not ends.min <= element <= ends.max:
            raise ValueError(f"{_short(element)} is out of the range of {kind}")
    return element


def _float(text: object) -> float:
    written = _HEX_FLOAT.fullmatch(text) if isinstance(text, str) else None
    if written is None or not isinstance(text, str):
        raise ValueError(f"{_short(text)} is no hexadecimal float in a string")
    try:
        number = float.fromhex(text)
    except OverflowError:
        raise ValueError(f"{_short(text)} is beyond float64") from None
    if number.hex() != text and written["whole"] and not _is_exact(number, written):
        raise ValueError(f"{_short(text)} is no float64: it has more digits")
    return number


def _is_exact(number: float, written: re.Match[str]) -> bool:
    """Say whether a float is the number that was written, and not the nearest one."""
    part = written["part"] or ""
    digits = int(written["whole"] + part, 16)
    if not digits or not number:
        return not digits and not number
    over, under = abs(number).as_integer_ratio()  # under is a power of two
    (odd, zeros), (own, place) = _odd(digits), _odd(over)
    power = int(written["power"] or 0) - 4 * len(part)
    return odd == own and zeros + power == place - (under.bit_length() - 1)


def _odd(number: int) -> tuple[int, int]:
    """Return a number without the zeros at its end, and how many bits these are."""
    zeros = (number & -number).bit_length() - 1
    return number >> zeros, zeros


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
