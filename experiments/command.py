"""What the commands of all experiments share: options, presets, new runs and runs that go on."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .runs import RunFolder
from .settings import RunSettings, add_options, chosen, restored

T = TypeVar("T", bound=RunSettings)
D = TypeVar("D")


def add_run_options(
    parser: argparse.ArgumentParser,
    settings: type[Any],
    presets: Mapping[str, Mapping[str, Any]],
    folder: str,
) -> None:
    """Add ``--out``, ``--resume``, ``--preset`` and an option for every setting."""
    parser.add_argument(
        "--out", type=Path, default=Path(folder), help=f"the run's folder ({folder})"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    parser.add_argument("--preset", choices=tuple(presets), default=next(iter(presets)))
    add_options(parser, settings)


def begin(
    settings: type[T],
    presets: Mapping[str, Mapping[str, Any]],
    given: dict[str, Any],
    load: Callable[[T], D],
) -> tuple[T, D, RunFolder]:
    """Return settings, data and folder of the run that the command line asks for.

    A run that cannot be leaves no folder behind, and one that goes on as it is.

    Args:
        settings: the dataclass of the settings.
        presets: presets by name.
        given: what the parser returned.
        load: reads the data of a run, and raises if there are none.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if a run would be overwritten, if there is none to go on with,
            or if it goes on with other settings.
    """
    path: Path = given["out"]
    if given["resume"]:
        folder = RunFolder.existing(path)
        found = restored(settings, folder.config, given)
        data = load(found)
        folder.rewind()
        folder.set_config(dataclasses.asdict(found))  # type: ignore[call-overload]
        return found, data, folder
    found = chosen(settings, presets, given["preset"], given)
    data = load(found)
    folder = RunFolder.new(path, dataclasses.asdict(found))  # type: ignore[call-overload]
    return found, data, folder
