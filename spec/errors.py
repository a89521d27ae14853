"""Error codes of the specification (ERR-001) and the exception that carries them."""

from __future__ import annotations

from collections.abc import Iterable
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


class RevRNNError(ValueError):
    """A failure that the specification names.

    Attributes:
        code: one of :data:`CODES` (ERR-001).
        argument: the name of the argument at fault, or ``""`` where there is none.
    """

    code: str
    argument: str

    def __init__(self, code: str, argument: str, given: object, allowed: str) -> None:
        """Build the message of ERR-004 from what was given and what is allowed."""
        if code not in CODES:
            raise AssertionError(f"{code} is not a code of ERR-001")
        self.code = code
        self.argument = argument
        self.given = str(given)
        self.allowed = allowed
        where = f"{argument}: " if argument else ""
        super().__init__(f"[{code}] {where}got {given}; allowed: {allowed}")

    def __reduce__(self) -> tuple[type[RevRNNError], tuple[str, str, str, str]]:
        """Pickle by the constructor's arguments, so that worker processes can pass it on."""
        return (type(self), (self.code, self.argument, self.given, self.allowed))


def type_name(value: object) -> str:
    """Return the name of a value's type; of one of this project's with its module.

    The implementations have types of the same names, which do not fit one another.
    """
    kind = type(value)
    return f"{kind.__module__}.{kind.__name__}" if "revrnn" in kind.__module__ else kind.__name__


def one_of(values: Iterable[object]) -> str:
    """Return ``values`` as the "allowed" part of a message."""
    return ", ".join(repr(value) for value in values)
