"""Runs and files where something fails: a full disk, a second process."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import revrnn.conformance.__main__ as conformance
import revrnn.experiments.lm.sweep as lm_sweep
from experiment_cases import write_text
from options import as_options
from revrnn import Config, RevRNNError, archive, jax_impl, torch_impl
from revrnn.conformance.runner import Runner
from revrnn.experiments import plots
from revrnn.experiments.__main__ import main
from revrnn.experiments.lock import locked
from revrnn.experiments.runs import RunFolder

CONFIG = Config("revgru", 3, 64)
ARRAYS = {"a": np.arange(4000, dtype=np.int64)}
# Made before the disk is full: JAX may keep on it what it compiles.
STATE = jax_impl.initial_state(CONFIG, 9)
ZEROS: Any = {name: np.zeros(shape, "f") for name, shape in CONFIG.parameter_shapes().items()}


SMALL: dict[str, Any] = {
    "embedding_size": 6,
    "hidden_size": 8,
    "batch_size": 4,
    "steps": 5,
    "epochs": 40,
    "log_every": 3,
    "checkpoint_every": 4,
    "measure_memory": False,
    "dropout_layers": 0.2,
    "num_layers": 2,
    "random_steps": True,
}


@contextmanager
def full_disk(size: int = 100) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def program(text: str, *words: str) -> subprocess.Popen[str]:
    """Start a Python program."""
    command = [sys.executable, "-c", text, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# --- full disks ------------------------------------------------------------------------------


def a_run(folder: Path) -> RunFolder:
    """Return a run, of which there are some metrics."""
    run = RunFolder(folder) if (folder / "config.json").exists() else RunFolder.new(folder, {})
    if not run.records("train"):
        run.log("train", update=1, loss=1.0)
    return run


def a_plot(folder: Path) -> None:
    plots.plot_losses(folder / "losses", {"run": a_run(folder)})


def a_table(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's, of plots without curves
        lm_sweep.COMPARISON.write(folder)


def a_summary(folder: Path) -> None:
    a_run(folder).set_summary({"text": "x" * 500})


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "checkpoint": ("last.safetensors", lambda f: a_run(f).save("last", ARRAYS, {})),
    "report": ("report.md", lambda f: a_run(f).write("report.md", b"x" * 500)),
    "summary": ("summary.json", a_summary),
    "metrics": ("metrics.jsonl", lambda f: a_run(f).log("train", update=2, loss=2.0, n="x" * 500)),
    "plot": ("losses.png", a_plot),
    "table": ("table.md", a_table),
    "parameters, PyTorch": (
        "weights",
        lambda f: torch_impl.save_parameters(f / "weights", torch_impl.RevGRU(3, 64)),
    ),
    "parameters, JAX": (
        "weights",
        lambda f: jax_impl.save_parameters(f / "weights", ZEROS, CONFIG),
    ),
    "state, PyTorch": (
        "state",
        lambda f: torch_impl.save_state(f / "state", torch_impl.initial_state(CONFIG, 9)),
    ),
    "state, JAX": ("state", lambda f: jax_impl.save_state(f / "state", STATE)),
    "archive": ("spec.zip", lambda f: archive.write(f / "spec.zip")),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("there", [False, True], ids=["new", "over an old one"])
def test_a_full_disk(kind: str, there: bool, tmp_path: Path) -> None:
    """The error names the file; what was there before is as it was, and nothing half-written."""
    name, write = WRITERS[kind]
    a_run(tmp_path)
    if there:
        write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(), pytest.raises((RevRNNError, OSError)) as caught:
        write(tmp_path)
    told = str(caught.value) + str(getattr(caught.value, "filename", ""))
    assert str(tmp_path / name) in told
    if kind != "archive":
        assert isinstance(caught.value, RevRNNError)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    after.pop("results.json", None) if kind == "table" and not there else None  # whole, and first
    assert after == before
    write(tmp_path)
    assert (tmp_path / name).stat().st_size > 100


def test_a_full_disk_and_a_report_of_conformance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")
    monkeypatch.setattr(Runner, "run", lambda self: NoReport())
    monkeypatch.setattr(conformance, "as_text", lambda report: "")
    monkeypatch.setattr(conformance, "as_json", lambda report: "x" * 500)
    words = ["--adapter", "numpy", "--quiet", "--report", str(path)]
    with full_disk():
        assert conformance.main(words) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == "before"


class NoReport:
    def passed(self) -> bool:
        return True


def test_an_error_that_standard_output_takes_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        encoding, errors = "utf-8", "strict"

        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["lm", "--resume", "--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RevRNNError, match="pipe"):
        torch_impl.save_state(tmp_path / "pipe", torch_impl.initial_state(CONFIG, 1))
    assert (tmp_path / "pipe").is_fifo()


# --- what is on the disk ---------------------------------------------------------------------


def test_checkpoints_count_when_the_disk_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics, then the new file, then its name, then the folder that knows of it."""
    run, events = a_run(tmp_path), []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(handle: int) -> None:
        events.append(
            re.sub(r"\d+-\d+", "N", os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        )
        fsync(handle)

    def noting_replace(source: Any, target: Any) -> None:
        events.append(f"to {os.path.basename(target)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    run.save("last", ARRAYS, {})
    name = "last.safetensors"
    assert events == ["metrics.jsonl", f".{name}.N.part", f"to {name}", tmp_path.name]


def test_metrics_that_end_before_the_checkpoint(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.save("last", {}, {})
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(RevRNNError, match=r"metrics\.jsonl"):
        run.rewind()


# --- two processes ---------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from revrnn.experiments.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_processes_on_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is told so at once, and changes nothing; a killed one leaves no lock behind."""
    monkeypatch.setenv("COLUMNS", "200")
    data, out = write_text(tmp_path / "data"), tmp_path / "run"
    words = ["lm", "--data", str(data), "--out", str(out), *as_options(SMALL)]
    out.mkdir()
    holder = program(HOLDER, str(out))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert main(words) == 2
        text = capsys.readouterr().out
        assert f"{out}, in use by process {holder.pid}" in text
        assert [path.name for path in out.iterdir()] == [".lock"]
        (out / "config.json").write_text("{}")
        assert main([*words, "--resume"]) == 2
        assert "in use by" in capsys.readouterr().out
        assert main(["lm-sweep", *words[1:]]) == 2
        assert "in use by" in capsys.readouterr().out
        (out / "config.json").unlink()
    finally:
        holder.kill()
        holder.communicate()
    # What a killed process left before its run began is no run.
    (out / ".config.json.1-0.part").write_text("{")
    RunFolder.make(out)
    with locked(out), pytest.raises(RevRNNError, match="in use by process"), locked(out):
        pass
    with locked(out):
        pass


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])
def test_arrays_without_room_end_a_program_in_one_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(given: Any, console: Any) -> None:
        raise kind("DefaultCPUAllocator: can't allocate memory: 4 TB\nand more")

    monkeypatch.setattr("revrnn.experiments.forgetting.run", run)
    assert main(["forgetting", "--run", "none"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("memory: ")
    assert "4 TB" in line
    monkeypatch.setattr("revrnn.experiments.forgetting.run", lambda given, console: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["forgetting", "--run", "none"])
