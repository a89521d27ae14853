"""Packages that an extra brings."""

from __future__ import annotations

from importlib.util import find_spec


def how_to_install(extra: str) -> str:
    """Return the command that installs revrnn with an extra."""
    return f"pip install 'revrnn[{extra}]'"


def need(package: str, extra: str = "") -> None:
    """Raise ``ModuleNotFoundError`` if a package is missing, with the extra that brings it.

    Args:
        package: its name.
        extra: the extra's, where it is not the same.
    """
    try:
        there = find_spec(package) is not None
    except ValueError:  # a stand-in for it that has no specification
        there = True
    if not there:
        hint = f"No module named '{package}': {how_to_install(extra or package)}"
        raise ModuleNotFoundError(hint, name=package)
