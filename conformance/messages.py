"""How a request is written: in any of the ways that CONF-003 allows, which tell nothing."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection
from typing import Any, Final

from .adapters import mixed

# White space around what separates members and names; the last has some within brackets too.
_SPACES: Final = ((",", ":"), (", ", ": "), (" ,\t", "\t:\r "))
# What a port ignores: with texts that must be read to their ends, and nested as deep as may be.
_TEXTS: Final = {"é\u2028😀": {"of": {"no": {"use": 'a "}/\\\b\f\n\r\t'}}}, "id": 5, "args": None}
_DEEPEST: Final = 16
# Elements of a message beyond which it is written in the shortest way.
_LONG: Final = 2**16
_BRACKETS: Final = re.compile(r"([\[{])|[\]}]")
# The first letter of a name or text.
_BEGINNING: Final = re.compile(r'(?<=[{,:\s]")[a-z]')
# A number 0 that is no part of a text.
_ZERO: Final = re.compile(r"(?<=[\[,:\s])0(?=[,\]}\s])")

# The rarer ways, as a report calls them.
NOTE, UNESCAPED, ESCAPED, RETURN, MINUS = (
    "with a member that nobody knows",
    "with such a member, and letters beyond ASCII as they are",
    "with texts that begin with an escape, as \\u0073 for s",
    "with a carriage return before its end",
    "with -0 for 0",
)
SPACES: Final = "with blanks and tabs between its parts"
# One message in so many is written so; few have a zero.
_RARELY: Final = {ESCAPED: 6, RETURN: 6, MINUS: 2, NOTE: 6, UNESCAPED: 6}
WAYS: Final = (SPACES, *_RARELY)


def _note() -> dict[str, Any]:
    """Return a member's value that makes a message as deep as it may be (CONF-003)."""
    note: Any = 0
    for _ in range(_DEEPEST - 2):  # in it, and in the message
        note = {"of": note}
    return _TEXTS | {"deep": note}


def _elements(message: dict[str, Any]) -> int:
    """Return how many elements the arrays of a request have together."""
    arrays = (value for value in message.get("args", {}).values() if isinstance(value, dict))
    contents = (array.get("data") for array in arrays)
    return sum(len(data) for data in contents if isinstance(data, list))


def written(
    message: dict[str, Any], order: random.Random, ways: Collection[str] | None = None
) -> bytes:
    """Return the line of a message.

    Members stand in a drawn order, with drawn white space. Now and then there is a member that
    nobody knows, texts begin with an escape or hold what is no ASCII, zeros have a sign
    (CONF-004), or a carriage return stands before the line feed.

    Args:
        message: what is to be said.
        order: what draws.
        ways: some of :data:`WAYS`, and nothing is drawn.
    """
    drawn = ways is None
    if ways is None:
        ways = {way for way, often in _RARELY.items() if order.randrange(often) == 0}
    elif UNESCAPED in ways:
        ways = {*ways, NOTE}  # nothing else is beyond ASCII
    if NOTE in ways:
        message = message | {"note": _note()}
    separators = _SPACES[2 if SPACES in ways else 0]
    if drawn:
        separators, message = order.choice(_SPACES), mixed(message, order)
        if _elements(message) > _LONG:  # white space would be most of it, and tells no more there
            separators, ways = _SPACES[0], ()
    text = json.dumps(message, separators=separators, ensure_ascii=UNESCAPED not in ways)
    if NOTE in ways:
        text = text.replace("/", "\\/")  # nothing else has one
    if ESCAPED in ways:
        digits = "04x" if message.get("id", 0) % 2 else "04X"
        text = _BEGINNING.sub(lambda letter: f"\\u{ord(letter[0]):{digits}}", text)
    if MINUS in ways and message.get("id") != 0:
        text = _ZERO.sub("-0", text)
    if separators is _SPACES[2]:
        text = _BRACKETS.sub(
            lambda sign: f"{sign[0]}\t" if sign[1] else f" {sign[0]}", f"\t{text} "
        )
    return text.encode() + (b"\r\n" if RETURN in ways else b"\n")
