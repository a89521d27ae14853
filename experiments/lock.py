"""One process at a time in a run's folder.

The lock is the operating system's, on the file ``.lock`` in the folder, which stays there. It ends
with the process that holds it, in whatever way that ends, so nothing has to be removed by hand.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from revrnn.errors import RevRNNError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes, and other runs of this one, out of a folder for a ``with`` block.

    Args:
        folder: one that exists.

    Raises:
        RevRNNError: ``E_ARGUMENT``, for ``out``, at once, if another one is in it or the folder
            cannot be locked.
    """
    allowed = "a folder in which nothing else is running, and which can be written"
    try:
        # Not inherited by programs that are started: they would keep the lock.
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        given = f"{folder / LOCK}, which cannot be written: {error.strerror or error}"
        raise RevRNNError("E_ARGUMENT", "out", given, allowed) from error
    try:
        try:
            _lock(handle)
        except OSError as error:
            taken = error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
            what = f"in use by {_holder(handle)}" if taken else "which cannot be locked"
            given = f"{folder}, {what}: {error.strerror or error}"
            raise RevRNNError("E_ARGUMENT", "out", given, allowed) from error
        with suppress(OSError):  # a help for who is refused; the lock holds without it
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    """Return what the process that holds a lock wrote about itself."""
    with suppress(OSError, UnicodeDecodeError):
        return os.read(handle, 100).decode().strip() or "another process"
    return "another process"


if sys.platform == "win32":
    import msvcrt

    # A byte behind the text, since nobody else can read what is locked.
    _PLACE = 1000

    def _lock(handle: int) -> None:
        os.lseek(handle, _PLACE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
