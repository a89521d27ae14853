"""The memory of a process, as experiments and benchmarks measure it."""

from __future__ import annotations

import subprocess
import sys

import pytest

# glibc keeps what is smaller than 32 MiB when it is freed a second time.
FREED = """
import numpy as np
from revrnn.experiments import process_memory

for _ in range(3):
    np.ones(28_000_000, np.int8)
assert process_memory.forget_peak()
before = process_memory.status("VmRSS")
np.ones(28_000_000, np.int8)
print((process_memory.peak() - before) / 28_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone forgets a peak")
def test_what_was_freed_before_does_not_hide_what_is_taken() -> None:
    """In a process of its own: one whose heap has met a mapping gives nothing back."""
    command = [sys.executable, "-c", FREED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.1
