"""How programs begin and end: where output has no place, at an interrupt, without a package."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from .extras import how_to_install
from .whole_files import NO_ROOM

# What shells report of a program that wrote into a closed pipe: 128 + SIGPIPE.
CUT_OFF: Final = 141
# And of one that was interrupted: 128 + SIGINT.
INTERRUPTED: Final = 130
# A disk or a device that takes no more.
_FULL: Final = (*NO_ROOM, errno.EFBIG, errno.EIO)


def run_program(main: Callable[[], int | None], extra: str = "") -> NoReturn:
    """Exit with the status of a program.

    Quietly with 141 if nobody reads what it writes, with 130 if it is interrupted; with 2 and one
    line if the output goes where there is no room, or a package is missing. A program that was done
    before its last words met a closed pipe keeps its own status.

    Args:
        main: the program; returns its exit status, ``None`` for 0.
        extra: of revrnn, with all packages that the program needs.
    """
    done = False
    status: object = None
    leave_garbage_at_the_end()
    try:
        try:
            _prepare_streams()
            status = main()
        except SystemExit as end:  # argparse's, after its help or an error
            status = end.code
        done = True
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
        sys.exit(status if done and isinstance(status, int | None) else CUT_OFF)
    except KeyboardInterrupt:
        _write_nowhere()
        _complain("interrupted")
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "revrnn"):
            raise
        hint = f": {how_to_install(extra)}" if extra else ""
        _complain(f"this needs {name}, which is not installed{hint}")
        sys.exit(2)
    except OSError as error:
        # Of files an error has the name; what has none was on its way to the output.
        if error.filename is not None or error.errno not in _FULL:
            raise
        _write_nowhere()
        _complain(f"standard output: {error.strerror}")
        sys.exit(2)
    sys.exit(status)


def leave_garbage_at_the_end() -> None:
    """Have Python not look for garbage when this process ends: with PyTorch and JAX that takes 2 s.

    What is to be done at the end is done before; memory goes back to the system as a whole.
    """
    atexit.register(gc.freeze)


def say(text: str) -> None:
    """Print a result; where nobody reads it, go on without output."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _write_nowhere()


def _complain(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _prepare_streams() -> None:
    """Have output whatever it goes to: closed streams lead nowhere, and any character is shown.

    Where an encoding lacks a character (``…`` in ASCII) its number is written.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            handle = os.open(os.devnull, os.O_RDWR)
            try:
                os.fstat(number)
            except OSError:  # else files and processes that begin later would take the place
                os.dup2(handle, number)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(handle, mode, encoding="utf-8"))  # noqa: SIM115 - stays open
        elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _write_nowhere() -> None:
    """Let what is still written vanish, or Python's end would tell of the closed pipe again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
