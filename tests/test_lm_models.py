"""Language models: what they compute, in both frameworks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiment_cases import (
    FREQUENCIES,
    LM_SMALL,
    LM_WORDS,
    NO_DROPOUT,
    dropout_of,
    segments,
    write_text,
)
from revrnn.experiments import torch_framework
from revrnn.experiments.float_cells import FloatRev
from revrnn.experiments.framework import StackSettings
from revrnn.experiments.lm import corpus as corpora
from revrnn.experiments.lm.savings import savings
from revrnn.experiments.lm.segments import streams
from revrnn.experiments.lm.settings import FLOAT, LmSettings
from revrnn.experiments.lm.trainer import Trainer
from revrnn.experiments.training import perplexity
from revrnn.torch_impl import RevGRU, RevLSTM


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with a small text."""
    return write_text(tmp_path / "data")


@pytest.mark.parametrize("cell", FLOAT)
def test_float_cells_are_the_reversible_cells(cell: str) -> None:
    """With the same parameters and no limit they differ by what fixed point rounds."""
    settings = LmSettings(cell=cell, num_layers=2, **LM_SMALL)
    kind = {"revgru": RevGRU, "revlstm": RevLSTM}[FLOAT[cell]]
    exact = kind(6, 8, 2, max_forget_bits=None)
    plain = FloatRev(StackSettings("rnn", cell, (6, 8, 2), settings.config(), 0.0))
    plain.load_state_dict(exact.state_dict())
    x = torch.randn(12, 3, 6)
    outputs, state = plain(x, plain.fresh(3), torch_framework.Dropout())
    wanted, last = exact(x)
    assert (outputs - wanted).abs().max() < 0.02 * wanted.abs().max()
    ends = (last,) if cell == "float_revgru" else last
    for value, end in zip(state, ends, strict=True):
        assert (value - end).abs().max() < 0.02 * end.abs().max()


@pytest.mark.parametrize("more", [{}, {"tied": False, "num_layers": 2}])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_frameworks_agree(cell: str, more: dict[str, Any]) -> None:
    """Without dropout both take the same steps: equal exact states, losses but for rounding."""
    settings = LmSettings(cell=cell, **{**LM_SMALL, **NO_DROPOUT, **more})
    first = Trainer(settings, FREQUENCIES)
    second = Trainer(dataclasses.replace(settings, framework="jax"), FREQUENCIES)
    assert first.parameters().keys() == second.parameters().keys()
    for name, value in first.parameters().items():
        assert np.array_equal(value, second.parameters()[name])
    assert np.array_equal(first.parameters()["readout.bias"], FREQUENCIES)
    losses = [t.step(*segments(0), 0, 0.1) for t in (first, second)]
    assert np.isclose(losses[0], losses[1], rtol=1e-5)
    assert np.array_equal(first.state.h, np.array(second.state.h))
    for name, value in first.parameters().items():
        # Adam's first step is ± the learning rate, wherever a gradient is not nearly 0.
        near = np.isclose(value, second.parameters()[name], atol=1e-3)
        assert near.mean() > 0.98, name
    ids = segments(1, steps=12)[0]
    second.set_parameters(first.parameters())
    assert np.isclose(first.evaluate(ids), second.evaluate(ids), rtol=1e-5)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_words_are_dropped_everywhere(framework: str) -> None:
    """A dropped word is 0 wherever it stands in a segment; the others are scaled."""
    rate = {"dropout_words": 0.75, "dropout_input": 0.0}
    trainer = Trainer(LmSettings(framework=framework, **{**LM_SMALL, **rate}), FREQUENCIES)
    numbers = segments(0, steps=20)[0]
    tokens, ones = numbers, np.ones((LM_WORDS, 6), np.float32)
    if framework == "torch":
        tokens, ones = torch_framework.tensors((tokens, ones))
    drawn = [
        np.asarray(trainer.model.embed({"embedding": ones}, tokens, dropout_of(trainer, seed)))
        for seed in (0, 1)
    ]
    whole = trainer.model.embed({"embedding": ones}, tokens, trainer.framework.Dropout())
    assert bool((whole == 1).all())
    for values in drawn:
        assert set(np.unique(values)) == {0.0, 4.0}
        for word in np.unique(numbers):
            assert len(np.unique(values[numbers == word])) == 1
    assert not np.array_equal(drawn[0], drawn[1])


@pytest.mark.parametrize("cell", ["gru", "lstm", *FLOAT])
def test_recurrent_weights_are_dropped(cell: str) -> None:
    """In training alone, and the input's weights never: the first step from zeros shows these."""
    settings = LmSettings(cell=cell, **{**LM_SMALL, **NO_DROPOUT, "weight_drop": 0.5})
    dropping = Trainer(settings, FREQUENCIES).model.stack
    whole = Trainer(dataclasses.replace(settings, weight_drop=0.0), FREQUENCIES).model.stack
    x = torch.randn(4, 3, 6)

    def outputs(stack: Any, seed: int | None) -> torch.Tensor:
        torch.manual_seed(seed or 0)
        drop = torch_framework.Dropout(seed)
        made: torch.Tensor = stack.run({}, x, None, drop).outputs
        return made

    drawn, wanted = [outputs(dropping, seed) for seed in (1, 1, 2)], outputs(whole, 1)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert not torch.allclose(drawn[0], wanted)
    if cell in ("gru", "lstm"):  # groups of the others see each other within a step
        assert torch.allclose(drawn[0][0], wanted[0])
    assert torch.equal(outputs(dropping, None), wanted)


@pytest.mark.parametrize("cell", ["revgru", "lstm"])
def test_jax_drops_recurrent_weights(cell: str) -> None:
    settings = LmSettings(framework="jax", cell=cell, **{**LM_SMALL, "weight_drop": 0.5})
    trainer = Trainer(settings, FREQUENCIES)
    params, stack = trainer.parameters(), trainer.model.stack
    dropped, factors = stack.dropped(params, dropout_of(trainer, 0))
    # Gates by name, of the sort that sees the state.
    recurrent = {n for n in dropped if n.startswith("weight_hh")}
    if cell == "lstm":
        recurrent = {n for n in dropped if "dense_h" in n and n.endswith("kernel")}
    assert set(factors) == recurrent
    assert recurrent
    for name, value in dropped.items():
        whole = params[f"rnn.{name}"]
        if name in factors:
            assert set(np.unique(np.array(factors[name]))) == {0.0, 2.0}
            assert np.array_equal(value, whole * factors[name])
        else:
            assert np.array_equal(value, whole)
    assert stack.dropped(params, trainer.framework.Dropout())[1] == {}


def test_what_is_locked_is_dropped_in_all_steps() -> None:
    """And what is not locked is drawn anew for every step."""
    settings = LmSettings(**LM_SMALL)
    for framework in ("torch", "jax"):
        trainer = Trainer(dataclasses.replace(settings, framework=framework), FREQUENCIES)
        x: Any = np.ones((6, 5, 40), np.float32)
        drop = dropout_of(trainer, 0)
        if framework == "torch":
            x = torch.from_numpy(x)
        drop = trainer.framework.over(drop, x)
        locked, free = (np.asarray(drop("a", 0.5, x, locked=locked)) for locked in (True, False))
        assert set(np.unique(locked)) == set(np.unique(free)) == {0.0, 2.0}
        assert (locked == locked[:1]).all()
        assert 0.3 < (free[0] == free[1]).mean() < 0.7
        assert not np.array_equal(locked, np.asarray(drop("b", 0.5, x, locked=True)))


@pytest.mark.parametrize("cell", ["revlstm", "lstm"])
def test_jax_pads_segments_without_a_trace(cell: str) -> None:
    """Short segments run padded to the greatest length; loss and state do not show it."""
    settings = LmSettings(framework="jax", cell=cell, **{**LM_SMALL, **NO_DROPOUT})
    exact = Trainer(settings, FREQUENCIES)
    padded = Trainer(dataclasses.replace(settings, random_steps=True), FREQUENCIES)
    assert padded.length > exact.length
    losses = [trainer.step(*segments(0), 0, 0.1) for trainer in (exact, padded)]
    assert np.isclose(losses[0], losses[1], rtol=1e-6)
    arrays, wanted = (t.arrays() for t in (padded, exact))
    for name in wanted:
        assert np.allclose(arrays[name], wanted[name], atol=1e-5), name


def test_savings_carry_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment begins where the last ended, in both layouts; each counts as much."""
    settings = LmSettings(**LM_SMALL)
    parameters = Trainer(settings, FREQUENCIES).parameters()
    starts: list[Any] = []
    steps: list[Any] = []
    gradients = torch_framework.Training.gradients

    def watched(self: Any, function: Any, state: Any, *given: Any) -> Any:
        starts.append(state)
        result = gradients(self, function, state, *given)
        steps.append(result[1])
        return result

    monkeypatch.setattr(torch_framework.Training, "gradients", watched)
    ids = segments(0, steps=40)[0]
    both = savings(settings, LM_WORDS, parameters, ids, 10)
    assert [(s.layout, s.steps, s.rows) for s in both] == [("stream", 10, 4), ("wordlist", 10, 4)]
    assert len(steps) == 6
    for number, (start, before) in enumerate(zip(starts[1:], steps, strict=False), 1):
        if number != 3:
            assert start is before.end
    for saving, own in zip(both, (steps[:3], steps[3:]), strict=True):
        plain = sum(step.report.plain_bits for step in own)
        assert plain == 3 * 10 * 4 * 8 * 32
        assert saving.stored == plain / sum(step.report.stored_bits for step in own)
        assert saving.ideal == plain / sum(step.report.ideal_bits for step in own)


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
    trainer = Trainer(LmSettings(cell=cell, **{**LM_SMALL, **NO_DROPOUT}), shares)
    parameters = trainer.parameters()
    trainer.set_parameters(parameters | {"embedding": 0 * parameters["embedding"]})
    ids = streams(corpus.valid, 4)
    assert np.isclose(trainer.evaluate(ids), -shares[ids[1:]].mean(), rtol=1e-5)


def test_training_learns(data: Path) -> None:
    corpus = corpora.load(str(data))
    settings = LmSettings(**{**LM_SMALL, **NO_DROPOUT, "learning_rate": 0.02})
    trainer = Trainer(settings, corpus.log_frequencies())
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


@pytest.mark.parametrize("cell", ["revlstm", "float_revlstm", "revgru", "gru"])
def test_biases_begin_where_the_modules_have_them(cell: str) -> None:
    settings = LmSettings(cell=cell, **{**LM_SMALL, "hidden_size": 200})
    values = Trainer(settings, FREQUENCIES).parameters()
    biases = [v for n, v in values.items() if n.startswith("rnn.") and "bias" in n]
    spans = [np.abs(bias).max() for bias in biases]
    if cell.endswith("revlstm"):
        module = RevLSTM(6, 200)
        near = values["rnn.bias_l0"] - dict(module.named_parameters())["bias_l0"].detach().numpy()
        assert np.abs(near).max() <= 2 * 200**-0.5
        assert max(spans) > 0.9
    else:
        assert max(spans) <= 200**-0.5
