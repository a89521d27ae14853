"""The law and the suite as one file, for those who port.

``python -m revrnn.archive revrnn-spec.zip`` writes text, tables, vectors, schema and manifest, and
in Python the law and the conformance suite. Unpacked, the suite runs with NumPy alone. The bytes
depend on the contents alone.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from . import SPEC_VERSION
from .command_line import run_program
from .whole_files import write_whole

# Folders of the package by what they hold; the suite is looked up by its name and not imported.
FOLDERS: Final = ("text", "data", "vectors")
SUITE: Final = "conformance"
_SUFFIXES: Final = (".md", ".json", ".py", ".typed")
# What ZIP calls its earliest time; the day on which somebody ran this says nothing.
_TIME: Final = (1980, 1, 1, 0, 0, 0)

README: Final = f"""# revrnn, specification {SPEC_VERSION}

- `revrnn/text`: the rules, to be read in order from `00-conventions.md`, which names the paper;
- `revrnn/data`: the constants, the tanh table and the table of operations;
- `revrnn/vectors`: requests with their answers; `README.md` there has the format;
- `revrnn/conformance`: the suite that asks a port whether it is right.

The suite needs Python 3.11 or later with NumPy. In this folder:

    python -m revrnn.conformance --command "./my-port --serve"

asks the port every vector (CONF-003 has the messages) and says which rule is broken first. Fresh
random requests need a judge, an implementation that says what is due, which is not in this archive:
`--judge package:factory`, or the oracle of `pip install revrnn`; to have that one, run the command
in another folder. In this one, use an environment without `revrnn`: one that is installed is hidden
here, or, where it is an editable install, taken in part, its oracle as the judge.
"""


def members() -> dict[str, bytes]:
    """Return the archive's files by their path in it."""
    root = f"revrnn-spec-{SPEC_VERSION}"
    law, suite = _folder("revrnn"), _folder(f"revrnn.{SUITE}")
    contents = {f"{root}/README.md": README.encode("utf-8")}
    parts = [(law, "revrnn"), (suite, f"revrnn/{SUITE}")]
    parts += [(law / folder, f"revrnn/{folder}") for folder in FOLDERS]
    for folder, inside in parts:
        for path in _files(folder):
            contents[f"{root}/{inside}/{path.name}"] = path.read_bytes()
    return dict(sorted(contents.items()))


def _folder(package: str) -> Path:
    """Return where a package lies."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed as files")
    return Path(next(iter(spec.submodule_search_locations)))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_file() and path.suffix in _SUFFIXES:
            yield path


def write(path: Path) -> int:
    """Write the archive and return how many files it has."""
    contents = members()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = 0o644 << 16
            info.create_system = 3  # the same bytes on every system
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    write_whole(path, whole.getvalue())
    return len(contents)


def main(arguments: list[str] | None = None) -> None:
    """Write the archive to the path that is given."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.archive")
    parser.add_argument("path", type=Path, help="the file to write: revrnn-spec.zip")
    path: Path = parser.parse_args(arguments).path
    try:
        count = write(path)
    except OSError as error:
        parser.error(f"argument path: {path} cannot be written: {error.strerror or error}")
    print(f"{path}: {count} files of specification {SPEC_VERSION}")


if __name__ == "__main__":
    run_program(main)
