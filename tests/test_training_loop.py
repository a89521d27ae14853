"""The loop of all experiments, and the folders of their runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm.settings import LmSettings
from revrnn.experiments.runs import Arrays, RunFolder
from revrnn.experiments.training import Place, Work, learning_rate, perplexity, train, validate


class Still:
    """A trainer that has nothing to train."""

    def parameters(self) -> Arrays:
        return {"a": np.zeros(1, np.float32)}

    arrays = parameters

    def restore(self, arrays: Arrays) -> None:
        raise AssertionError("nothing was cut")


def test_the_learning_rate_falls_without_gain(tmp_path: Path) -> None:
    class Measured:
        def __init__(self) -> None:
            self.losses = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.9, 2.0])

        def evaluate(self) -> float:
            return next(self.losses)

        def parameters(self) -> dict[str, Any]:
            return {"a": np.zeros(1, np.float32)}

    settings = LmSettings(patience=2, decay=0.5, learning_rate=8.0)
    folder, place = RunFolder.new(tmp_path / "run", {}), Place(learning_rate=8.0)
    trainer: Any = Measured()
    work: Any = Work(lambda epoch: [], lambda *given: (0.0, 1.0), trainer.evaluate)
    rates = []
    for _ in range(7):
        validate(trainer, settings, work, folder, place)
        rates.append(place.learning_rate)
    assert rates == [8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 4.0]
    best = folder.load("best")
    assert best is not None
    assert best[1]["losses"][-1] == 1.9


def test_annealing(tmp_path: Path) -> None:
    """The rate falls by the same amount every update, on top of what validation makes of it."""
    settings = LmSettings(epochs=2, learning_rate=8.0, anneal=True, patience=1, decay=0.5)
    folder, console = RunFolder.new(tmp_path / "run", {}), Console(quiet=True)
    rates: list[float] = []
    losses = iter([1.0, 2.0])

    def step(batch: int, update: int, rate: float) -> tuple[float, float]:
        rates.append(rate)
        return 1.0, 1.0

    work = Work(lambda epoch: [0] * 4, step, lambda: next(losses))
    place = train(Still(), settings, work, folder, console)
    assert rates == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert place.learning_rate == 4.0  # the second validation was no gain
    place = Place(epoch=1, batch=2, learning_rate=4.0)
    assert learning_rate(settings, place, 4) == 1.0
    assert learning_rate(dataclasses.replace(settings, anneal=False), place, 4) == 4.0


def test_perplexity_is_a_number_for_json() -> None:
    """However bad a model is."""
    assert perplexity(0.0) == 1.0
    assert perplexity(5.0) == pytest.approx(148.413, rel=1e-5)
    assert perplexity(691.0) == perplexity(1e9)
    assert json.loads(json.dumps(perplexity(1e9), allow_nan=False)) > 1e299


def test_metrics_are_means_since_the_last_line(tmp_path: Path) -> None:
    """Every line is the weighted mean of its own updates, also over the end of a pass."""
    settings = LmSettings(epochs=2, log_every=2)
    folder, console = RunFolder.new(tmp_path / "run", {}), Console(quiet=True)
    batches: list[tuple[float, float]] = [(5.0, 1.0), (1.0, 3.0), (4.0, 1.0)]
    work = Work(lambda epoch: batches, lambda batch, update, rate: batch, lambda: 1.0)
    train(Still(), settings, work, folder, console)
    assert [r["loss"] for r in folder.records("train")] == [2.0, 4.5, 1.75]
    assert [r["update"] for r in folder.records("valid")] == [3, 6]


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_loss_that_is_no_number_ends_the_run(where: str, tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", {})
    loss, valid = (float("nan"), 1.0) if where == "training" else (1.0, float("inf"))
    work = Work(lambda epoch: [0], lambda *given: (loss, 1.0), lambda: valid)
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        train(Still(), LmSettings(), work, folder, Console(quiet=True))
    assert folder.load("best") is None


def test_run_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is overwritten, nothing is half-written, nothing goes on as something else."""
    out = tmp_path / "run"
    assert main(["lm", "--resume", "--out", str(out)]) == 2
    run = RunFolder.new(out, dataclasses.asdict(LmSettings()))
    assert main(["lm", "--out", str(out)]) == 2
    assert main(["lm", "--resume", "--hidden-size", "300", "--out", str(out)]) == 2
    text = capsys.readouterr().out
    assert "hidden_size" in text
    assert "with which the run began" in " ".join(text.split())
    run.log("train", loss=1.0)
    arrays: Arrays = {"a": np.arange(3, dtype=np.int64), "b": np.array(2, np.float32)}
    run.save("last", arrays, {"update": 1})
    run.log("train", loss=2.0)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"event": "tr')  # a line that was cut
    again = RunFolder.existing(out)
    again.rewind()
    assert again.records("train") == [{"event": "train", "loss": 1.0}]
    checkpoint = again.load("last")
    assert checkpoint is not None
    for name, value in arrays.items():
        assert np.array_equal(checkpoint[0][name], value)
        assert checkpoint[0][name].shape == value.shape
        assert checkpoint[0][name].dtype == value.dtype
    assert checkpoint[1]["update"] == 1
    before = (out / "last.safetensors").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        run.log("train", loss=float("nan"))
    with pytest.raises(TypeError):
        run.save("last", arrays, {"update": object()})
    assert (out / "last.safetensors").read_bytes() == before
    assert not list(out.glob(".*.part"))
    with pytest.raises(TypeError):
        Console().print(RunFolder.new(tmp_path / "other", {"a": object()}))
