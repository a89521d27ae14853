"""What the terminal shows: how far, how long still."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class PlainConsole(Console):
    """A console that leaves a closed pipe to :func:`revrnn.command_line.run_program`."""

    def on_broken_pipe(self) -> None:
        """Raise the error again."""
        raise


def bar(console: Console | None = None) -> Progress:
    """Return a bar whose tasks have a field ``note``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
