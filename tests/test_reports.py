"""What a run says of itself: its log, its warnings, and where its figures come from."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import revrnn
from experiment_cases import LM_SMALL, CutError, stop, write_text
from options import as_options
from revrnn.experiments import provenance
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm.settings import LmSettings
from revrnn.experiments.lm.trainer import Trainer
from revrnn.experiments.memory_task.settings import MemorySettings
from revrnn.experiments.nmt.settings import NmtSettings
from revrnn.experiments.run_log import LOG, begin_session, say, wall_time
from revrnn.experiments.runs import RunFolder


def test_a_report_says_where_its_figures_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a run that was cut, of which both sessions count."""
    data, out = write_text(tmp_path / "data"), tmp_path / "out"
    words = ["lm", "--data", str(data), *as_options({**LM_SMALL, "epochs": 1}), "--out", str(out)]
    stop(monkeypatch, Trainer, {6: CutError})
    with pytest.raises(CutError):
        main(words)
    assert main([*words, "--resume"]) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    origin = report["origin"]
    assert report["config"]["hidden_size"] == 8
    assert report["seed"] == 0
    assert report["results"]["test_perplexity"] > 1
    assert origin["versions"]["python"] == platform.python_version()
    assert {"numpy", "torch", "numba", "revrnn"} <= origin["versions"].keys()
    assert origin["engine"].startswith("engine ")
    assert origin["threads"] >= 1
    assert origin["sessions"] == 2
    assert origin["wall_seconds"] >= 0
    content = (data / "train.txt").read_bytes()
    assert origin["corpus"]["train.txt"] == hashlib.sha256(content).hexdigest()
    assert set(origin["corpus"]) == {"train.txt", "valid.txt", "test.txt"}
    text = (out / "report.md").read_text(encoding="utf-8")
    assert origin["processor"] in text
    assert "2 session(s)" in text
    log = (out / LOG).read_text(encoding="utf-8")
    assert log.count(" begin: ") == 2
    assert log.count("loss") >= 3
    assert log.splitlines()[-1].partition(" ")[2].startswith("end: ")
    # Without a terminal the lines are also printed.
    assert "update 3 of" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_names_of_files_that_are_no_text_are_written_as_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of another encoding, whose name ends a run's log, does not end the run."""
    data, out = write_text(tmp_path / os.fsdecode(b"dat\xe9")), tmp_path / os.fsdecode(b"o\xfft")
    words = ["lm", "--data", str(data), *as_options({**LM_SMALL, "epochs": 1, "cell": "gru"})]
    shown = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", shown)  # as programs have it
    assert main([*words, "--out", str(out)]) == 0
    assert "dat\\udce9" in (out / "report.md").read_text(encoding="utf-8")
    assert "o\\udcfft" in (out / LOG).read_text(encoding="utf-8")


def test_time_between_sessions_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", {})
    assert wall_time(folder) == (0.0, 0)
    lines = [
        "2026-01-01T00:00:00+00:00 begin: a",
        "2026-01-01T00:00:30+00:00 update 1",
        "2026-01-02T00:00:00+00:00 begin: a",
        "2026-01-02T00:00:10+00:00 upd",
        "2026-01-0",
    ]
    (folder.path / LOG).write_text("\n".join(lines) + "\n", encoding="utf-8")
    console = Console(quiet=True)
    begin_session(folder, console, "a")
    say(folder, console, "update 2")
    seconds, sessions = wall_time(folder)
    assert sessions == 3
    assert 40 <= seconds < 45


WARNED: list[tuple[Any, str]] = [
    (LmSettings(forgetting=False, carry_state=False), "forgetting"),
    (LmSettings(forgetting=False), "carry_state"),
    (LmSettings(optimiser="sgd"), "low for sgd"),
    (LmSettings(learning_rate=3.0), "high for adam"),
    (LmSettings(steps=1), "steps"),
    (LmSettings(weight_drop=0.9), "weight_drop"),
    (LmSettings(optimiser="sgd", learning_rate=1.0, clip=1e-6), "clip"),
    (NmtSettings(optimiser="sgd", learning_rate=1e-4), "low for sgd"),
    (NmtSettings(dropout=0.9), "dropout"),
    (MemorySettings(learning_rates="0.02,5"), "learning_rate 5"),
]


@pytest.mark.parametrize(("settings", "word"), WARNED)
def test_what_cannot_train_is_warned_of(settings: Any, word: str) -> None:
    assert any(word in text for text in settings.warnings())


def test_what_trains_is_not_warned_of() -> None:
    for settings in (
        LmSettings(),
        LmSettings(cell="gru", forgetting=False),
        LmSettings(optimiser="sgd", learning_rate=20.0, clip=0.1),
        NmtSettings(),
        NmtSettings(optimiser="sgd", learning_rate=0.2),
        MemorySettings(),
    ):
        assert settings.warnings() == []


def test_warnings_come_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("not before the warning"))
    data, out = write_text(tmp_path / "data"), tmp_path / "out"
    words = ["lm", "--data", str(data), *as_options(LM_SMALL), "--no-forgetting"]
    with pytest.raises(pytest.fail.Exception):
        main([*words, "--out", str(out)])
    assert "warning: forgetting is off" in " ".join(capsys.readouterr().out.split())
    assert "warning: carry_state" in (out / LOG).read_text(encoding="utf-8")


def test_warnings_amid_a_run_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log and report have what Python warns of; once the run is over it has the say again."""
    step, shown = Trainer.step, list[Any]()

    def show(*given: Any, **more: Any) -> None:
        shown.append(given[0])

    def warning(self: Any, *given: Any) -> float:
        warnings.warn("states\n saturate", UserWarning, stacklevel=2)
        return float(step(self, *given))

    monkeypatch.setattr(Trainer, "step", warning)
    monkeypatch.setattr(warnings, "showwarning", show)
    data, out = write_text(tmp_path / "data"), tmp_path / "out"
    words = ["lm", "--data", str(data), *as_options({**LM_SMALL, "epochs": 1, "steps": 1})]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*words, "--out", str(out)]) == 0
    assert "warning: states saturate" in (out / LOG).read_text(encoding="utf-8")
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    told = report["origin"]["warnings"]
    assert [text.partition(" ")[0] for text in told] == ["steps", "states"]
    assert "- warned: states saturate" in (out / "report.md").read_text(encoding="utf-8")
    assert shown
    assert warnings.showwarning is show


def test_code_is_a_commit_or_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package within a checkout that does not track it has its version alone."""
    package = tmp_path / "spec" / "__init__.py"
    package.parent.mkdir()
    package.write_text("", encoding="utf-8")
    monkeypatch.setattr(revrnn, "__file__", str(package))
    assert provenance.code() == {"version": revrnn.__version__}

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "other").write_text("", encoding="utf-8")
    git("add", "other")
    git("commit", "-m", "a")
    assert provenance.code() == {"version": revrnn.__version__}
    git("add", "spec")
    git("commit", "-m", "b")
    state = provenance.code()
    assert len(state["commit"]) == 40
    assert not state["dirty"]
    package.write_text("changed = 1\n", encoding="utf-8")
    assert provenance.code()["dirty"]
