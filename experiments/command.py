"""What the commands of all experiments share: options, presets, new runs and runs that go on."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from . import framework as frameworks
from . import provenance
from .lock import locked
from .outputs import write_json
from .run_log import begin_session, wall_time, warn, warned, warnings_logged
from .runs import RunFolder
from .settings import Settings, add_options, chosen, restored

T = TypeVar("T", bound=Settings)
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
    add_options(parser, settings, presets)


@contextmanager
def begin(
    settings: type[T],
    presets: Mapping[str, Mapping[str, Any]],
    given: dict[str, Any],
    load: Callable[[T], D],
) -> Iterator[tuple[T, D, RunFolder]]:
    """Give settings, data and folder of the run that the command line asks for.

    The folder is this run's alone until the end of the ``with`` block. A run that cannot be leaves
    no folder behind, and one that goes on as it is.

    Args:
        settings: the dataclass of the settings.
        presets: presets by name.
        given: what the parser returned.
        load: reads the data of a run, and raises if there are none.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if a run would be overwritten, if there is none to go on with,
            if it goes on with other settings, or if another process is at work in the folder.
    """
    path: Path = given["out"]
    if given["resume"]:
        folder = RunFolder.existing(path)
        with locked(path):
            again = restored(settings, folder.config, given)
            data = load(again)
            folder.rewind()
            folder.set_config(dataclasses.asdict(again))
            with warnings_logged(folder):
                yield again, data, folder
        return
    new = chosen(settings, presets, given["preset"], given)
    data = load(new)
    frameworks.load(new.framework)  # where it is not installed, there will be no run
    RunFolder.make(path)
    with locked(path):
        folder = RunFolder.new(path, dataclasses.asdict(new))
        with warnings_logged(folder):
            yield new, data, folder


def introduce(folder: RunFolder, console: Console, settings: Settings, text: str) -> None:
    """Say what a process is going to do in a run's folder, and warn of what cannot come to good."""
    begin_session(folder, console, text)
    for warning in settings.warnings():
        warn(folder, console, warning)


def account(
    folder: RunFolder, settings: Settings, summary: Mapping[str, Any], corpus: Mapping[str, str]
) -> list[str]:
    """Write ``report.json`` of a run that has ended: what came out, and where it comes from.

    Args:
        folder: of the run.
        settings: of the run.
        summary: what came out.
        corpus: hashes of the files of the data.

    Returns:
        Where it comes from, as lines of Markdown.
    """
    seconds, sessions = wall_time(folder)
    origin = provenance.of_run(settings.framework, settings.stack, corpus)
    origin |= {"wall_seconds": seconds, "sessions": sessions, "warnings": warned(folder)}
    content = {
        "config": summary.get("config", folder.config),
        "seed": folder.config.get("seed", "several"),
        "origin": origin,
        "results": {name: value for name, value in summary.items() if name != "config"},
    }
    write_json(folder.path / "report.json", content)
    return ["", "## Where this comes from", "", *provenance.as_lines(origin)]
