"""The whole specification as one file, for those who port without Python.

``python -m revrnn.archive revrnn-spec.zip`` writes text, tables, vectors, schema and manifest. The
bytes depend on the contents alone.
"""

from __future__ import annotations

import io
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

from . import SPEC_VERSION
from .whole_files import write_whole

FOLDERS = ("text", "data", "vectors")
# What ZIP calls its earliest time; the day on which somebody ran this says nothing.
_TIME = (1980, 1, 1, 0, 0, 0)


def members() -> dict[str, bytes]:
    """Return the archive's files by their path in it."""
    root = f"revrnn-spec-{SPEC_VERSION}"
    found = {}
    for folder in FOLDERS:
        for entry in files("revrnn").joinpath(folder).iterdir():
            if entry.name.endswith((".md", ".json")):
                found[f"{root}/{folder}/{entry.name}"] = entry.read_bytes()
    return dict(sorted(found.items()))


def write(path: Path) -> int:
    """Write the archive and return how many files it has."""
    contents = members()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in contents.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = 0o644 << 16
            info.create_system = 3  # the same bytes on every system
            archive.writestr(info, member, zipfile.ZIP_DEFLATED, compresslevel=9)
    write_whole(path, content.getvalue())
    return len(contents)


def main() -> None:
    """Write the archive to the path that is given."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m revrnn.archive revrnn-spec.zip")
    path = Path(sys.argv[1])
    print(f"{path}: {write(path)} files of specification {SPEC_VERSION}")


if __name__ == "__main__":
    main()
