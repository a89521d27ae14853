"""Which vectors ask each rule about each situation that rules share: docs/rules-and-situations.md.

``python tests/situations.py`` writes the page anew; a test compares it, and sees that each cell
without a vector has a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from revrnn.operations import OPERATIONS
from revrnn.rules import rules
from revrnn.vectors import Case, load, operations

PAGE: Final = Path(__file__).parents[1] / "docs" / "rules-and-situations.md"

# Fields that may be absent; every other argument of an operation is required.
_OPTIONAL: Final = {"formats", "gains", "trace", "c", "heads", "words", "flags", "slices", "grad_c"}


def _config(case: Case) -> Mapping[str, Any]:
    config = case.args.get("config")
    return config if isinstance(config, Mapping) else {}


def _sliced(case: Case) -> bool:
    size = case.args.get("slice_size", _config(case).get("slice_size", 0))
    return isinstance(size, int) and size > 0


def _masked(case: Case) -> bool:
    mask = case.args.get("mask")
    return isinstance(mask, np.ndarray) and mask.dtype == bool and not mask.all()


def _absent(case: Case) -> bool:
    """Say whether a value is null, or a required name is not there."""
    given = (*case.args.values(), *_config(case).values())
    if any(value is None for value in given):
        return True
    if case.operation not in OPERATIONS:
        return False
    names = {field.name for field in OPERATIONS[case.operation].arguments}
    required = {name for name in names if "{" not in name} - _OPTIONAL
    return not required <= set(case.args)


def _extra(case: Case) -> bool:
    """Say whether a request has a name, or an array on the wire a member, too many."""
    if case.error not in ("E_ARGUMENT", "E_DTYPE"):
        return False
    objects = [value for name, value in case.args.items() if name not in ("config", "formats")]
    if any(isinstance(value, Mapping) for value in objects):
        return True
    return "unchecked_name" in case.catches and not _absent(case)


def _empty(case: Case) -> bool:
    """Say whether an array is empty that is not so in every such request."""
    layout = case.args.get("layout", _config(case).get("buffer", "stream"))
    unless = (
        {"flags"} if layout == "stream" else {"words", "flags"} if layout == "bigint" else set()
    )
    unless |= set() if _sliced(case) else {"restore", "slices"}
    return any(
        isinstance(value, np.ndarray) and value.size == 0 and name not in unless
        for name, value in case.args.items()
    )


def _nan(case: Case) -> bool:
    arrays = (v for v in case.args.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f")
    return any(not np.isfinite(array).all() for array in arrays)


SITUATIONS: Final[dict[str, Callable[[Case], bool]]] = {
    "sliced units": _sliced,
    "masked rows": _masked,
    "absent, null": _absent,
    "extra names": _extra,
    "empty": _empty,
    "NaN": _nan,
}

REASONS: Final = {
    "a": "arithmetic of single numbers or products, which have neither rows nor units",
    "u": "what MUL-004 and MUL-005 leave out does not come here, and the rest is as ever",
    "v": "a single cell has neither slices nor a mask (EVAL-007); the rules of SEQ speak of both",
    "s": "slices are refused where nothing is forgotten (ERR-002)",
    "n": "missing names and nulls are judged before (ERR-002, EVAL-003, EVAL-004)",
    "x": "names too many are refused before (ERR-002, EVAL-003, CONF-004)",
    "e": "without elements or steps there is nothing that it speaks of",
    "i": "whole numbers only: floats enter by `quantise` and as gradients (QNT-005)",
    "d": "a definition, or a law that follows from other rules; their vectors ask it",
    "p": "about modules, messages or processes, which are no operations; tests ask it",
    "g": "gradients that are not finite are refused before (EVAL-008)",
    "b": "the layout is unknown: nothing else of the request is looked at",
}

_NUMBERS: Final = "(GEN|FMT|QNT|PROD|ACT|EVAL-004).*"
_PORT: Final = "(CONF|ERR-003|ERR-004|EVAL-010|SEQ-011|SEQ-013|GRAD-004|GRAD-022|ACC-005).*"
_DEFINED: Final = "(EVAL-001|EVAL-002|ERR-00.|BUF-035|CELL-00[12]|SEQ-010)"

# By situation: the reason for the rules that a pattern matches; the first that does counts.
WHY: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "sliced units": (
        (_NUMBERS, "a"),
        (_PORT, "p"),
        ("BUF-037", "b"),
        (_DEFINED, "d"),
        ("CELL-03[01]", "s"),
        ("CELL-.*", "v"),
        ("(BUF|MUL|SEQ|GRAD|EVAL-006).*", "u"),
    ),
    "masked rows": (
        (_NUMBERS, "a"),
        (_PORT, "p"),
        ("BUF-037", "b"),
        (_DEFINED, "d"),
        ("(CELL|EVAL-007).*", "v"),
        ("(BUF|MUL|EVAL|GRAD).*", "u"),
    ),
    "absent, null": ((_PORT, "p"), (_DEFINED, "d"), (".*", "n")),
    "extra names": ((_PORT, "p"), (_DEFINED, "d"), (".*", "x")),
    "empty": (
        (_PORT, "p"),
        (_DEFINED, "d"),
        ("(PROD|GEN|FMT|QNT|ACT).*", "e"),
        ("(SEQ|CELL|EVAL|GRAD|BUF|ACC).*", "e"),
    ),
    "NaN": ((_PORT, "p"), (_DEFINED, "d"), ("GRAD.*", "g"), (".*", "i")),
}


def table() -> dict[str, dict[str, list[str]]]:
    """Return, by rule and situation, the operations that have a vector of both."""
    cells: dict[str, dict[str, list[str]]] = {
        rule: {situation: [] for situation in SITUATIONS} for rule in rules()
    }
    for operation in operations():
        for case in load(operation):
            for situation, applies in SITUATIONS.items():
                if applies(case):
                    for rule in case.rules:
                        if operation not in cells[rule][situation]:
                            cells[rule][situation].append(operation)
    return cells


def reason(rule: str, situation: str) -> str:
    """Return the letter of the reason why a cell has no vector, or ``""``."""
    for pattern, letter in WHY[situation]:
        if re.fullmatch(pattern, rule):
            return letter
    return ""


def page() -> str:
    """Return the text of the page."""
    lines = [
        "# Rules and situations",
        "",
        "For every rule and each situation that rules share, the operations that have a vector of",
        "both, two at most, or the letter of the reason why there is none. The page is written by",
        "`python tests/situations.py`; a test compares it with the vectors.",
        "",
        *(f"- **{letter}**: {text}" for letter, text in REASONS.items()),
        "",
        f"| rule | {' | '.join(SITUATIONS)} |",
        "|---" * (1 + len(SITUATIONS)) + "|",
    ]
    for rule, cells in table().items():
        shown = [_cell(rule, situation, names) for situation, names in cells.items()]
        lines.append(f"| {rule} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _cell(rule: str, situation: str, names: list[str]) -> str:
    if not names:
        return reason(rule, situation) or "?"
    return ", ".join(f"`{name}`" for name in names[:2]) + ", …" * (len(names) > 2)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
