"""Writing a file whole or not at all: a reader sees the old file or the new one."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from itertools import count
from typing import Final

# What a disk says on which there is no room, or none for this user.
NO_ROOM: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_numbers = count()
_SEPARATORS: Final = tuple(filter(None, (os.sep, os.altsep)))
_WRITABLE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file; what was there stays until the new one is safe on the disk.

    The new file is written beside the old one, under a name that begins with a full stop and ends
    in ``.part``, and takes its place when the disk has it. A process that is killed leaves the
    former behind at worst.

    Args:
        path: the file, in an existing folder. Where it is a link, the file that it leads to. One
            that is there keeps its permissions; one that nobody may write stays as it is.
        data: all that will be in it.

    Raises:
        OSError: with the path, if it cannot be written. Then nothing has changed.
    """
    mode = check_place(path)
    place = os.path.realpath(path)
    folder, name = os.path.split(place)
    part = os.path.join(folder, f".{name}.{os.getpid()}-{next(_numbers)}.part")
    try:
        with open(part, "xb") as file:
            if mode is not None:
                with suppress(OSError):  # some file systems have one mode for all
                    os.chmod(part, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError):
            raise type(error)(error.errno, error.strerror, place) from error
        raise
    sync_folder(folder)


def encoded(text: str) -> bytes:
    """Return a text in UTF-8, with numbers for what has none, as bytes in names of files."""
    return text.encode("utf-8", "backslashreplace")


def check_place(path: str | os.PathLike[str]) -> int | None:
    """Return the permissions of the file that is there, ``None`` without one.

    Raises:
        OSError: with the path, if there is what no file can be written over.
    """
    place = os.path.realpath(path)
    if os.fspath(path).endswith(_SEPARATORS):  # which realpath leaves out
        raise IsADirectoryError(errno.EISDIR, "its name is that of a folder", os.fspath(path))
    try:
        now = os.stat(path)  # of a pipe or a device that a name of the system's leads to, too
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(now.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", place)
    if not stat.S_ISREG(now.st_mode):
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket", place)
    if not now.st_mode & _WRITABLE:
        raise PermissionError(errno.EACCES, "it may only be read", place)
    return stat.S_IMODE(now.st_mode)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make sure that the disk knows of a folder's files, where the system can say so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
