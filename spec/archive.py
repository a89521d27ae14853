"""The law and the suite as one file, for those who port, and the judge as another.

``python -m revrnn.archive revrnn-spec.zip`` writes text, tables, vectors, schema and manifest, and
in Python the law and the conformance suite. Unpacked, the suite runs with NumPy alone. A
second file, ``revrnn-judge.zip``, gets the oracle, by itself: who ports from the text alone need
not have it, and unpacked in the same place it judges random requests. The bytes depend on the
contents alone.
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

# Folders of the package by what they hold; suite and judge are looked up by their names and not
# imported.
FOLDERS: Final = ("text", "data", "vectors")
SUITE: Final = "conformance"
JUDGE: Final = "numpy_ref"
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
random requests need a judge, an implementation that says what is due, which is not in this archive.
The oracle is in `revrnn-judge.zip`, which is made beside it: unpack that one in the same place, and
the same command asks random requests too. Or name another by `--judge package:factory`.

In this folder, use an environment without `revrnn`: one that is installed is hidden here, or, where
it is an editable install, taken in part, its oracle as the judge.
"""

README_OF_JUDGE: Final = f"""# The judge of revrnn, specification {SPEC_VERSION}

`revrnn/{JUDGE}` is the oracle. Unpacked in the same place as the archive of law and suite of this
version, it says what is due to random requests, and where a wrong answer first goes wrong:

    python -m revrnn.conformance --command "./my-port --serve"
    python -m revrnn.conformance.mismatch --command "./my-port --serve"

It is a program that reads like the rules. Who ports from the text alone need not look at it.
"""

_ROOT: Final = f"revrnn-spec-{SPEC_VERSION}"


def members() -> dict[str, bytes]:
    """Return the archive's files by their path in it."""
    law, suite = _folder("revrnn"), _folder(f"revrnn.{SUITE}")
    parts = [(law, "revrnn"), (suite, f"revrnn/{SUITE}")]
    parts += [(law / folder, f"revrnn/{folder}") for folder in FOLDERS]
    return _contents(parts) | {f"{_ROOT}/README.md": README.encode("utf-8")}


def members_of_judge() -> dict[str, bytes]:
    """Return the files of the archive of the judge, by their path in it."""
    contents = _contents([(_folder(f"revrnn.{JUDGE}"), f"revrnn/{JUDGE}")])
    return contents | {f"{_ROOT}/JUDGE.md": README_OF_JUDGE.encode("utf-8")}


def _contents(parts: list[tuple[Path, str]]) -> dict[str, bytes]:
    return {
        f"{_ROOT}/{inside}/{path.name}": path.read_bytes()
        for folder, inside in parts
        for path in _files(folder)
    }


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


def write(path: Path, contents: dict[str, bytes] | None = None) -> int:
    """Write an archive, by default that of law and suite, and return how many files it has."""
    contents = members() if contents is None else contents
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in sorted(contents.items()):
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = 0o644 << 16
            info.create_system = 3  # the same bytes on every system
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    write_whole(path, whole.getvalue())
    return len(contents)


def main(arguments: list[str] | None = None) -> None:
    """Write the archives to the paths that are given."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.archive")
    parser.add_argument("path", type=Path, help="the file to write: revrnn-spec.zip")
    parser.add_argument("judge", type=Path, nargs="?", help="for the oracle: revrnn-judge.zip")
    options = parser.parse_args(arguments)
    if options.judge is not None and options.judge.absolute() == options.path.absolute():
        parser.error("argument judge: another file than the archive's is wanted")
    for name, make in (("path", members), ("judge", members_of_judge)):
        path: Path | None = getattr(options, name)
        if path is None:
            continue
        try:
            count = write(path, make())
        except OSError as error:
            parser.error(f"argument {name}: {path} cannot be written: {error.strerror or error}")
        print(f"{path}: {count} files of specification {SPEC_VERSION}")


if __name__ == "__main__":
    run_program(main)
