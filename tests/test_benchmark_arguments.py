"""Wrong arguments of the benchmarks end in one line that names them, before any work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from folders import ROOT

WRONG = ("--sizes a,b,c", "--sizes 3,4", "--sizes 4,5,1", "--steps 0", "--chunk=-1", "--bits 11")


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_named(wrong: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "step.py"), *wrong.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"argument {wrong.split()[0].partition('=')[0]}:" in done.stderr
    assert "Traceback" not in done.stderr
