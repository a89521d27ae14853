"""Mutants that are known to change no answer, and why: ``survivors/*.json``, one file a port.

A file is a list of groups, each with a ``reason`` and the names of ``mutants``, or of ``functions``
all of whose mutants it covers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "survivors"


@dataclass(frozen=True)
class Justified:
    """Reasons by the name of a mutant, ``file.function: before -> after``, and by function."""

    mutants: Mapping[str, str]
    functions: Mapping[str, str]

    def reason(self, name: str) -> str | None:
        """Return why a mutant survives, or ``None`` if nobody knows."""
        return self.mutants.get(name, self.functions.get(name.partition(":")[0]))


def justified(port: str) -> Justified:
    """Return the reasons for a port; each mutant may have one only.

    Raises:
        ValueError: where a mutant stands twice.
    """
    mutants: dict[str, str] = {}
    functions: dict[str, str] = {}
    for group in json.loads((FOLDER / f"{port}.json").read_text(encoding="utf-8")):
        for kind, names in (("mutants", mutants), ("functions", functions)):
            for name in group.get(kind, ()):
                if name in names:
                    raise ValueError(f"{port}: {name} stands twice")
                names[name] = group["reason"]
    return Justified(mutants, functions)
