"""The repository's folders, and the packages that they are installed as (pyproject.toml)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def project(root: Path = ROOT) -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


# The folder of each package, and the folders at the top, the law first.
PACKAGES: dict[str, str] = project()["tool"]["setuptools"]["package-dir"]
FOLDERS = tuple(dict.fromkeys(folder.split("/")[0] for folder in PACKAGES.values()))
