"""Comparisons: runs one after the other, each once, and a table of all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiment_cases import SIZES, write_both
from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm import report as lm_report
from revrnn.experiments.lm import sweep as lm
from revrnn.experiments.lm.command import run as run_lm
from revrnn.experiments.nmt import report as nmt_report
from revrnn.experiments.nmt import sweep as nmt
from revrnn.experiments.plots import Trade
from revrnn.experiments.runs import RunFolder
from revrnn.experiments.settings import chosen
from revrnn.experiments.sweep import Comparison


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with a text, and pairs of sentences."""
    return write_both(tmp_path / "data")


@pytest.mark.parametrize(
    ("comparison", "preset", "count"),
    [(lm.COMPARISON, "small", 20), (nmt.COMPARISON, "multi30k", 32)],
    ids=["lm", "nmt"],
)
def test_all_runs_can_be_and_differ(comparison: Comparison, preset: str, count: int) -> None:
    settings = {
        name: chosen(comparison.settings, comparison.presets, preset, dict(own))
        for name, own in comparison.variants.items()
    }
    assert len(set(settings.values())) == len(settings) == count
    for name, own in settings.items():
        assert name.replace("float-", "float_").startswith(own.cell)


@pytest.mark.parametrize(
    ("command", "names", "more"),
    [
        ("lm", ["lstm", "revlstm-2-bits"], ["--steps", "5"]),
        ("nmt", ["gru-full", "revgru-emb"], ["--least-count", "1"]),
    ],
)
def test_a_sweep(
    command: str,
    names: list[str],
    more: list[str],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every run is run once, or to more epochs; one that was cut goes on; the table has all."""
    out = tmp_path / "sweep"
    words = [f"{command}-sweep", "--data", str(data), *SIZES, *more, "--out", str(out)]
    words += ["--no-anneal"]
    runs: list[dict[str, Any]] = []
    module = {"lm": lm, "nmt": nmt}[command]
    run = module.COMPARISON.run

    def counted(given: dict[str, Any], console: Console) -> None:
        runs.append(given)
        if len(runs) == 2:
            raise KeyboardInterrupt
        run(given, console)

    monkeypatch.setitem(module.COMPARISON.__dict__, "run", counted)
    assert main([*words, "--only", *names]) == 130
    assert (out / "table.md").read_text(encoding="utf-8").count("\n") == 3
    assert main([*words, "--only", *names]) == 0
    assert [given["out"].name for given in runs] == [names[0], names[1], names[1]]
    table = (out / "table.md").read_text(encoding="utf-8").splitlines()
    assert len({line.count("|") for line in table}) == 1
    for name, line in zip(names, table[2:], strict=True):
        summary = json.loads((out / name / "summary.json").read_text(encoding="utf-8"))
        cells = [cell.strip() for cell in line.split("|")]
        assert f"{summary['parameters']:,}" in cells
        for saving in summary["savings"]:
            if saving.get("steps", 70) == 70:
                assert f"{saving['stored']:.1f}×" in cells
    assert re.search(r"[0-9]×", table[2]) is None
    for plot in ("losses.png", "savings.png", "savings.svg"):
        assert (out / plot).stat().st_size > 1000
    assert main([*words, "--only", names[0], "--epochs", "2"]) == 0
    assert len(runs) == 4
    assert runs[-1]["resume"]
    assert len(RunFolder(out / names[0]).records("valid")) == 2


def test_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are drawn by what they save; those that store all states at 1."""
    drawn: list[list[Trade]] = []
    for report in (lm_report, nmt_report):
        monkeypatch.setattr(
            report, "plot_trades", lambda path, trades, *labels: drawn.append(list(trades))
        )
    lm_runs: list[dict[str, Any]] = [
        {"cell": "gru", "hidden_size": 8, "carry_state": True, "savings": []},
        {
            "cell": "revgru",
            "max_forget_bits": None,
            "carry_state": True,
            "savings": [
                {"layout": layout, "steps": steps, "stored": float(steps + len(layout))}
                for steps in (35, 70)
                for layout in ("stream", "wordlist")
            ],
        },
        {"cell": "revgru", "carry_state": False, "savings": []},
    ]
    nmt_runs: list[dict[str, Any]] = [
        {"cell": "lstm", "context": "full", "savings": []},
        {
            "cell": "revlstm",
            "context": "20h",
            "encoder_max_forget_bits": 1,
            "savings": [
                {"part": part, "layout": layout, "stored": float(len(part) + len(layout))}
                for part in ("decoder", "encoder")
                for layout in ("wordlist", "stream")
            ],
        },
    ]
    for plot, runs in ((lm_report.plot_trade, lm_runs), (nmt_report.plot_trade, nmt_runs)):
        folders = []
        for number, config in enumerate(runs):
            saved = config.pop("savings")
            folders.append(RunFolder.new(tmp_path / plot.__module__ / str(number), config))
            quality = {"valid_perplexity": 100.0 + number, "bleu_beam": 30.0 + number}
            folders[-1].set_summary({"config": config, "savings": saved, **quality})
        plot(tmp_path / "savings", folders)
    assert drawn == [
        [Trade("gru", "8", 1.0, 100.0), Trade("revgru", "no limit", 76.0, 101.0)],
        [Trade("lstm", "full", 1.0, 30.0), Trade("revlstm", "20h, 1 bit", 13.0, 31.0)],
    ]


def test_runs_that_cannot_be_are_told_before_the_first(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    words = ["lm-sweep", "--data", str(data), *SIZES, "--framework", "jax", "--out", str(out)]
    assert main([*words, "--only", "gru", "float-revgru"]) == 2
    assert "float_revgru" in capsys.readouterr().out
    assert main([*words, "--only", "gru", "gru-as-revgru", "--hidden-size", "7"]) == 2
    assert "hidden_size" in capsys.readouterr().out
    assert main([*words, "--clip", "-1"]) == 2
    assert "clip" in capsys.readouterr().out
    assert not out.exists()
    runs: list[str] = []
    monkeypatch.setitem(
        lm.COMPARISON.__dict__, "run", lambda given, console: runs.append(given["out"].name)
    )
    monkeypatch.setitem(lm.COMPARISON.__dict__, "write", lambda out: None)
    assert main(words) == 0
    assert set(lm.COMPARISON.variants) - set(runs) == {"float-revgru", "float-revlstm"}
    told = capsys.readouterr().out
    assert told.count("is left out") == 2


@pytest.mark.parametrize("taken", ["lstm-seed-1/file", "table.md/file", "savings.svg/file"])
def test_places_that_are_taken_are_told_before_the_first(
    taken: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before rates are tried, too."""
    out, place = tmp_path / "sweep", tmp_path / "sweep" / taken
    place.parent.mkdir(parents=True)
    place.write_text("of another")
    words = ["lm-sweep", "--data", str(data), *SIZES, "--out", str(out), "--rates", "0.1", "0.2"]
    assert main([*words, "--only", "gru", "lstm", "--seeds", "2"]) == 2
    assert f"out: got {place.parent}" in capsys.readouterr().out
    assert set(out.rglob("*")) <= {place, place.parent, out / ".lock"}


@pytest.mark.parametrize("option", ["--seeds", "--rate-epochs", "--processes"])
@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5", ""])
def test_numbers_that_are_none_are_told(
    option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["lm-sweep", f"{option}={word}"])
    text = f"{option}: got {word!r}; allowed: a whole number, at least 1"
    assert text in capsys.readouterr().err


def test_a_run_that_diverges_does_not_keep_the_others(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    told = ["E_OVERFLOW", "E_NONFINITE", ""]

    def failing(given: dict[str, Any], console: Console) -> None:
        runs.append(given["out"].name)
        if told[len(runs) - 1]:
            raise RevRNNError(told[len(runs) - 1], "loss", "nan", "a number")

    monkeypatch.setitem(lm.COMPARISON.__dict__, "run", failing)
    monkeypatch.setitem(lm.COMPARISON.__dict__, "write", lambda out: None)
    words = ["lm-sweep", "--data", str(data), *SIZES, "--out", str(tmp_path / "sweep")]
    assert main([*words, "--only", "gru", "lstm", "revgru-3-bits"]) == 2
    assert runs == ["gru", "lstm", "revgru-3-bits"]
    assert capsys.readouterr().out.count("ends here") == 2
    runs.clear()
    told[:] = ["E_ARGUMENT", "", ""]
    assert main([*words, "--only", "gru", "lstm"]) == 2
    assert runs == ["gru"]


def test_matched_sizes_go_through_a_run(data: Path, tmp_path: Path) -> None:
    """``match`` is among the comparison: a baseline with as many parameters."""
    given = {
        **lm.COMPARISON.variants["gru-as-revgru"],
        "preset": "small",
        "resume": False,
        "data": str(data),
        "epochs": 1,
        "embedding_size": 6,
        "hidden_size": 8,
        "steps": 5,
        "batch_size": 4,
        "tied": False,
        "measure_memory": False,
        "out": tmp_path / "run",
    }
    run_lm(given, Console(quiet=True))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["config"]["hidden_size"] != 8
    assert RunFolder(tmp_path / "run").config["hidden_size"] == 8
    with pytest.raises(RevRNNError):
        run_lm({**given, "resume": True, "match": None}, Console(quiet=True))
