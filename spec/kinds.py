"""What values may be: the kinds and named fields of ``data/operations.json`` (EVAL-002).

A *kind* is a type with the values that are allowed and the error of all others. A *field* is a name
with a kind: a field of ``config`` or ``formats``, an argument or a result of an operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, TypeGuard

import numpy as np

from .errors import CODES, RevRNNError, one_of, shown

TABLE: Final[dict[str, Any]] = json.loads(
    files("revrnn").joinpath("data/operations.json").read_text(encoding="ascii")
)

# EVAL-002: NumPy's names of the types of arrays.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bool": np.dtype(np.bool_),
    "bigint": np.dtype(object),
}
DTYPE_NAMES: Final = {dtype.name: name for name, dtype in DTYPES.items()}

Lengths = Callable[[str], int | None]
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a float result may be from the oracle's, relative to its largest magnitude.

    Attributes:
        relative: times the largest magnitude of the array.
        absolute: added to it.
        rule: what says so.
    """

    relative: float
    absolute: float
    rule: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A type with the values that are allowed.

    Attributes:
        name: of the kind.
        type: of arrays, a name of :data:`DTYPES` or ``float``; of single values ``int``, ``str``,
            ``bool``, ``f64``, ``config`` or ``formats``.
        rule: what says so.
        low: the smallest number allowed; ``None`` for the type's own.
        high: the largest one, or the name of an axis or field that says it.
        values: the texts that are allowed.
        multiple_of: what divides every value.
        tolerance: of float results.
        error: the code for all other values.
    """

    name: str
    type: str
    rule: str
    low: int | None = None
    high: int | str | None = None
    values: tuple[str, ...] = ()
    multiple_of: int = 1
    tolerance: Tolerance | None = None
    error: str = "E_RANGE"

    @classmethod
    def read(cls, name: str, entry: Mapping[str, Any]) -> Kind:
        """Build a kind from its entry in the table."""
        parts = dict(entry)
        # Numbers beyond 2^53 stand in texts.
        low, high = (
            int(end) if isinstance(end, str) and end.lstrip("-").isdigit() else end
            for end in parts.pop("range", (None, None))
        )
        parts["values"] = tuple(parts.get("values", ()))
        if "tolerance" in parts:
            parts["tolerance"] = Tolerance(**parts["tolerance"])
        return cls(name=name, low=low, high=high, **parts)

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest whole number of a kind of arrays."""
        assert not isinstance(self.high, str), self.name
        limits = np.iinfo(DTYPES[self.type].name)
        low = limits.min if self.low is None else self.low
        return int(low), int(limits.max) if self.high is None else self.high

    def check(self, name: str, value: object, none: bool, length: Lengths) -> None:
        """Raise this kind's error unless a single value is allowed.

        Args:
            name: what the caller calls it.
            value: what was given.
            none: whether ``None`` is allowed too.
            length: gives the number that stands for a name in ``high``; ``None`` if nothing can be
                said of it, and then the value is not looked at.
        """
        high = length(self.high) if isinstance(self.high, str) else self.high
        if (none and value is None) or (high is None and isinstance(self.high, str)):
            return
        if self.type == "str":
            right = isinstance(value, str) and value in self.values
        elif self.type == "bool":
            right = isinstance(value, bool)
        else:
            right = self.type != "int" or (
                is_int(value)
                and -(2**63) <= value < 2**63  # EVAL-002
                and (self.low is None or value >= self.low)
                and (high is None or value <= high)
                and value % self.multiple_of == 0
            )
        if not right:
            allowed = ("None or " if none else "") + self._allowed(high)
            raise RevRNNError(self.error, name, shown(value), allowed)

    def _allowed(self, high: int | None) -> str:
        if self.type == "str":
            return one_of(self.values)
        if self.type == "bool":
            return "True or False"
        number = "an even number" if self.multiple_of == 2 else "a whole number"
        return f"{number}, at least {self.low}" if high is None else f"{number} {self.low} … {high}"


KINDS: Final = {name: Kind.read(name, entry) for name, entry in TABLE["kinds"].items()}


@dataclass(frozen=True, slots=True)
class Field:
    """A name with a kind.

    Attributes:
        name: in its mapping; ``{k}`` stands for the number of a layer.
        of: the kind's name, or such names by the value of the argument ``by``.
        shape: the axes of an array, or such by the value of ``by``; ``None`` for a single value.
        none: whether ``None`` is allowed.
        default: what absence means; without one it must be given.
        when: for what values of other fields there is this one.
        rule: what says so, where it is not the kind's.
    """

    name: str
    of: str | Mapping[str, str]
    shape: tuple[str, ...] | Mapping[str, Any] | None = None
    none: bool = False
    default: Any = _ABSENT
    when: Mapping[str, Any] | None = None
    rule: str = ""

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Field:
        """Build a field from its entry in the table."""
        shape = entry.get("shape")
        return cls(**{**entry, "shape": tuple(shape) if isinstance(shape, list) else shape})

    @property
    def kind(self) -> Kind:
        """The kind, where it depends on no argument."""
        assert isinstance(self.of, str), self.name
        return KINDS[self.of]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of an array, where they depend on no argument."""
        assert isinstance(self.shape, tuple), self.name
        return self.shape

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return self.shape is not None

    @property
    def is_optional(self) -> bool:
        """Whether it may be absent."""
        return self.default is not _ABSENT

    def is_present(self, values: Callable[[str], Any]) -> bool:
        """Say whether there is this field, given the values of the fields in ``when``."""
        for name, wanted in (self.when or {}).items():
            value = values(name)
            holds = value > wanted["above"] if isinstance(wanted, dict) else value == wanted
            if not holds:
                return False
        return True


RECORDS: Final = {
    name: tuple(Field.read(entry) for entry in entries)
    for name, entries in TABLE["records"].items()
}


def check_values(fields: Iterable[Field], values: Mapping[str, object], length: Lengths) -> None:
    """Check single values, fault by fault in the order of the codes (ERR-002, 4).

    Args:
        fields: what there may be; arrays are not looked at.
        values: what was given, by name.
        length: as in :meth:`Kind.check`.

    Raises:
        RevRNNError: the first fault.
    """
    single = [field for field in fields if not field.is_array]
    for field in sorted(single, key=lambda field: CODES.index(field.kind.error)):
        field.kind.check(field.name, values[field.name], field.none, length)


def check_record(record: object, name: str, length: Lengths = lambda name: None) -> None:
    """Check the fields of a frozen dataclass of :data:`RECORDS`; NumPy's scalars become Python's.

    Raises:
        RevRNNError: the first fault.
    """
    for field in RECORDS[name]:
        object.__setattr__(record, field.name, plain(getattr(record, field.name)))
    values = {field.name: getattr(record, field.name) for field in RECORDS[name]}
    check_values(RECORDS[name], values, length)


def check_names(given: Iterable[str], fields: Iterable[Field], of: str = "") -> None:
    """Check for unknown, then for missing names (ERR-002, 3), which errors begin with ``of``."""
    given, fields = list(given), list(fields)
    known = [field.name for field in fields]
    for name in given:
        if name not in known:
            raise RevRNNError("E_ARGUMENT", f"{of}{name}", "an unknown name", one_of(known))
    for field in fields:
        if field.name not in given and not field.is_optional:
            raise RevRNNError(
                "E_ARGUMENT", f"{of}{field.name}", "nothing", "a value: there is no default"
            )


def is_int(value: object) -> TypeGuard[int]:
    """Say whether ``value`` is a whole number, of Python or NumPy, and not a bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Return Python's whole number or truth value for NumPy's, anything else as it is."""
    return value.item() if isinstance(value, np.integer | np.bool_) else value
