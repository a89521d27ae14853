"""Runs of translation models, cut and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_cases import (
    NMT_WORDS,
    CutError,
    check_alike,
    nmt_options,
    small,
    some_pairs,
    stop,
    write_pairs,
)
from revrnn.experiments.__main__ import main
from revrnn.experiments.nmt.batches import make_batch
from revrnn.experiments.nmt.memory import measure
from revrnn.experiments.nmt.trainer import Trainer
from revrnn.experiments.runs import RunFolder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with pairs of sentences."""
    return write_pairs(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "context"), [("revlstm", "2h"), ("gru", "full")])
def test_jax_goes_on_from_a_checkpoint(cell: str, context: str) -> None:
    """With dropout, which the update's number decides."""
    settings = small(framework="jax", cell=cell, context=context, dropout=0.4)
    whole, cut = (Trainer(settings, NMT_WORDS, NMT_WORDS) for _ in range(2))
    batches = [make_batch(some_pairs(4, seed)) for seed in range(3)]
    cut.training._update = whole.training._update  # type: ignore[attr-defined] # compiled once
    for number, batch in enumerate(batches):
        if number == 2:
            cut.restore(whole.arrays())
        loss = whole.step(batch, number, 0.01)
    assert cut.step(batches[2], 2, 0.01) == loss
    arrays, wanted = cut.arrays(), whole.arrays()
    assert arrays.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(value, arrays[name]), name


@pytest.mark.parametrize(
    ("cell", "more"),
    [
        ("revgru", {}),
        ("revlstm", {"context": "2h", "num_layers": 2, "buffer": "wordlist"}),
        ("gru", {"context": "full", "num_layers": 2}),
    ],
)
def test_a_run_that_was_cut_goes_on(
    cell: str, more: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it was cut, the end is the same, bit for bit: parameters, moments and metrics."""
    words = nmt_options(data, cell=cell, **more)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--out", str(whole)]) == 0
    # Before the first checkpoint, and amid others.
    stop(monkeypatch, Trainer, {3: KeyboardInterrupt, 11: CutError})
    assert main([*words, "--out", str(cut)]) == 130
    with pytest.raises(CutError):
        main(["nmt", "--resume", "--out", str(cut)])
    assert main(["nmt", "--resume", "--out", str(cut)]) == 0
    events = ("train", "valid", "bits")
    check_alike(whole, cut, events)
    end = RunFolder(whole).load("last")
    assert end is not None
    assert any(name.startswith("optimiser/exp_avg_sq/") for name in end[0])
    records = [record for event in events for record in RunFolder(whole).records(event)]
    assert len(records) == 4 + 2 + (2 if cell.startswith("rev") else 0)
    report = (whole / "report.md").read_text(encoding="utf-8")
    assert "BLEU" in report
    assert "tok:none" in report
    assert ("| decoder | wordlist |" in report) == cell.startswith("rev")
    assert (whole / "losses.png").stat().st_size > 1000
    assert main(["nmt", "--resume", "--hidden-size", "10", "--out", str(cut)]) == 2


def test_a_run_can_be_made_longer(data: Path, tmp_path: Path) -> None:
    ends = []
    for epochs in (("2",), ("1", "2")):
        out = tmp_path / "-".join(epochs)
        for number, count in enumerate(epochs):
            more = ["--resume"] if number else []
            assert (
                main([*nmt_options(data, cell="gru"), "--epochs", count, "--out", str(out), *more])
                == 0
            )
        end = RunFolder(out).load("last")
        assert end is not None
        ends.append(end[0])
    for name, value in ends[0].items():
        assert np.array_equal(value, ends[1][name]), name


@pytest.mark.slow
def test_memory_is_measured() -> None:
    peak = measure(small(), NMT_WORDS, NMT_WORDS, make_batch(some_pairs(4)))
    if peak is not None:  # the system may not tell
        assert peak.bytes >= 0
        assert peak.sizes["rows"] == 4
