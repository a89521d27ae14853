"""Error codes of the specification (ERR-001) and the exception that carries them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final

# ERR-001
CODES: Final = (
    "E_OP",
    "E_ARGUMENT",
    "E_HIDDEN_SIZE",
    "E_FORGET_BITS",
    "E_FORMAT",
    "E_SLICE",
    "E_UNSUPPORTED",
    "E_DTYPE",
    "E_SHAPE",
    "E_NONFINITE",
    "E_RANGE",
    "E_UNDERFLOW",
    "E_OVERFLOW",
    "E_REVERSAL",
)

# Characters of what was given that a message keeps, and of what is allowed.
_MOST_GIVEN: Final = 500
_MOST_ALLOWED: Final = 2000


class RevRNNError(ValueError):
    """A failure that the specification names.

    Attributes:
        code: one of :data:`CODES` (ERR-001).
        argument: the name of the argument at fault, or ``""`` where there is none.
    """

    code: str
    argument: str

    def __init__(self, code: str, argument: str, given: object, allowed: str) -> None:
        """Build the message of ERR-004 from what was given and what is allowed.

        It is one line; of long texts it keeps the ends.
        """
        if code not in CODES:
            raise AssertionError(f"{code} is not a code of ERR-001")
        self.code = code
        self.argument = _line(argument, _MOST_GIVEN)
        self.given = _line(given if isinstance(given, str) else shown(given, str), _MOST_GIVEN)
        self.allowed = _line(allowed, _MOST_ALLOWED)
        where = f"{self.argument}: " if argument else ""
        super().__init__(f"[{code}] {where}got {self.given}; allowed: {self.allowed}")

    def __reduce__(self) -> tuple[type[RevRNNError], tuple[str, str, str, str]]:
        """Pickle by the constructor's arguments, so that worker processes can pass it on."""
        return (type(self), (self.code, self.argument, self.given, self.allowed))


def type_name(value: object) -> str:
    """Return the name of a value's type; of one of this project's with its module.

    The implementations have types of the same names, which do not fit one another.
    """
    kind = type(value)
    return f"{kind.__module__}.{kind.__name__}" if "revrnn" in kind.__module__ else kind.__name__


def shown(value: object, text: Callable[[object], str] = repr) -> str:
    """Return a value as text for a message; of one that has none, as huge integers, its type."""
    try:
        return text(value)
    except Exception:
        return f"a {type_name(value)}"


def _line(text: str, most: int) -> str:
    """Return a text that a terminal shows in one line, of a long one its ends."""
    if len(text) > most:
        text = f"{text[: most - most // 4]} … {text[-most // 4 :]}"
    text = re.sub(r"\s*[\r\n]\s*", " ", text)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def check_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ``E_ARGUMENT`` unless ``value`` is one of some texts."""
    if not isinstance(value, str) or value not in allowed:
        raise RevRNNError("E_ARGUMENT", name, shown(value), one_of(allowed))


def one_of(values: Iterable[object]) -> str:
    """Return ``values`` as the "allowed" part of a message."""
    return ", ".join(repr(value) for value in values)
