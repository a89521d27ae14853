"""Runs of language models, cut and gone on with."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiment_cases import (
    DROPOUTS,
    FREQUENCIES,
    LM_SMALL,
    NO_DROPOUT,
    CutError,
    check_alike,
    segments,
    stop,
    write_text,
)
from options import as_options
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm import corpus as corpora
from revrnn.experiments.lm.memory import measure
from revrnn.experiments.lm.report import table
from revrnn.experiments.lm.settings import LmSettings
from revrnn.experiments.lm.trainer import Trainer
from revrnn.experiments.lm.trainer import train as train_lm
from revrnn.experiments.runs import RunFolder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with a small text."""
    return write_text(tmp_path / "data")


@pytest.mark.parametrize(
    ("framework", "cell"),
    [("torch", "revgru"), ("torch", "lstm"), ("jax", "revlstm"), ("jax", "gru")],
)
def test_segments_anew(
    framework: str, cell: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``carry_state`` every segment begins from zeros, in training and in measuring."""
    small = {**LM_SMALL, **NO_DROPOUT}
    settings = LmSettings(cell=cell, framework=framework, carry_state=False, **small)
    trainer = Trainer(settings, FREQUENCIES)
    ids = segments(0, steps=15)[0]
    parts = [trainer.evaluate(ids[first : first + 6]) for first in (0, 5)]
    assert np.isclose(trainer.evaluate(ids[:11]), np.mean(parts), rtol=1e-6)
    carried = Trainer(dataclasses.replace(settings, carry_state=True), FREQUENCIES)
    assert not np.isclose(carried.evaluate(ids[:11]), np.mean(parts), rtol=1e-6)
    if framework == "torch":
        step, fresh = trainer.step, trainer.carried()
        starts = []

        def watched(*given: Any) -> float:
            state = trainer.carried()
            starts.append(all(np.array_equal(state[name], fresh[name]) for name in fresh))
            return float(step(*given))

        monkeypatch.setattr(trainer, "step", watched)
        folder = RunFolder.new(tmp_path / "run", {})
        train_lm(trainer, settings, corpora.load(str(data)), folder, Console(quiet=True))
        assert len(starts) > 10
        assert all(starts)


@pytest.mark.parametrize(
    ("framework", "cell", "more"),
    [
        ("torch", "revgru", DROPOUTS),
        ("torch", "revlstm", {"optimiser": "sgd", "buffer": "wordlist", "patience": 1}),
        ("torch", "float_revlstm", {}),
        ("torch", "lstm", DROPOUTS),
        pytest.param("jax", "revlstm", DROPOUTS, marks=pytest.mark.slow),
        ("jax", "gru", {}),
    ],
)
def test_a_run_that_was_cut_goes_on(
    framework: str,
    cell: str,
    more: dict[str, Any],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever it was cut, the end is the same, bit for bit: parameters, state and metrics."""
    words = ["lm", "--framework", framework, "--cell", cell, "--data", str(data)]
    words += as_options({**LM_SMALL, **more})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--out", str(whole)]) == 0
    # Before the first checkpoint, and amid others.
    begun = stop(monkeypatch, Trainer, {3: KeyboardInterrupt, 11: CutError})
    assert main([*words, "--out", str(cut)]) == 130
    with pytest.raises(CutError):
        main(["lm", "--resume", "--out", str(cut)])
    assert main(["lm", "--resume", "--out", str(cut)]) == 0
    assert len(begun) > 13
    assert main(["lm", "--resume", "--epochs", "1", "--out", str(cut)]) == 2
    check_alike(whole, cut, ("train", "valid"))
    summary = RunFolder(whole).summary
    first, last = summary["valid_perplexity"], RunFolder(whole).records("valid")[-1]
    assert first <= last["perplexity"] < len(corpora.load(str(data)).vocabulary) * 1.5
    assert table([RunFolder(whole), RunFolder(cut)]).count("\n") == 4
    assert "perplexity" in (whole / "report.md").read_text(encoding="utf-8")
    assert (whole / "losses.png").stat().st_size > 1000
    if cell.startswith("rev"):
        saved = {s["layout"]: s for s in summary["savings"] if s["steps"] == 5}
        # The last bits of the states come from the buffer, so the layouts differ by very little.
        assert np.isclose(saved["stream"]["ideal"], saved["wordlist"]["ideal"], rtol=1e-4)
        assert saved["stream"]["stored"] <= saved["stream"]["ideal"]


def test_a_run_can_be_made_longer(data: Path, tmp_path: Path) -> None:
    """One pass and then another are two passes, but not where the rate falls to the last."""
    words = ["lm", "--data", str(data)]
    annealed = tmp_path / "annealed"
    assert main([*words, *as_options({**LM_SMALL, "epochs": 1}), "--out", str(annealed)]) == 0
    assert main([*words, "--resume", "--epochs", "2", "--out", str(annealed)]) == 2
    assert RunFolder(annealed).config["epochs"] == 1
    words += ["--no-anneal"]
    words += as_options({**LM_SMALL, **DROPOUTS})
    ends = []
    for epochs in (("2",), ("1", "2")):
        out = tmp_path / "-".join(epochs)
        for number, count in enumerate(epochs):
            more = ["--resume"] if number else []
            assert main([*words, "--epochs", count, "--out", str(out), *more]) == 0
        end = RunFolder(out).load("last")
        assert end is not None
        ends.append(end[0])
        assert RunFolder(out).config["epochs"] == 2
        assert len(RunFolder(out).records("valid")) == 2
    for name, value in ends[0].items():
        assert np.array_equal(value, ends[1][name]), name


def test_a_part_of_the_text(data: Path, tmp_path: Path) -> None:
    """It is trained on from its beginning; the words known are those of the whole text.

    A run that has ended is asked for again with another part in vain, also if it is of a time when
    there were no parts.
    """
    words = ["lm", "--data", str(data), *as_options({**LM_SMALL, "epochs": 1})]
    text, shorter = (data / "train.txt").read_text(encoding="utf-8"), tmp_path / "shorter"
    shutil.copytree(data, shorter)
    lines = text.splitlines()[:10]  # of 7 words each, with their ends
    (shorter / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    whole, part = corpora.load(str(data)), corpora.load(str(shorter))
    assert [whole.vocabulary.words[i] for i in whole.train[:70]] == [
        part.vocabulary.words[i] for i in part.train
    ]
    out = tmp_path / "part"
    assert main([*words, "--train-words", "70", "--out", str(out)]) == 0
    run = RunFolder(out)
    assert run.summary["updates"] == 4  # 17 words in each of 4 streams, 5 at a time
    assert run.best()["embedding"].shape == (len(whole.vocabulary), 6)
    assert "70 words to train on" in (out / "log.txt").read_text(encoding="utf-8")
    config = {name: value for name, value in run.config.items() if name != "train_words"}
    run.set_config(config)
    assert main(["lm", "--resume", "--out", str(out), "--train-words", "35"]) == 2


@pytest.mark.slow
def test_memory_is_measured() -> None:
    """An update of a reversible model takes less than one that keeps all states."""
    ids = segments(0, steps=600, rows=16)[0]
    small = {**LM_SMALL, "embedding_size": 32, "hidden_size": 64, "steps": 500, "batch_size": 16}
    peaks = [
        measure(LmSettings(cell=cell, **small), FREQUENCIES, ids) for cell in ("gru", "revgru")
    ]
    if peaks[0] is not None and peaks[1] is not None:  # the system may not tell
        assert peaks[0].sizes == peaks[1].sizes == {"steps": 500, "rows": 16}
        states = 4 * 500 * 16 * 64
        assert peaks[0].bytes > states
        assert peaks[1].bytes < peaks[0].bytes / 2
