"""That no adapter in this process ends it as if all had passed.

Libraries that fear the end of Python call ``os._exit(0)`` in a function for :mod:`atexit`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def kept(main: Callable[[], int]) -> int:
    """Return the status of a run, which ``os._exit(0)`` keeps from now on; before there is one, 2.

    Processes that are forked from this one end as they like. What ends a process without Python
    (``exit`` of a library in C) is not noticed.
    """
    leave, own = os._exit, os.getpid()
    verdict: int | None = None

    def ended(status: int) -> NoReturn:
        if os.getpid() == own and status == 0:
            status = 2 if verdict is None else verdict
            if verdict is None:
                with suppress(OSError, ValueError):
                    print("os._exit(0) before the run was over", file=sys.stderr, flush=True)
        leave(status)

    os._exit = ended
    verdict = main()
    return verdict
