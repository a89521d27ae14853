"""A process that was forked from one in which PyTorch had threads.

GNU's OpenMP keeps its threads for the one that began them. A child process that goes on from there
has none of them and would wait for them without end, in any of PyTorch's larger operations. With
one thread it waits for none: so do workers of a DataLoader, which set that themselves.
"""

from __future__ import annotations

import os
import threading
import warnings
from functools import cache
from pathlib import Path

import torch

_ONE_THREAD = "this process was forked from one with threads, for which GNU's OpenMP would wait"
_ONE_THREAD += (
    " without end: PyTorch has one thread here from now on, as in workers of a DataLoader;"
)
_ONE_THREAD += " processes that 'spawn' or 'forkserver' starts has all of them"

# Whether there were threads beside its own when this process forked last; which thread it went on
# with, if it comes from such a one, or 0.
_before = False
_inherited = 0


def _note() -> None:
    global _before
    try:
        _before = len(os.listdir("/proc/self/task")) > 1 and torch.get_num_threads() > 1
    except OSError:  # no Linux: OpenMP of other systems begins anew by itself
        _before = False


def _remember() -> None:
    global _inherited
    _inherited = threading.get_ident() if _before else _inherited


@cache
def _is_of_gnu() -> bool:
    """Return whether it is GNU's OpenMP that is loaded."""
    return b"gomp" in Path("/proc/self/maps").read_bytes()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note, after_in_child=_remember)


def wait_for_none() -> None:
    """Give PyTorch one thread where it would wait for threads that did not come along, and warn."""
    if not _inherited or threading.get_ident() != _inherited or torch.get_num_threads() == 1:
        return
    if _is_of_gnu():
        torch.set_num_threads(1)
        warnings.warn(f"revrnn: {_ONE_THREAD}", RuntimeWarning, stacklevel=3)
