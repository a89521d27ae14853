"""Sweeps: rates that are chosen, seeds, runs side by side, results gathered."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from experiment_cases import SIZES, write_both
from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm import sweep as lm
from revrnn.experiments.runs import RunFolder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with a text, and pairs of sentences."""
    return write_both(tmp_path / "data")


def test_rates_and_seeds(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cell has the rate that was best in runs of one budget; means are over the seeds."""
    out = tmp_path / "sweep"
    words = ["lm-sweep", "--data", str(data), *SIZES, "--steps", "5", "--out", str(out)]
    words += ["--only", "gru", "lstm", "revgru-2-bits", "--seeds", "2"]
    words += ["--rates", "1e-5", "0.02", "1e6", "--clip", "1e9"]
    assert main(words) == 0
    tried = {path.name: RunFolder(path).summary for path in (out / "rates").iterdir()}
    chosen_by = {name: summary["valid_perplexity"] for name, summary in tried.items()}
    assert {name.partition("-")[0] for name in chosen_by} == {"gru", "lstm", "revgru"}
    assert len(chosen_by) == 9
    for name in ("gru", "lstm-seed-1", "revgru-2-bits"):
        cell = name.partition("-")[0]
        best = min((v, n) for n, v in chosen_by.items() if n.startswith(f"{cell}-"))[1]
        assert f"{cell}-{RunFolder(out / name).config['learning_rate']:g}" == best
        assert RunFolder(out / name).config["seed"] == int(name.endswith("1"))
        # A run that chose the rate and is the same in all settings is not run again.
        metrics = [(out / p / "metrics.jsonl").read_bytes() for p in (name, f"rates/{best}")]
        assert (metrics[0] == metrics[1]) == (name == "gru")
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in results["models"]] == ["gru", "revgru-2-bits", "lstm"]
    for model in results["models"]:
        assert model["seeds"] == [0, 1]
        values = model["test_perplexity"]["values"]
        assert len(set(values)) == 2
        assert model["test_perplexity"]["mean"] == pytest.approx(np.mean(values))
        assert model["test_perplexity"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert {
        f"{cell}-{rate}": quality
        for cell, tried_of_cell in results["rates"].items()
        for rate, quality in tried_of_cell.items()
    } == chosen_by
    saving = results["models"][1]["savings"][0]
    assert saving["layout"] == "stream"
    assert len(saving["stored"]["values"]) == 2
    assert results["models"][0]["savings"] == []
    assert len(results["origin"]) == 1
    assert "corpus" in results["origin"][0]
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.count(" ± ") == 9
    before = {path: path.read_bytes() for path in out.glob("*/summary.json")}
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out.count("done before") >= 6
    assert {path: path.read_bytes() for path in out.glob("*/summary.json")} == before


def test_rates_that_all_fail(data: Path, tmp_path: Path) -> None:
    def diverging(given: dict[str, Any], console: Console) -> None:
        raise RevRNNError("E_NONFINITE", "loss", "nan", "a number")

    comparison = dataclasses.replace(lm.COMPARISON, run=diverging)
    given = {"out": tmp_path / "sweep", "only": ["gru"], "preset": "small", "rates": [1.0]}
    with pytest.raises(RevRNNError) as caught:
        comparison.sweep({**given, "data": str(data)}, Console(quiet=True))
    assert caught.value.argument == "rates"


@pytest.mark.slow
def test_runs_side_by_side_are_the_same(data: Path, tmp_path: Path) -> None:
    ends = []
    for processes in ("1", "2"):
        out = tmp_path / processes
        words = ["lm-sweep", "--data", str(data), *SIZES, "--steps", "5", "--out", str(out)]
        words += ["--processes", processes, "--only", "gru", "revgru-2-bits"]
        assert main(words) == 0
        ends.append([RunFolder(out / name).best() for name in ("gru", "revgru-2-bits")])
        assert (out / "results.json").exists()
    for one, two in zip(*ends, strict=True):
        for name, value in one.items():
            assert np.array_equal(value, two[name]), name


@pytest.mark.parametrize("words", [["--seeds", "0"], ["--processes", "x"], ["--rates", "fast"]])
def test_sweeps_that_cannot_be(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lm-sweep", *words])
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["--rates", "0.1", "--learning-rate", "0.2"], "learning_rate"),
        (["--rates", "0.1", "nan"], "rates"),
        (["--rates", "-1"], "rates"),
        (["--rates", "inf", "0.1"], "rates"),
        (["--rates", "0.1", "0.10000001"], "rates"),
        (["--rate-epochs", "3"], "rate_epochs"),
    ],
)
def test_rates_that_cannot_be(
    words: list[str], argument: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first run, and before a folder is made."""
    out = tmp_path / "sweep"
    assert main(["lm-sweep", "--data", str(data), *SIZES, "--out", str(out), *words]) == 2
    assert f"] {argument}: got" in capsys.readouterr().out
    assert not out.exists()


def test_runs_that_have_ended_with_other_settings_are_not_taken(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    words = ["lm-sweep", "--data", str(data), *SIZES, "--steps", "5", "--out", str(out)]
    words += ["--only", "gru"]
    assert main(words) == 0
    assert main([*words, "--clip", "0.5"]) == 2
    assert "] clip: got 0.5; allowed: 0.25, with which the run began" in capsys.readouterr().out
