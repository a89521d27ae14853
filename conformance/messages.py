"""How a request is written: in any of the ways that CONF-003 allows, which tell nothing."""

from __future__ import annotations

import json
import random
import re
from typing import Any, Final

from .adapters import mixed

# White space after members and names.
_SPACES: Final = ((",", ":"), (", ", ": "), (" ,\t", "\t:  "))
# What a port ignores: nested, and with texts that must be read to their ends.
_NOTE: Final = {"é\u2028😀": {"of": {"no": {"use": 'a "}\\'}}}, "id": 5, "args": None}
# The first letter of a name or text.
_BEGINNING: Final = re.compile(r'(?<=[{,:\s]")[a-z]')
# A number 0 that is no part of a text.
_ZERO: Final = re.compile(r"(?<=[\[,:\s])0(?=[,\]}\s])")
# One message in so many is written in each of the rarer ways.
_RARELY: Final = 6


def written(message: dict[str, Any], order: random.Random) -> bytes:
    """Return the line of a message.

    Members stand in a drawn order, with drawn white space. Now and then there is a member that
    nobody knows, texts begin with an escape or hold what is no ASCII, zeros have a sign
    (CONF-004), or a carriage return stands before the line feed.
    """
    rare = [order.randrange(_RARELY) == 0 for _ in range(5)]
    if rare[0]:
        message = message | {"note": _NOTE}
    separators = order.choice(_SPACES)
    text = json.dumps(mixed(message, order), separators=separators, ensure_ascii=not rare[1])
    if rare[2]:
        text = _BEGINNING.sub(lambda letter: f"\\u{ord(letter[0]):04x}", text)
    if rare[4] and message.get("id") != 0:
        text = _ZERO.sub("-0", text)
    return text.encode() + (b"\r\n" if rare[3] else b"\n")
