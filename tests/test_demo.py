"""The demo as a person runs it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from revrnn.experiments import demo
from revrnn.experiments.demo_runs import PROCESSES
from revrnn.experiments.settings import FRAMEWORKS, REVERSIBLE

LACKING = """
import importlib.util, runpy, sys
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "matplotlib" else there(name, *more)
sys.argv[1:] = ["--out", {out!r}]
runpy.run_module("revrnn.experiments.demo", run_name="__main__")
"""


def test_a_package_that_is_missing_is_named_before_work(tmp_path: Path) -> None:
    program = LACKING.format(out=str(tmp_path / "demo"))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    hint = "this needs matplotlib, which is not installed: pip install 'revrnn[demo]'\n"
    assert (done.stdout, done.stderr, done.returncode) == ("", hint, 2)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    """Few updates of all four runs, whose processes begin with different cells and frameworks."""
    words = ["--updates", "3", "--checks", "2", "--hidden-size", "16", "--out", "demo"]
    command = [sys.executable, "-m", "revrnn.experiments.demo", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "512 steps compared with the oracle, no bit differs" in done.stdout
    left = {"demo.png", "demo.svg", *(f"{cell}_initial.safetensors" for cell in REVERSIBLE)}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_processes_begin_with_what_the_other_has_not() -> None:
    given = demo.options(["--out", "demo"])
    made = [demo.demo_settings(cell, given) for cell in REVERSIBLE]
    jobs = [
        (settings.cell, framework)
        for settings in made
        for framework in FRAMEWORKS
        if demo.number_of(dataclasses.replace(settings, framework=framework)) % 2 == 0
    ]
    assert len(jobs) == PROCESSES == len({c for c, _ in jobs}) == len({f for _, f in jobs})
