"""Batches sharded over a mesh's axes, explicit and automatic: the same bits as on one device.

The devices are two that XLA makes of one processor, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "jax_mesh_program.py"


def run(*arguments: str) -> None:
    """Run the program; fail with what it printed."""
    given = os.environ.get("XLA_FLAGS", "")
    flags = f"{given} --xla_force_host_platform_device_count=2"
    process = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.splitlines()[-1] == "all the same"


def test_training_with_a_batch_on_two_devices() -> None:
    run("Explicit", "gradient", "trained")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
def test_everything_with_a_batch_on_two_devices(kind: str) -> None:
    run(kind)
