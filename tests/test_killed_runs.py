"""Runs that are killed, at any moment, and go on."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_faults_runs import SMALL, program

from experiment_cases import write_text
from options import as_options
from revrnn.experiments.runs import RunFolder

WRITER = """
import sys
from itertools import count
from pathlib import Path
import numpy as np
from revrnn.experiments.lock import locked
from revrnn.experiments.runs import RunFolder
path = Path(sys.argv[1])
with locked(path):
    run, begin = RunFolder(path), 0
    run.rewind()
    if (last := run.load("last")) is not None:
        begin = last[1]["n"] + 1
    print("on", flush=True)
    for n in count(begin):
        run.log("train", n=n, text="x" * 100)
        run.save("last", {"n": np.full(10_000, n)}, {"n": n})
        run.log("train", n=-1)
        run.write("report.md", str(n).encode() * 10_000)
        run.rewind()
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """Whatever is read afterwards is whole, and of one moment."""
    RunFolder.new(tmp_path, {})
    generator, latest = random.Random(1), -1
    for _ in range(4):
        writer = program(WRITER, str(tmp_path))
        assert writer.stdout is not None
        assert writer.stdout.readline() == "on\n"
        time.sleep(generator.uniform(0.01, 0.08))
        writer.kill()
        writer.communicate()
        run = RunFolder.existing(tmp_path)
        last = run.load("last")
        run.rewind()
        assert not list(tmp_path.glob(".*.part"))
        if last is not None:
            latest = int(last[1]["n"])
            assert set(last[0]["n"].tolist()) == {latest}
        numbers = [record["n"] for record in run.records("train")]
        assert numbers == list(range(latest + 1))
        report = tmp_path / "report.md"
        if report.exists():
            assert set(re.findall(r"\d", report.read_text())) <= set(str(latest) + str(latest - 1))
    assert latest > 0


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_killed_run_goes_on_with_the_same_bits(framework: str, tmp_path: Path) -> None:
    """SIGKILL at random moments, from the first import to the report."""
    data = write_text(tmp_path / "data")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = ["lm", "--framework", framework, "--data", str(data), *as_options(SMALL)]
    assert start(words, whole).wait() == 0
    metrics, generator = cut / "metrics.jsonl", random.Random(framework)
    total, kills = (whole / "metrics.jsonl").stat().st_size, 0
    # While it is imported, then each time somewhat further on, then in the report.
    for share in (None, 0, 0.1, 0.3, 0.6, 0.95, 1):
        more = ["--resume"] if (cut / "config.json").exists() else []
        process = start([*words, *more], cut)
        while share is not None and process.poll() is None:
            size = metrics.stat().st_size if metrics.exists() else 0
            if size > share * 0.99 * total:
                break
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.3))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 4
    assert start([*words, "--resume"], cut).wait() == 0
    ends = [RunFolder(folder).load("last") for folder in (whole, cut)]
    arrays = [end[0] for end in ends if end is not None]
    assert arrays[0].keys() == arrays[1].keys()
    for name, value in arrays[0].items():
        assert value.tobytes() == arrays[1][name].tobytes(), name
    for event in ("train", "valid"):
        records = [RunFolder(folder).records(event) for folder in (whole, cut)]
        timeless = [[{**record, "seconds": 0} for record in part] for part in records]
        assert timeless[0] == timeless[1]
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in cut.iterdir())
    print(f"{framework}: {kills} kills")


def start(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own."""
    command = [sys.executable, "-m", "revrnn.experiments", *words, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)
