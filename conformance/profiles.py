"""What a port can claim, and which operations it is then judged on (CONF-001)."""

from __future__ import annotations

from typing import Final

from revrnn.errors import RevRNNError, one_of, shown
from revrnn.operations import OPERATIONS

PROFILES: Final = tuple(dict.fromkeys(operation.profile for operation in OPERATIONS.values()))

# A name that no operation has; the answer is due whatever is claimed.
UNKNOWN_OPERATION: Final = "no_such_operation"


def operations_of(profile: str) -> tuple[str, ...]:
    """Return the operations of a profile, in the order of EVAL."""
    return tuple(name for name, operation in OPERATIONS.items() if operation.profile == profile)


def check_profiles(names: tuple[str, ...], argument: str = "profile") -> None:
    """Raise ``E_ARGUMENT`` for a name that is no profile."""
    for name in names:
        if name not in PROFILES:
            raise RevRNNError("E_ARGUMENT", argument, shown(name), one_of(PROFILES))
