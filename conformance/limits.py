"""What a port may use (CONF-006): bytes of a line, values and texts in it, memory, processes.

A port that goes beyond a limit gets a :class:`~.adapters.Fault` that names it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from revrnn.errors import RevRNNError

from .adapters import Fault

# CONF-006
LONGEST_LINE: Final = 8 * 2**20
MOST_NAMES: Final = 1000
MOST_ELEMENTS: Final = 2**19
DEEPEST: Final = 16
LONGEST_TEXT: Final = 10_000
LONGEST_NAME: Final = 200
# Bytes on the standard error in one life of the process.
MOST_SAID: Final = 16 * 2**20
# Characters of one line of a report, and lines about one case.
SHOWN_TEXT: Final = 600
SHOWN_LINES: Final = 20

# What options may be; seconds that the system's clocks can wait, MiB that an address can be of.
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "examples": (0, 10**9),
    "seed": (0, math.inf),
    "timeout": (0.001, 10**9),
    "time": (0.001, 10**9),
    "memory": (1, 2**40),
    "processes": (1, 2**31 - 1),
}

# A string (perhaps one that does not end), or what opens, closes or separates.
_MARKS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]')


@dataclass(frozen=True)
class Means:
    """What a port's processes may use together, where the system can tell (Linux).

    Attributes:
        memory: bytes in memory of the port and all that it started.
        processes: how many processes these may be.
    """

    memory: int = 2 * 2**30
    processes: int = 64


def check_numbers(options: Mapping[str, float | None]) -> None:
    """Raise ``E_ARGUMENT`` for an option out of its range; what is ``None`` was not given."""
    for name, value in options.items():
        low, high = RANGES[name]
        if value is not None and not low <= value <= high:  # NaN is nowhere
            allowed = f"{low} … {high}" if high < math.inf else f"{low} and above"
            raise RevRNNError("E_ARGUMENT", name, value, allowed)


def shortened(text: str, length: int = SHOWN_TEXT) -> str:
    """Return a text that is no longer than may be shown."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def printable(text: str) -> str:
    """Return a text whose characters are all visible: others, but line feeds, as their numbers.

    What a port says may hold what a terminal obeys, and what no file can be written of.
    """
    visible = (c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)
    return "".join(visible)


def shown(value: object) -> str:
    """Return how a value is shown, without writing out what is too long to be."""
    if isinstance(value, str | bytes):
        return repr(value[:80]) + ("…" if len(value) > 80 else "")
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    return shortened(repr(value), 80)


def parsed(line: bytes) -> dict[str, Any] | Fault:
    """Return the object of a line, or the fault of a line that has none or goes beyond a limit."""
    fault = _beyond(line)
    if fault is not None:
        return fault
    try:
        # Of bytes Python would also take other encodings than UTF-8, and a mark before the text.
        text = line.decode()
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        return Fault("garbage", "values nested too deeply", "nesting")
    except ValueError as error:  # UnicodeDecodeError is one
        reason = shortened(str(error), 120)
        return Fault("garbage", f"no JSON ({reason}): {shown(line)}")
    if not isinstance(value, dict):
        return Fault("garbage", f"no JSON object: {shown(line)}")
    return value


def _beyond(line: bytes) -> Fault | None:
    """Return the fault of a line that is too large to be parsed, found by its punctuation."""
    depth = elements = objects = 0
    for mark in _MARKS.finditer(line):
        sign = line[mark.start()]
        if sign == 0x22:
            if mark.end() - mark.start() > LONGEST_TEXT:
                what = f"a text of {mark.end() - mark.start()} bytes; {LONGEST_TEXT} are allowed"
                return Fault("garbage", what, "text")
        elif sign in b"[{":
            depth += 1
            objects += 1
            if depth > DEEPEST:
                return Fault("garbage", f"values nested more than {DEEPEST} deep", "nesting")
        elif sign in b"]}":
            depth -= 1
        else:
            elements += 1
        if elements > MOST_ELEMENTS:
            return Fault("garbage", f"more than {MOST_ELEMENTS} values in an answer", "answer")
        if objects > 4 * MOST_NAMES:
            return Fault("garbage", f"more than {4 * MOST_NAMES} objects and lists", "answer")
    return None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_NAMES:
        raise ValueError(f"an object of {len(pairs)} names; {MOST_NAMES} are allowed")
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
