"""Wrong arguments of the benchmarks end in one line that names them, before any work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from folders import ROOT

WRONG = (
    "--sizes a,b,c",
    "--sizes 3,4",
    "--sizes 4,5,1",
    "--steps 0",
    "--chunk=-1",
    "--bits 11",
    "--variants nonsense",
    "--variants plain nonsense",
    "--variants eager --framework torch jax",
    "--device tpu",
    "--out /dev/null/figures",
)


ON_GPUS = ("--sizes 200", "--sizes 0x2", "--engines nonsense")


@pytest.mark.parametrize(
    ("program", "wrong"),
    [*(("step.py", wrong) for wrong in WRONG), *(("gpu.py", wrong) for wrong in ON_GPUS)],
)
def test_wrong_arguments_are_named(program: str, wrong: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / program), *wrong.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"argument {wrong.split()[0].partition('=')[0]}:" in done.stderr
    assert "Traceback" not in done.stderr
