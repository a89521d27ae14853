"""The memory of a process, as experiments and benchmarks measure it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from revrnn.experiments import process_memory

SIZE = 28_000_000  # glibc keeps what is smaller than 32 MiB when it is freed a second time


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone forgets a peak")
def test_what_was_freed_before_does_not_hide_what_is_taken() -> None:
    taken = []
    for _ in range(3):  # other threads may give memory back meanwhile
        for _ in range(3):
            np.ones(SIZE, np.int8)
        assert process_memory.forget_peak()
        before = process_memory.status("VmRSS")
        np.ones(SIZE, np.int8)
        taken.append(process_memory.peak() - before)
    assert max(taken) > 0.9 * SIZE
