"""Files that experiments write: whole or not at all, with errors that name them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from revrnn.errors import RevRNNError
from revrnn.whole_files import check_place, write_whole


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong while it is written.

    Raises:
        RevRNNError: ``E_ARGUMENT``, for ``out``.
    """
    try:
        yield
    except OSError as error:
        given = f"{path}, which cannot be written: {error.strerror or error}"
        allowed = "a folder with room for the run's files"
        raise RevRNNError("E_ARGUMENT", "out", given, allowed) from error


def write_file(path: Path, content: bytes) -> Path:
    """Write a file, whole or not at all, and return its path.

    Raises:
        RevRNNError: ``E_ARGUMENT``, for ``out``, if it cannot be written.
    """
    with written(path):
        write_whole(path, content)
    return path


def check_file(path: Path) -> None:
    """Make the folder of a file that is to be written, and look what is there, before long work.

    Raises:
        RevRNNError: ``E_ARGUMENT``, for ``out``, if that cannot be.
    """
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_place(path)


def plot_files(path: Path) -> list[Path]:
    """Return the files of a plot, which has the endings ``.png`` and ``.svg``."""
    return [path.with_suffix(end) for end in (".png", ".svg")]


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a file of JSON as :func:`write_file` does, and its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_file(path, (json.dumps(content, indent=2) + "\n").encode())
