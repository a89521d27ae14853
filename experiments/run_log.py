"""A run's ``log.txt``: what happened when, in words, warnings too; how long the run took in all."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console

from revrnn.whole_files import encoded

from .outputs import written
from .runs import RunFolder

LOG: Final = "log.txt"
_BEGIN: Final = "begin: "
_WARNING: Final = "warning: "


def say(folder: RunFolder, console: Console, text: str, important: bool = True) -> None:
    """Add a line to the log, and show it where a bar does not show as much.

    Args:
        folder: of the run.
        console: the terminal, or what stands for it.
        text: what happened.
        important: whether to show it in a terminal too.
    """
    path = folder.path / LOG
    with written(path), path.open("ab") as file:
        file.write(encoded(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n"))
    if important or not console.is_terminal:
        console.print(text, markup=False, soft_wrap=True)


def begin_session(folder: RunFolder, console: Console, text: str) -> None:
    """Say that a process is at work in the folder from now on."""
    say(folder, console, f"{_BEGIN}{text}")


def warn(folder: RunFolder, console: Console, text: str) -> None:
    """Say what a run is warned of."""
    say(folder, console, _WARNING + text)


@contextmanager
def warnings_logged(folder: RunFolder) -> Iterator[None]:
    """Also write to the log what Python is told to show of warnings, saturation for one."""
    shown = warnings.showwarning

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        warn(folder, Console(quiet=True), " ".join(str(message).split()))
        shown(message, *rest, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def warned(folder: RunFolder) -> list[str]:
    """Return all that a run was warned of, each once."""
    texts = [line.partition(" ")[2] for line in _lines(folder)]
    told = [text.removeprefix(_WARNING) for text in texts if text.startswith(_WARNING)]
    return list(dict.fromkeys(told))


def _lines(folder: RunFolder) -> list[str]:
    path = folder.path / LOG
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def wall_time(folder: RunFolder) -> tuple[float, int]:
    """Return the seconds that a run took, and in how many sessions.

    A session is counted from its first line to its last; of the present one to now.
    """
    spans: list[list[float]] = []
    for line in _lines(folder):
        when, _, text = line.partition(" ")
        try:
            at = datetime.fromisoformat(when).timestamp()
        except ValueError:  # a line that was cut
            continue
        if text.startswith(_BEGIN) or not spans:
            spans.append([at, at])
        spans[-1][1] = at
    if spans:
        spans[-1][1] = time.time()
    return sum(last - first for first, last in spans), len(spans)
