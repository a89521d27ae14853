"""Damage to valid inputs, drawn from a seed: bytes of any kind, and values within JSON."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any, Final

# What stands in the place of a value: of every kind of JSON, and ends of ranges.
VALUES: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        7,
        1024,
        2**15,
        2**31 - 1,
        -(2**31),
        2**53,
        2**63,
        -(2**63),
    ),
    *(10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "0", "-1", "0x1p3", "nan"),
    *("9" * 40, "\0", "é", [], {}, [[]], [0], ["0"], {"f64": "0x1p0"}, {"data": []}),
    {"data": [1], "dtype": "i32", "shape": [1]},
    {"data": [], "dtype": "f32", "shape": [0]},
    {"data": ["1"], "dtype": "bigint", "shape": []},
    *("revgru", "revlstm", "stream", "wordlist", "bigint", "operand", "i16", "i64", "u16", "bool"),
)


def damaged(data: bytes, others: list[bytes], random: Random) -> bytes:
    """Return bytes with some of them changed, taken away, repeated or from elsewhere."""
    buffer = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        size = len(buffer)
        at = random.randrange(size + 1)
        length = random.choice((1, 1, 2, 4, 8, random.randrange(1, 64)))
        match random.randrange(9):
            case 0 if at < size:
                buffer[at] ^= 1 << random.randrange(8)
            case 1 if at < size:
                buffer[at] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))
            case 2:
                buffer[at:at] = random.randbytes(length)
            case 3:
                del buffer[at : at + length]
            case 4:
                buffer[at:at] = buffer[at : at + length]
            case 5:
                del buffer[at:]
            case 6:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                buffer[at : at + length] = other[start : start + length]
            case 7:
                number = random.choice(
                    (0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, random.randrange(2**64))
                )
                buffer[at : at + 8] = number.to_bytes(8, "little")
            case _:
                digits = [i for i, byte in enumerate(buffer) if 48 <= byte < 58]
                if digits:
                    buffer[random.choice(digits)] = random.choice(b"0123456789-.e")
    return bytes(buffer)


def changed(value: Any, others: list[Any], random: Random) -> Any:
    """Return a value of JSON with some of its parts replaced, taken away, added or renamed."""
    value = deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return deepcopy(random.choice(VALUES))
        holder, key = random.choice(places)
        match random.randrange(6):
            case 0 | 1:
                holder[key] = deepcopy(random.choice(VALUES))
            case 2:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[random.choice((*holder, "x", "config", ""))] = holder.pop(key)
            case 4 if isinstance(holder, list):
                holder[key:key] = deepcopy([holder[key]] * random.choice((1, 3)))
            case _:
                elsewhere, name = random.choice(
                    list(_places(random.choice(others))) or [(holder, key)]
                )
                holder[key] = deepcopy(elsewhere[name])
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Give every member and element, as what holds it and its name or place."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(parts):
        yield value, key
        if isinstance(part, dict | list):
            # Of long lists some elements will do.
            yield from (place for place, _ in zip(_places(part), range(40), strict=False))
