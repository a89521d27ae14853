"""How much memory this process takes, as the operating system counts it."""

from __future__ import annotations

import ctypes


def forget_peak() -> bool:
    """Forget the peak so far where the system can (Linux); say whether it could.

    Memory that was freed goes back to the system first. Where the C library keeps it, what takes
    its place later would not show. A large process, whose heap has met a mapping, may give nothing
    back: measure in one of its own.
    """
    try:
        with open("/proc/self/clear_refs", "w") as file:
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
            if trim is not None:
                trim(0)
            file.write("5")  # resets VmHWM
    except OSError:
        return False
    return True


def reset_peak() -> int:
    """Forget the peak so far where the system can; return the bytes in use."""
    # Where it cannot, the peak is that of the whole process.
    return status("VmRSS") if forget_peak() else peak()


def peak() -> int:
    """Return the most bytes that were in use."""
    try:
        return status("VmHWM")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit(more: int) -> None:
    """Let the process take so many bytes more than it has, and no more (Linux)."""
    import resource

    allowed = status("VmData") + more
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def status(name: str) -> int:
    """Return an entry of the process's memory status, bytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) * 1024
