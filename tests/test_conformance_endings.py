"""Python adapters that end the process, or let it be ended: the status is that of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENDING = """
import atexit, os, signal
from revrnn.evaluation import load
class Port:
    name, layouts, profiles = "port", ("stream",), ("gates",)
    def __init__(self, deed): self.deed = deed
    def evaluate(self, operation, arguments):
        self.deed()
        return load("numpy").evaluate(operation, arguments)
def at_the_end(deed):
    atexit.register(os._exit, 0)
    return Port(deed)
leaves = Port(lambda: os._exit(0))
wrong = lambda: at_the_end(lambda: 1 / 0)
right = lambda: at_the_end(lambda: None)
forks = Port(lambda: os.fork() or os._exit(0))
told = Port(lambda: os.kill(os.getpid(), signal.SIGTERM))
moves = Port(lambda: os.chdir("/"))
"""
STATUSES = {"leaves": 2, "wrong": 1, "right": 0, "forks": 0, "told": 143, "moves": 0}


@pytest.mark.skipif(os.name != "posix", reason="forks and signals")
@pytest.mark.parametrize("name", STATUSES)
def test_no_adapter_ends_the_process_as_it_likes(name: str, tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text(ENDING, encoding="utf-8")
    words = ["--adapter", f"ending:{name}", "--examples", "0", "--report", "report.json"]
    done = subprocess.run(
        [sys.executable, "-m", "revrnn.conformance", *words, "--quiet"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == STATUSES[name], done.stderr
    assert (tmp_path / "report.json").exists() == (STATUSES[name] < 2)
    assert ("before the run was over" in done.stderr) == (name == "leaves")
