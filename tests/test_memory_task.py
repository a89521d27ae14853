"""The repeat task: data, networks, and runs that were cut and go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.memory_task import train as training
from revrnn.experiments.memory_task.model import Repeater, bits
from revrnn.experiments.memory_task.report import rows, told
from revrnn.experiments.memory_task.settings import PRESETS, VARIANTS, Job, MemorySettings
from revrnn.experiments.memory_task.task import repeat, tokens
from revrnn.experiments.memory_task.train import Trainer, train
from revrnn.experiments.runs import RunFolder

TINY: dict[str, Any] = {
    "variants": "gru,revgru,revlstm-keeping",
    "hidden_sizes": "4",
    "symbols": 5,
    "lag": 1,
    "train_steps": 5,
    "test_steps": 9,
    "test_rows": 6,
    "batch_size": 4,
    "updates": 6,
    "seeds": 1,
    "log_every": 4,
    "checkpoint_every": 3,
}


def options(values: dict[str, Any]) -> list[str]:
    """Return settings as words of the command line."""
    return [w for k, v in values.items() for w in (f"--{k.replace('_', '-')}", str(v))]


def test_tokens() -> None:
    drawn = tokens(7, 50, 40, 3, "train", 2)
    assert drawn.shape == (50, 40)
    assert drawn.dtype == np.int64
    assert np.bincount(drawn.ravel(), minlength=7).min() > 200
    assert drawn.max() == 6
    assert np.array_equal(drawn, tokens(7, 50, 40, 3, "train", 2))
    for other in (
        tokens(7, 50, 40, 4, "train", 2),
        tokens(7, 50, 40, 3, "train", 1),
        tokens(7, 50, 40, 3, "valid", 2),
        tokens(7, 50, 40, 3, "test", 2),
    ):
        assert 0.05 < (drawn == other).mean() < 0.25


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_targets_are_inputs_lag_steps_earlier(lag: int) -> None:
    given = tokens(4, 6, 2, 0, "test")
    inputs, targets = repeat(given, lag)
    assert np.array_equal(inputs.numpy(), given)
    assert targets.shape == (6 - lag, 2)
    model = Repeater(MemorySettings(**{**TINY, "symbols": 4, "lag": lag}), Job("gru", 4, 0.1, 0))
    logits = model(inputs)
    assert logits.shape == (6 - lag, 2, 4)
    # The first output that has a target is that of step ``lag``, and its target is token 0.
    outputs, _ = model.rnn(model.embedding(inputs))
    assert torch.allclose(logits[0], model.readout(outputs[lag : lag + 1])[0], atol=1e-6)
    assert targets[0].tolist() == given[0].tolist()
    uniform = bits(torch.zeros(6 - lag, 2, 4), targets)
    assert torch.allclose(uniform, torch.full((6 - lag, 2), 2.0))


def test_first_weights_depend_on_the_seed_alone() -> None:
    settings = MemorySettings(**TINY)
    before = torch.get_rng_state()

    def embedding(seed: int, variant: str = "gru") -> torch.Tensor:
        return Repeater(settings, Job(variant, 4, 0.1, seed)).embedding.weight

    assert torch.equal(embedding(1), embedding(1, "revlstm"))
    assert not torch.equal(embedding(1), embedding(2))
    assert torch.equal(before, torch.get_rng_state())


def test_the_learning_rate_falls_to_zero() -> None:
    """Linearly: the first update is Adam's whole step, half way it is half, at the end nothing."""
    settings = MemorySettings(**TINY)
    moved = []
    for update in (0, 3, 6):
        trainer = Trainer(settings, Job("gru", 4, 0.1, 0))
        before = trainer.parameters()["readout.bias"]
        trainer.step(update)
        moved.append(np.abs(trainer.parameters()["readout.bias"] - before).max())
    assert np.allclose(moved, [0.1, 0.05, 0.0], rtol=1e-3)


def test_all_variants_can_be_made() -> None:
    settings = MemorySettings(**TINY)
    for name, variant in VARIANTS.items():
        rnn = Repeater(settings, Job(name, 4, 0.1, 0)).rnn
        if variant.reversible:
            assert rnn.config.forgetting == variant.forgetting  # type: ignore[union-attr]
            limit = 3 if variant.limited else None
            assert rnn.config.max_forget_bits == limit  # type: ignore[union-attr]
        else:
            assert isinstance(rnn, (torch.nn.GRU, torch.nn.LSTM))
    assert VARIANTS["revgru-keeping"].state_bits(8) == 256
    assert VARIANTS["revlstm-keeping"].state_bits(8) == 512
    assert VARIANTS["revgru"].state_bits(8) is None
    assert len({v.label(3) for v in VARIANTS.values()}) == len(VARIANTS)
    for preset in PRESETS.values():
        assert MemorySettings(**preset).jobs


def test_learns_with_forgetting(tmp_path: Path) -> None:
    settings = MemorySettings(
        variants="revgru",
        hidden_sizes="8",
        symbols=4,
        train_steps=4,
        test_steps=8,
        test_rows=32,
        batch_size=32,
        updates=60,
        learning_rates="0.001,0.05",
        seeds=1,
    )
    folder = RunFolder.new(tmp_path / "run", {})
    train(settings, folder, Console(quiet=True))
    (row,) = rows(settings, folder.records("result"))
    assert row.learning_rate == 0.05
    assert row.accuracy.mean() > 0.95
    assert told(settings, row.bits[0]) > 8


def test_told_is_the_largest_sum() -> None:
    settings = MemorySettings(symbols=4)
    assert told(settings, np.array([1.0, 0.5, 9.0])) == 2.5
    assert told(settings, np.array([3.0, 5.0])) == 0


def _timeless(run: Path) -> list[Any]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(n).items() if k != "seconds"} for n in lines]


@pytest.mark.parametrize("cut", [3, 5, 6, 16])
def test_a_cut_run_goes_on_with_the_same_bits(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["memory", *options(TINY)]
    saved: list[dict[str, Any]] = []
    monkeypatch.setattr(training, "Trainer", _recording(saved))
    assert main([*arguments, "--out", str(whole)]) == 0
    expected, once = _timeless(whole), saved.copy()
    done = 0
    own = Trainer.step

    def step(self: Trainer, update: int) -> float:
        nonlocal done
        if done == cut:
            raise KeyboardInterrupt
        done += 1
        return own(self, update)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "step", step)
        assert main([*arguments, "--out", str(parts)]) == 130
    saved.clear()
    assert main(["memory", "--out", str(parts), "--resume"]) == 0
    assert _timeless(parts) == expected
    # The networks that ended after the cut have the same parameters and moments.
    assert len(saved) == len(once) - cut // 6
    for a, b in zip(saved, once[-len(saved) :], strict=True):
        assert a.keys() == b.keys()
        assert any(key.startswith("optimiser/exp_avg_sq/") for key in a)
        for key, value in a.items():
            assert value.dtype == b[key].dtype
            assert value.tobytes() == b[key].tobytes()
    assert torch.get_num_threads() == threads


def _recording(saved: list[dict[str, Any]]) -> type[Trainer]:
    class Recording(Trainer):
        def result(self) -> dict[str, object]:
            saved.append(self.arrays())
            return super().result()

    return Recording


def test_report_and_more_seeds(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["memory", *options({**TINY, "hidden_sizes": "4,6"}), "--out", str(out)]) == 0
    text = (out / "report.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(table) == 6
    assert "| RevLSTM, not forgetting | 6 |" in text
    assert "| 384 |" in text
    for name in ("config.json", "metrics.jsonl", "last.safetensors", "repeat.png", "repeat.svg"):
        assert (out / name).stat().st_size > 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    networks, records = report["results"]["networks"], RunFolder(out).records("result")
    for short, whole in zip(networks, records, strict=True):
        assert short["accuracy_trained"] == pytest.approx(np.mean(whole["accuracy"][:4]))
        assert short["bits_beyond"] == pytest.approx(np.mean(whole["bits"][4:]))
    first = _timeless(out)
    assert main(["memory", "--out", str(out), "--resume", "--seeds", "2"]) == 0
    assert _timeless(out)[: len(first)] == first
    assert [r["seed"] for r in RunFolder(out).records("result")] == [0] * 6 + [1] * 6
    assert main(["memory", "--out", str(out), "--resume", "--updates", "9"]) == 2
    assert main(["memory", "--out", str(out)]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("variants", "gru,rnn"),
        ("variants", ""),
        ("variants", "gru,gru"),
        ("hidden_sizes", "8,x"),
        ("hidden_sizes", "7"),
        ("hidden_sizes", "0"),
        ("max_forget_bits", 0),
        ("max_forget_bits", 11),
        ("symbols", 1),
        ("symbols", 2**18 + 1),
        ("lag", -1),
        ("lag", 32),
        ("train_steps", 0),
        ("test_steps", 31),
        ("test_steps", 2**32 + 1),
        ("test_rows", 0),
        ("test_rows", 2**25 + 1),
        ("batch_size", 0),
        ("batch_size", 2**27 + 1),
        ("updates", 0),
        ("learning_rates", "0.1,0"),
        ("learning_rates", "nan"),
        ("learning_rates", "fast"),
        ("clip", float("nan")),
        ("clip", 0.0),
        ("seeds", 0),
        ("log_every", 0),
        ("checkpoint_every", 0),
    ],
)
def test_errors_by_name(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(RevRNNError) as caught:
        MemorySettings(**{name: value})
    assert (caught.value.code, caught.value.argument) == ("E_ARGUMENT", name)
    out = tmp_path / "run"
    option = f"--{name.replace('_', '-')}={value}"
    assert main(["memory", option, "--out", str(out)]) == 2
    assert not out.exists()


def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, update: float("nan"))
    with pytest.raises(RevRNNError, match="learning_rates") as caught:
        train(MemorySettings(**TINY), RunFolder.new(tmp_path / "run", {}), Console(quiet=True))
    assert caught.value.code == "E_NONFINITE"
