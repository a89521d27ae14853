"""A progress bar, with rich where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .runner import Progress


@contextmanager
def progress(wanted: bool) -> Iterator[Progress | None]:
    """Give a function that shows how far a run is; ``None`` if standard error is no terminal."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
    except ImportError:
        yield _line
        print(file=sys.stderr)
        return
    columns = (
        TextColumn("{task.description:30}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("")

        def show(operation: str, done: int, total: int) -> None:
            bars.update(task, description=operation, completed=done, total=total)

        yield show


def _line(operation: str, done: int, total: int) -> None:
    print(f"\r{operation:30} {done}/{total}  ", end="", file=sys.stderr, flush=True)
