"""The tables of operations in the text of the specification, written from the data.

``python -m revrnn.operations_text FOLDER`` writes them anew into the texts of a folder, between
lines ``<!-- operations.json: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .command_line import run_program
from .errors import one_of
from .kinds import KINDS, RECORDS, Field, Kind
from .operations import AXES, OPERATIONS
from .whole_files import write_whole

_BLOCK: Final = re.compile(r"(<!-- operations\.json: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def written(text: str) -> str:
    """Return a text with its tables as they should be.

    Raises:
        KeyError: for a table that there is not.
    """
    return _BLOCK.sub(lambda match: f"{match[1]}{_TABLES[match[2]]()}", text)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _records(name: str) -> str:
    rows = []
    for field in RECORDS[name]:
        about = (field.kind.type, _allowed(field), _default(field), f"`{field.kind.error}`")
        rows.append((f"`{field.name}`", *about, field.rule or field.kind.rule))
    return _table(("field", "type", "allowed", "default", "else", "rule"), rows)


def _axes() -> str:
    rows = []
    for name, axis in AXES.items():
        most = "" if axis.most is None else _number(axis.most)
        rows.append((f"`{name}`", axis.means, str(axis.least), most))
    return _table(("axis", "what it counts", "at least", "at most"), rows)


def _profiles() -> str:
    named: dict[str, list[str]] = {}
    for operation in OPERATIONS.values():
        named.setdefault(operation.profile, []).append(f"`{operation.name}`")
    rows = ((f"`{profile}`", ", ".join(names)) for profile, names in named.items())
    return _table(("profile", "operations"), rows)


def _elementary() -> str:
    """Return a row for each operation of the profile ``gates``."""
    rows = [
        (f"`{o.name}`", *("; ".join(map(_described, part)) for part in (o.arguments, o.results)))
        for o in OPERATIONS.values()
        if o.profile == "gates"
    ]
    return _table(("operation", "arguments", "results"), rows)


def _described(field: Field) -> str:
    shape = _shape(field) if field.is_array else ""
    default = f"(default {_default(field)})" if field.is_optional else ""
    parts = (f"`{field.name}`", _type(field), shape, _allowed(field), default)
    return " ".join(part for part in parts if part)


def _matrix(*profiles: str) -> str:
    """Return a row for each argument or result, and a column for each operation."""
    operations = [o for o in OPERATIONS.values() if o.profile in profiles]
    uses: dict[tuple[str, ...], dict[str, str]] = {}
    for operation in operations:
        config = "config" in operation.settings
        for direction, fields in (("in", operation.arguments), ("out", operation.results)):
            for field in fields:
                shape = _shape(field) if field.is_array else ""
                when = _when(field) if config else ""
                about = (f"`{field.name}`", _type(field), shape, _allowed(field), when)
                column = uses.setdefault(about, {})
                both = [column[operation.name]] if operation.name in column else []
                column[operation.name] = ", ".join([*both, direction])
    names = [o.name for o in operations]
    rows = ((*about, *(column.get(name, "") for name in names)) for about, column in uses.items())
    heading = ("name", "type", "shape", "allowed", "there is one", *(f"`{name}`" for name in names))
    return _table(heading, rows)


def _choices(field: Field, part: Any, text: Any) -> str:
    """Return the text of a kind or shape; of one by an argument's value, each with its values."""
    if not isinstance(part, Mapping):
        return str(text(part))
    values: dict[str, list[str]] = {}
    for value, choice in part.items():
        if value != "by":
            values.setdefault(str(text(choice)), []).append(value)
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{shown} ({', '.join(names)})" for shown, names in values.items() if shown)


def _type(field: Field) -> str:
    return _choices(field, field.of, lambda kind: KINDS[kind].type)


def _shape(field: Field) -> str:
    def text(axes: Iterable[str]) -> str:
        return f"`[{', '.join(axes)}]`".replace("*]", "…]").replace("*", "·")

    return _choices(field, field.shape, text)


def _allowed(field: Field) -> str:
    allowed = _choices(field, field.of, lambda kind: _range(KINDS[kind]))
    return " or ".join([*([allowed] if allowed else []), *(["none"] if field.none else [])])


def _range(kind: Kind) -> str:
    if kind.values:
        return ", ".join(f"`{value}`" for value in kind.values)
    if kind.type in RECORDS:
        return "a mapping (EVAL-003)"
    if kind.low is None:
        return ""
    even = "even, " if kind.multiple_of == 2 else ""
    high = f"`{kind.high}`" if isinstance(kind.high, str) else kind.high
    if high is None:
        return f"{even}at least {kind.low}"
    return f"{_number(kind.low)} … {high if isinstance(high, str) else _number(high)}"


def _default(field: Field) -> str:
    if not field.is_optional:
        return ""
    return "none" if field.default is None else str(field.default).lower()


def _when(field: Field) -> str:
    """Return for what values there is a field, and what stands for it where it is absent."""
    parts = []
    for name, wanted in (field.when or {}).items():
        value = f"> {wanted['above']}" if isinstance(wanted, dict) else f"= {wanted}".lower()
        parts.append(f"`{name} {value}`")
    when = f"if {' and '.join(parts)}" if parts else ""
    absent = "" if not field.is_optional else "may be absent"
    if absent and field.default is not None:
        absent += f": {_default(field)}"
    return "; ".join(part for part in (when, absent) if part)


def _number(n: int) -> str:
    """Return a number as the rules write it: large ones by powers of 2."""
    size = abs(n)
    sign = "−" if n < 0 else ""
    if size >= 2**15 and size & (size - 1) == 0:
        return f"{sign}2^{size.bit_length() - 1}"
    if size >= 2**15 and size & (size + 1) == 0:
        return f"{sign}2^{size.bit_length()}−1" if n > 0 else f"1−2^{size.bit_length()}"
    return f"{sign}{size}"


_TABLES: Final[dict[str, Callable[[], str]]] = {
    "axes": _axes,
    "profiles": _profiles,
    "gates": _elementary,
    "formats": lambda: _records("formats"),
    "config": lambda: _records("config"),
    "buffer": lambda: _matrix("buffer"),
    "cell": lambda: _matrix("cell"),
    "sequence": lambda: _matrix("sequence", "gradient"),
}


def main(arguments: list[str] | None = None) -> None:
    """Write the tables into the texts of the folder that is given."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.operations_text")
    parser.add_argument("folder", type=Path, help="with the texts, *.md")
    folder: Path = parser.parse_args(arguments).folder
    paths = sorted(folder.glob("*.md"))
    if not paths:
        parser.error(f"argument folder: {folder} given, a folder with texts allowed")
    changed = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            if written(text) != text:
                changed[path] = written(text)
        except KeyError as error:
            parser.error(f"argument folder: {path} has a table {error}; allowed: {one_of(_TABLES)}")
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"argument folder: {path} cannot be read: {error}")
    for path, text in changed.items():
        try:
            write_whole(path, text.encode())
        except OSError as error:
            parser.error(f"argument folder: {path} cannot be written: {error.strerror or error}")
        print(f"{path} written")


if __name__ == "__main__":
    run_program(main)
