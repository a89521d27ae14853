"""Settings of experiments as a command line has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """Return the words that give these settings."""
    words: list[str] = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return words
