"""What the processor offers, and how to hold libraries to less of it.

One machine simulates several: ``avx2`` holds NumPy's and PyTorch's products, oneDNN, MKL, numba
and XLA to AVX2.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from revrnn.experiments.provenance import processor

# numba wants to be told the features beside the name.
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+popcnt,+sse4.2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
# The C library (glibc) gives large blocks back to the system at once. Otherwise it holds some 30 MB
# back, and a peak says as much of that as of the step.
EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
CLASSES = {"best": {}, "avx2": AVX2}


def environment(name: str, threads: int, memory: bool = False) -> dict[str, str]:
    """Return the environment of a process held to a class of processors and to some threads.

    Args:
        name: the class.
        threads: their number; OpenMP, OpenBLAS, MKL and numba all look there.
        memory: the process is to measure memory, not time.
    """
    more = EXACT_MEMORY if memory else {}
    return {**os.environ, **CLASSES[name], **more, "OMP_NUM_THREADS": str(threads)}


def keep_to(threads: int) -> None:
    """Keep this process to as many cores as it may have threads, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        os.sched_setaffinity(0, cores)


def describe(*packages: str) -> str:
    """Return the machine in general terms, with the versions of packages."""
    words = [f"{os.cpu_count()} CPU cores", processor()]
    words += [f"{package} {version(package)}" for package in packages]
    return ", ".join([*words, f"Python {platform.python_version()}"])
