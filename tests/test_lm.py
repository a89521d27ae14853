"""The language-model experiment: data, models, and runs that were cut and go on."""

from __future__ import annotations

import dataclasses
import json
import lzma
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from rich.console import Console

from options import as_options
from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm import corpus as corpora
from revrnn.experiments.lm.float_cells import FloatRev
from revrnn.experiments.lm.jax_model import JaxModel, Keys
from revrnn.experiments.lm.jax_trainer import JaxTrainer
from revrnn.experiments.lm.memory import measure
from revrnn.experiments.lm.report import table
from revrnn.experiments.lm.savings import savings
from revrnn.experiments.lm.segments import lengths, longest, streams
from revrnn.experiments.lm.settings import CELLS, FLOAT, LmSettings
from revrnn.experiments.lm.sizes import all_parameters, matched
from revrnn.experiments.lm.torch_model import TorchModel, make_stack
from revrnn.experiments.lm.torch_trainer import TorchTrainer
from revrnn.experiments.lm.train import train as train_lm
from revrnn.experiments.runs import Arrays, RunFolder, without_prefix
from revrnn.experiments.training import Place, Work, learning_rate, perplexity, train, validate
from revrnn.torch_impl import RevGRU, RevLSTM, value_and_grad

WORDS = 23
FREQUENCIES = np.log(np.linspace(1, 2, WORDS) / (1.5 * WORDS)).astype(np.float32)
SMALL: dict[str, Any] = {
    "embedding_size": 6,
    "hidden_size": 8,
    "batch_size": 4,
    "steps": 5,
    "epochs": 2,
    "log_every": 3,
    "checkpoint_every": 4,
    "measure_memory": False,
}
DROPOUTS: dict[str, Any] = {
    "dropout_words": 0.1,
    "dropout_input": 0.2,
    "dropout_layers": 0.2,
    "dropout_output": 0.2,
    "weight_drop": 0.3,
    "num_layers": 2,
    "random_steps": True,
}
NO_DROPOUT = dict.fromkeys(("dropout_input", "dropout_layers", "dropout_output"), 0.0)
TRAINERS: dict[str, Any] = {"torch": TorchTrainer, "jax": JaxTrainer}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with a small text, in which a word says what comes next."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for part, size in (("train", 40), ("valid", 12), ("test", 12)):
        starts = generator.integers(20, size=size)
        lines = [" ".join(f"w{(s + k) % 20}" for k in range(6)) for s in starts]
        if part == "train":
            lines += ["w0 <unk>", " ".join(f"w{k}" for k in range(20))]
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def segments(seed: int, steps: int = 5, rows: int = 4) -> tuple[Any, Any]:
    """Return tokens and targets of one segment."""
    ids = np.random.default_rng(seed).integers(0, WORDS, (steps + 1, rows)).astype(np.int32)
    return ids[:-1], ids[1:]


def test_corpora(tmp_path: Path, data: Path) -> None:
    found = corpora.load(str(data))
    assert found.vocabulary.words[0] in ("<eos>", "w0", "w1", "w2", "w3", "w4", "w5")
    text = (data / "valid.txt").read_text(encoding="utf-8").replace("\n", " <eos> ").split()
    assert [found.vocabulary.words[i] for i in found.valid] == text
    packed = tmp_path / "packed"
    packed.mkdir()
    for part in ("train", "valid", "test"):
        content = (data / f"{part}.txt").read_bytes()
        with lzma.open(packed / f"wiki.{part}.tokens.xz", "wb") as file:
            file.write(content)
    again = corpora.load(str(packed))
    assert again.vocabulary == found.vocabulary
    assert np.array_equal(again.train, found.train)
    own = corpora.load("builtin")
    assert len(own.train) > 50_000
    assert min(len(own.valid), len(own.test)) > 5_000
    assert own.train.max() == len(own.vocabulary) - 1
    (data / "test.txt").write_text("never seen\n", encoding="utf-8")
    assert corpora.load(str(data)).test[0] == found.vocabulary.number("<unk>")


@pytest.mark.parametrize(
    "case", ["no folder", "no file", "empty", "not text", "not xz", "new word"]
)
def test_bad_data_is_told_before_anything_is_made(case: str, data: Path, tmp_path: Path) -> None:
    where = data
    if case == "no folder":
        where = tmp_path / "elsewhere"
    elif case == "no file":
        (data / "valid.txt").unlink()
    elif case == "empty":
        (data / "valid.txt").write_text("\n\n", encoding="utf-8")
    elif case == "not text":
        (data / "valid.txt").write_bytes(b"\xff\xfe\x00")
    elif case == "not xz":
        (data / "valid.txt").unlink()
        (data / "valid.txt.xz").write_bytes(b"no archive")
    else:
        train = (data / "train.txt").read_text(encoding="utf-8").replace("<unk>", "w1")
        (data / "train.txt").write_text(train, encoding="utf-8")
        (data / "valid.txt").write_text("never seen\n", encoding="utf-8")
    with pytest.raises(RevRNNError) as caught:
        corpora.load(str(where))
    assert caught.value.argument == "data"
    out = tmp_path / "run"
    assert main(["lm", "--data", str(where), "--out", str(out)]) == 2
    assert not out.exists()


def test_segments() -> None:
    ids = np.arange(23, dtype=np.int32)
    found = streams(ids, 4)
    assert found.shape == (5, 4)
    assert found[:, 1].tolist() == [5, 6, 7, 8, 9]
    with pytest.raises(RevRNNError, match="batch_size"):
        streams(ids, 12)
    assert lengths(12, 5, False, 0, 0).tolist() == [5, 5, 2]
    drawn = lengths(100_000, 70, True, 3, 1)
    assert drawn.sum() == 100_000
    assert drawn.max() <= longest(70, True)
    assert 60 < drawn.mean() < 72
    assert 0.03 < (drawn < 50).mean() < 0.07  # half as long, one time in twenty
    assert np.array_equal(drawn, lengths(100_000, 70, True, 3, 1))
    assert not np.array_equal(drawn[:9], lengths(100_000, 70, True, 3, 2)[:9])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("more", [{}, {"tied": False, "num_layers": 2}, {"hidden_size": 6}])
def test_parameters_are_counted(cell: str, more: dict[str, Any]) -> None:
    settings = LmSettings(cell=cell, **{**SMALL, **more})
    found = sum(v.size for v in TorchTrainer(settings, FREQUENCIES).parameters().values())
    if cell in ("gru", "lstm"):  # two biases a gate
        gates = {"gru": 3, "lstm": 4}[cell]
        found -= gates * settings.hidden_size * settings.num_layers
    assert all_parameters(settings, WORDS) == found
    wide = dataclasses.replace(settings, hidden_size=60)
    like = matched(dataclasses.replace(wide, match="revgru"), WORDS)
    wanted = all_parameters(dataclasses.replace(wide, cell="revgru"), WORDS)
    assert abs(all_parameters(like, WORDS) - wanted) <= 0.05 * wanted


@pytest.mark.parametrize("cell", FLOAT)
def test_float_cells_are_the_reversible_cells(cell: str) -> None:
    """With the same parameters and no limit they differ by what fixed point rounds."""
    settings = LmSettings(cell=cell, num_layers=2, **SMALL)
    kind = {"revgru": RevGRU, "revlstm": RevLSTM}[FLOAT[cell]]
    exact = kind(6, 8, 2, max_forget_bits=None)
    plain = FloatRev(settings.config()).eval()
    plain.load_state_dict(exact.state_dict())
    x = torch.randn(12, 3, 6)
    outputs, state = plain(x, plain.initial_state(3))
    wanted, last = exact(x)
    assert (outputs - wanted).abs().max() < 0.02 * wanted.abs().max()
    ends = (last,) if cell == "float_revgru" else last
    for found, end in zip((s for s in state if s is not None), ends, strict=True):
        assert (found - end).abs().max() < 0.02 * end.abs().max()


@pytest.mark.parametrize("more", [{}, {"tied": False, "num_layers": 2}])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_frameworks_agree(cell: str, more: dict[str, Any]) -> None:
    """Without dropout both take the same steps: equal exact states, losses but for rounding."""
    settings = LmSettings(cell=cell, **{**SMALL, **NO_DROPOUT, **more})
    first = TorchTrainer(settings, FREQUENCIES)
    second = JaxTrainer(dataclasses.replace(settings, framework="jax"), FREQUENCIES)
    assert first.parameters().keys() == second.parameters().keys()
    for name, value in first.parameters().items():
        assert np.array_equal(value, second.parameters()[name])
    assert np.array_equal(first.parameters()["readout.bias"], FREQUENCIES)
    losses = [t.step(*segments(0), 0, 0.1) for t in (first, second)]
    assert np.isclose(losses[0], losses[1], rtol=1e-5)
    assert torch.equal(first.state.h, torch.from_numpy(np.array(second.state.h)))
    for name, value in first.parameters().items():
        # Adam's first step is ± the learning rate, wherever a gradient is not nearly 0.
        near = np.isclose(value, second.parameters()[name], atol=1e-3)
        assert near.mean() > 0.98, name
    ids = segments(1, steps=12)[0]
    second.set_parameters(first.parameters())
    assert np.isclose(first.evaluate(ids), second.evaluate(ids), rtol=1e-5)


def test_words_are_dropped_everywhere() -> None:
    """A dropped word is 0 wherever it stands in a segment; the others are scaled."""
    rate = {"dropout_words": 0.75, "dropout_input": 0.0}
    settings = LmSettings(**{**SMALL, **rate})
    tokens = segments(0, steps=20)[0]
    model = TorchModel(settings, WORDS)
    torch.nn.init.ones_(model.embedding)
    drawn = []
    for seed in range(2):
        torch.manual_seed(seed)
        model.draw_words()
        drawn.append(model.embed(torch.from_numpy(tokens).long()).detach().numpy())
    model.eval()
    model.draw_words()
    assert bool((model.embed(torch.from_numpy(tokens).long()) == 1).all())
    other = JaxModel(dataclasses.replace(settings, framework="jax"), WORDS)
    outer, steps = {"embedding": jnp.ones((WORDS, 6))}, jnp.arange(20)
    for seed in range(2):
        keys = Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))
        drawn.append(np.array(other.embed(keys, outer, (tokens, steps))))
    assert bool((other.embed(None, outer, (tokens, steps)) == 1).all())
    for found in drawn:
        assert set(np.unique(found)) == {0.0, 4.0}
        for word in np.unique(tokens):
            assert len(np.unique(found[tokens == word])) == 1
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[2], drawn[3])


@pytest.mark.parametrize("cell", ["gru", "lstm", *FLOAT])
def test_recurrent_weights_are_dropped(cell: str) -> None:
    """In training alone, and the input's weights never: the first step from zeros shows these."""
    settings = LmSettings(cell=cell, **{**SMALL, **NO_DROPOUT, "weight_drop": 0.5})
    stack, whole = make_stack(settings), make_stack(dataclasses.replace(settings, weight_drop=0.0))
    whole.load_state_dict(stack.state_dict())
    x = torch.randn(4, 3, 6)
    start = stack.initial_state(3)  # type: ignore[operator]
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(stack(x, start)[0])
    wanted = whole(x, start)[0]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    assert not torch.allclose(found[0], wanted)
    if cell in ("gru", "lstm"):  # groups of the others see each other within a step
        assert torch.allclose(found[0][0], wanted[0])
    stack.eval()
    assert torch.equal(stack(x, start)[0], wanted)


def test_jax_drops_recurrent_weights() -> None:
    for cell in ("revgru", "lstm"):
        settings = LmSettings(framework="jax", cell=cell, **{**SMALL, "weight_drop": 0.5})
        trainer = JaxTrainer(settings, FREQUENCIES)
        keys = Keys(*jax.random.split(jax.random.key(0), len(Keys._fields)))
        dropped, factors = trainer.model.dropped(keys, trainer.params[0])
        # Gates by name, of the sort that sees the state.
        recurrent = {n for n, v in trainer.params[0].items() if n.startswith("weight_hh")}
        if cell == "lstm":
            own = trainer.params[0]
            recurrent = {n for n in own if "dense_h" in n and n.endswith("kernel")}
        assert set(factors) == recurrent
        assert recurrent
        for name, value in trainer.params[0].items():
            if name in factors:
                assert set(np.unique(np.array(factors[name]))) == {0.0, 2.0}
                assert np.array_equal(dropped[name], value * factors[name])
            else:
                assert np.array_equal(dropped[name], value)
        assert trainer.model.dropped(None, trainer.params[0])[1] == {}


@pytest.mark.parametrize("cell", ["revlstm", "lstm"])
def test_jax_pads_segments_without_a_trace(cell: str) -> None:
    """Short segments run padded to the greatest length; loss and state do not show it."""
    settings = LmSettings(framework="jax", cell=cell, **{**SMALL, **NO_DROPOUT})
    exact = JaxTrainer(settings, FREQUENCIES)
    padded = JaxTrainer(dataclasses.replace(settings, random_steps=True), FREQUENCIES)
    assert padded.length > exact.length
    losses = [trainer.step(*segments(0), 0, 0.1) for trainer in (exact, padded)]
    assert np.isclose(losses[0], losses[1], rtol=1e-6)
    found, wanted = (t.arrays() for t in (padded, exact))
    for name in wanted:
        assert np.allclose(found[name], wanted[name], atol=1e-5), name


@pytest.mark.slow
def test_memory_is_measured() -> None:
    """An update of a reversible model takes less than one that keeps all states."""
    ids = segments(0, steps=600, rows=16)[0]
    small = {**SMALL, "embedding_size": 32, "hidden_size": 64, "steps": 500, "batch_size": 16}
    found = [
        measure(LmSettings(cell=cell, **small), FREQUENCIES, ids) for cell in ("gru", "revgru")
    ]
    if found[0] is not None and found[1] is not None:  # the system may not tell
        assert found[0].steps == found[1].steps == 500
        assert found[0].rows == 16
        states = 4 * 500 * 16 * 64
        assert found[0].bytes > states
        assert found[1].bytes < found[0].bytes / 2


def test_savings_carry_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment begins where the last ended, in both layouts; each counts as much."""
    settings = LmSettings(**SMALL)
    parameters = TorchTrainer(settings, FREQUENCIES).parameters()
    starts: list[Any] = []
    steps: list[Any] = []

    def watched(*given: Any, **options: Any) -> Any:
        starts.append(options["state"])
        steps.append(value_and_grad(*given, **options))
        return steps[-1]

    monkeypatch.setattr("revrnn.experiments.lm.savings.value_and_grad", watched)
    ids = segments(0, steps=40)[0]
    found = savings(settings, WORDS, parameters, ids, 10)
    assert [(s.layout, s.steps, s.rows) for s in found] == [("stream", 10, 4), ("wordlist", 10, 4)]
    assert len(steps) == 6
    for number, (start, before) in enumerate(zip(starts[1:], steps, strict=False), 1):
        if number != 3:
            assert start is before.state
    for saving, own in zip(found, (steps[:3], steps[3:]), strict=True):
        plain = sum(step.report.plain_bits for step in own)
        assert plain == 3 * 10 * 4 * 8 * 32
        assert saving.stored == plain / sum(step.report.stored_bits for step in own)
        assert saving.ideal == plain / sum(step.report.ideal_bits for step in own)


@pytest.mark.parametrize(
    ("framework", "cell"),
    [("torch", "revgru"), ("torch", "lstm"), ("jax", "revlstm"), ("jax", "gru")],
)
def test_segments_anew(framework: str, cell: str, data: Path, tmp_path: Path) -> None:
    """Without ``carry_state`` every segment begins from zeros, in training and in measuring."""
    small = {**SMALL, **NO_DROPOUT}
    settings = LmSettings(cell=cell, framework=framework, carry_state=False, **small)
    trainer = TRAINERS[framework](settings, FREQUENCIES)
    ids = segments(0, steps=15)[0]
    parts = [trainer.evaluate(ids[first : first + 6]) for first in (0, 5)]
    assert np.isclose(trainer.evaluate(ids[:11]), np.mean(parts), rtol=1e-6)
    carried = TRAINERS[framework](dataclasses.replace(settings, carry_state=True), FREQUENCIES)
    assert not np.isclose(carried.evaluate(ids[:11]), np.mean(parts), rtol=1e-6)
    if framework == "torch":
        step, fresh = trainer.step, without_prefix("state", trainer.arrays())
        starts = []

        def watched(*given: Any) -> float:
            found = without_prefix("state", trainer.arrays())
            starts.append(all(np.array_equal(found[name], fresh[name]) for name in fresh))
            return float(step(*given))

        trainer.step = watched
        folder = RunFolder.new(tmp_path / "run", {})
        train_lm(trainer, settings, corpora.load(str(data)), folder, Console(quiet=True))
        assert len(starts) > 10
        assert all(starts)


class CutError(Exception):
    """What stops a run in a test."""


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
    words += as_options({**SMALL, **more})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--out", str(whole)]) == 0
    step = TRAINERS[framework].step
    calls = 0

    def stopping(self: Any, *given: Any) -> float:
        nonlocal calls
        calls += 1
        if calls in (3, 11):  # before the first checkpoint, and amid others
            raise KeyboardInterrupt if calls == 3 else CutError
        found: float = step(self, *given)
        return found

    monkeypatch.setattr(TRAINERS[framework], "step", stopping)
    assert main([*words, "--out", str(cut)]) == 130
    with pytest.raises(CutError):
        main(["lm", "--resume", "--out", str(cut)])
    assert main(["lm", "--resume", "--out", str(cut)]) == 0
    assert calls > 13
    assert main(["lm", "--resume", "--epochs", "1", "--out", str(cut)]) == 2
    ends = [RunFolder(folder).load("last") for folder in (whole, cut)]
    arrays = [end[0] for end in ends if end is not None]
    assert arrays[0].keys() == arrays[1].keys()
    for name, value in arrays[0].items():
        assert np.array_equal(value, arrays[1][name]), name
        assert value.dtype == arrays[1][name].dtype
    records = [
        [r for e in ("train", "valid") for r in RunFolder(f).records(e)] for f in (whole, cut)
    ]
    for a, b in zip(*records, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    summaries = [json.loads((f / "summary.json").read_text()) for f in (whole, cut)]
    assert {**summaries[0], "seconds": 0} == {**summaries[1], "seconds": 0}
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in cut.iterdir())
    first, last = summaries[0]["valid_perplexity"], RunFolder(whole).records("valid")[-1]
    assert first <= last["perplexity"] < len(corpora.load(str(data)).vocabulary) * 1.5
    assert table([RunFolder(whole), RunFolder(cut)]).count("\n") == 4
    assert "perplexity" in (whole / "report.md").read_text(encoding="utf-8")
    assert (whole / "losses.png").stat().st_size > 1000
    if cell.startswith("rev"):
        found = {s["layout"]: s for s in summaries[0]["savings"] if s["steps"] == 5}
        # The last bits of the states come from the buffer, so the layouts differ by very little.
        assert np.isclose(found["stream"]["ideal"], found["wordlist"]["ideal"], rtol=1e-4)
        assert found["stream"]["stored"] <= found["stream"]["ideal"]


def test_a_run_can_be_made_longer(data: Path, tmp_path: Path) -> None:
    """One pass and then another are two passes, but not where the rate falls to the last."""
    words = ["lm", "--data", str(data)]
    annealed = tmp_path / "annealed"
    assert main([*words, *as_options({**SMALL, "epochs": 1}), "--out", str(annealed)]) == 0
    assert main([*words, "--resume", "--epochs", "2", "--out", str(annealed)]) == 2
    assert RunFolder(annealed).config["epochs"] == 1
    words += ["--no-anneal"]
    words += as_options({**SMALL, **DROPOUTS})
    ends = []
    for epochs in (("2",), ("1", "2")):
        out = tmp_path / "-".join(epochs)
        for number, count in enumerate(epochs):
            more = ["--resume"] if number else []
            assert main([*words, "--epochs", count, "--out", str(out), *more]) == 0
        found = RunFolder(out).load("last")
        assert found is not None
        ends.append(found[0])
        assert RunFolder(out).config["epochs"] == 2
        assert len(RunFolder(out).records("valid")) == 2
    for name, value in ends[0].items():
        assert np.array_equal(value, ends[1][name]), name


@pytest.mark.parametrize("cell", ["revlstm", "lstm"])
def test_training_begins_at_the_frequencies_of_words(cell: str, data: Path) -> None:
    """A model that has learnt nothing gives every word the share it has in training text."""
    corpus = corpora.load(str(data))
    shares = corpus.log_frequencies()
    assert np.isclose(np.exp(shares).sum(), 1)
    never = corpus.vocabulary.number("<unk>")
    corpus = dataclasses.replace(corpus, train=corpus.train[corpus.train != never])
    size = len(corpus.train) + len(shares)
    assert np.isclose(corpus.log_frequencies()[never], -np.log(size))  # counted once all the same
    trainer = TorchTrainer(LmSettings(cell=cell, **{**SMALL, **NO_DROPOUT}), shares)
    parameters = trainer.parameters()
    trainer.set_parameters(parameters | {"embedding": 0 * parameters["embedding"]})
    ids = streams(corpus.valid, 4)
    assert np.isclose(trainer.evaluate(ids), -shares[ids[1:]].mean(), rtol=1e-5)


def test_training_learns(data: Path) -> None:
    corpus = corpora.load(str(data))
    settings = LmSettings(**{**SMALL, **NO_DROPOUT, "learning_rate": 0.02})
    trainer = TorchTrainer(settings, corpus.log_frequencies())
    ids = streams(corpus.train, 4)
    before = trainer.evaluate(ids)
    update = 0
    for _ in range(4):
        trainer.start_anew()
        for first in range(0, len(ids) - 6, 5):
            part = ids[first : first + 6]
            trainer.step(part[:-1], part[1:], update, 0.02)
            update += 1
    after = trainer.evaluate(ids)
    assert perplexity(before) > 15
    assert perplexity(after) < 0.6 * perplexity(before)


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


class Still:
    """A trainer that has nothing to train."""

    def parameters(self) -> Arrays:
        return {"a": np.zeros(1, np.float32)}

    arrays = parameters

    def restore(self, arrays: Arrays) -> None:
        raise AssertionError("nothing was cut")


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


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["--hidden-size", "7"], "hidden_size"),
        (["--max-forget-bits", "11"], "max_forget_bits"),
        (["--dropout-input", "1"], "dropout_input"),
        (["--clip", "0"], "clip"),
        (["--cell", "float_revgru", "--framework", "jax"], "cell"),
        (["--cell", "float_revgru", "--no-forgetting"], "forgetting"),
        (["--batch-size", "0"], "batch_size"),
    ],
)
def test_bad_settings_are_told(
    words: list[str], argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["lm", *words, "--out", str(out)]) == 2
    assert argument in capsys.readouterr().out
    assert not out.exists()


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
    found = again.load("last")
    assert found is not None
    for name, value in arrays.items():
        assert np.array_equal(found[0][name], value)
        assert found[0][name].shape == value.shape
        assert found[0][name].dtype == value.dtype
    assert found[1]["update"] == 1
    before = (out / "last.safetensors").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        run.log("train", loss=float("nan"))
    with pytest.raises(TypeError):
        run.save("last", arrays, {"update": object()})
    assert (out / "last.safetensors").read_bytes() == before
    assert not list(out.glob(".*.part"))
    with pytest.raises(TypeError):
        Console().print(RunFolder.new(tmp_path / "other", {"a": object()}))
