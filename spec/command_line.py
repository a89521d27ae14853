"""Programs whose output nobody reads to its end: ``python -m revrnn.conformance … | head``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

# What shells report of a program that wrote into a closed pipe: 128 + SIGPIPE.
CUT_OFF: Final = 141


def run_program(main: Callable[[], int | None]) -> NoReturn:
    """Exit with the status of a program, or quietly with 141 if nobody reads what it writes.

    A program that was done before its last words met a closed pipe keeps its own status.

    Args:
        main: the program; returns its exit status, ``None`` for 0.
    """
    done = False
    status: object = None
    try:
        try:
            status = main()
        except SystemExit as end:  # argparse's, after its help or an error
            status = end.code
        done = True
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
        sys.exit(status if done and isinstance(status, int | None) else CUT_OFF)
    sys.exit(status)


def say(text: str) -> None:
    """Print a result; where nobody reads it, go on without output."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _write_nowhere()


def _write_nowhere() -> None:
    """Let what is still written vanish, or Python's end would tell of the closed pipe again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
