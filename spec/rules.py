"""The rules of the specification, read from its text."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

_HEADING: Final = re.compile(r"^### ([A-Z]+-\d{3}) (.+)$", re.MULTILINE)

# Where a section or a rule begins.
_PARTS: Final = re.compile(r"^(?=#{1,3} )", re.MULTILINE)

# A citation in code or test: an identifier of the form BUF-003; SHA-256 and AVX-512 are none.
CITATION: Final = re.compile(r"\b((?!SHA-|AVX-)[A-Z]{3,4}-\d{3})\b")


def sections() -> dict[str, str]:
    """Return the text of the specification, by file name, in reading order."""
    folder = files("revrnn").joinpath("text")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".md"))
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}


@cache
def rules() -> dict[str, str]:
    """Return the title of every rule by its identifier.

    Raises:
        ValueError: if an identifier appears twice.
    """
    titles: dict[str, str] = {}
    for name, text in sections().items():
        for identifier, title in _HEADING.findall(text):
            if identifier in titles:
                raise ValueError(f"{identifier} stands twice, the second time in {name}")
            titles[identifier] = title
    return titles


def text(identifier: str) -> str:
    """Return a rule with its heading, as it stands in the specification.

    Raises:
        KeyError: if there is no such rule.
    """
    for section in sections().values():
        for part in _PARTS.split(section):
            if part.startswith(f"### {identifier} "):
                return part.strip()
    raise KeyError(identifier)
