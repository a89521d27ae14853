"""The translation experiment: data, models, searches, and runs that were cut and go on."""

from __future__ import annotations

import dataclasses
import json
import lzma
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from options import as_options
from revrnn import Config, RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.nmt.attention import Attention
from revrnn.experiments.nmt.batches import evaluation_order, make_batch, training_order
from revrnn.experiments.nmt.bleu import score
from revrnn.experiments.nmt.context import Context
from revrnn.experiments.nmt.corpus import BEGIN, END, UNK, Pair, as_text, load
from revrnn.experiments.nmt.jax_trainer import JaxTrainer
from revrnn.experiments.nmt.memory import measure
from revrnn.experiments.nmt.savings import savings
from revrnn.experiments.nmt.search import beam, greedy
from revrnn.experiments.nmt.settings import NmtSettings
from revrnn.experiments.nmt.torch_model import Tensors, TorchModel
from revrnn.experiments.nmt.torch_trainer import TorchTrainer
from revrnn.experiments.nmt.train import mean_loss
from revrnn.experiments.nmt.translate import translate
from revrnn.experiments.runs import RunFolder

WORDS = 12
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "embedding_size": 6,
    "hidden_size": 8,
    "context": "emb+2h",
    "batch_size": 4,
    "encoder_max_forget_bits": 2,
    "log_every": 3,
    "checkpoint_every": 4,
    "epochs": 2,
    "beam": 2,
    "max_length": 8,
    "least_count": 1,
    "measure_memory": False,
}
CONTEXTS = ("full", "emb", "2h", "emb+2h", "emb+full")


def small(**more: Any) -> NmtSettings:
    """Return settings of a small model without dropout."""
    return NmtSettings(**{**SMALL, "dropout": 0.0, **more})


def some_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return sentences of 2 … 6 words, to be copied."""
    generator = np.random.default_rng(seed)
    found = [tuple(generator.integers(4, WORDS, generator.integers(2, 7))) for _ in range(count)]
    return [Pair(tuple(map(int, words)), tuple(map(int, words))) for words in found]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with sentences whose translation is the same, letters upper case."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, (part, size) in enumerate((("train", 27), ("val", 6), ("test", 5))):
        lines = [" ".join(chr(93 + n) for n in p.source) for p in some_pairs(size, number)]
        for language, text in (("en", "\n".join(lines)), ("de", "\n".join(lines).upper())):
            (folder / f"{part}.{language}").write_text(text + "\n", encoding="utf-8")
    return folder


def options(data: Path, **more: Any) -> list[str]:
    """Return the words of a command line."""
    return ["nmt", "--data", str(data), *as_options({**SMALL, **more})]


# --- data ----------------------------------------------------------------------------------------


def test_corpora(data: Path, tmp_path: Path) -> None:
    found = load(small(data=str(data)))
    assert (found.source.words[END], found.target.words[UNK]) == ("</s>", "<unk>")
    assert (len(found.train), len(found.valid), len(found.test)) == (27, 6, 5)
    lines = (data / "test.de").read_text(encoding="utf-8").splitlines()
    assert found.references == lines
    assert [as_text(found.target, list(pair.target)) for pair in found.test] == lines
    packed = tmp_path / "packed"
    packed.mkdir()
    names = {"train": "train", "val": "dev", "test": "test_2016_flickr"}
    for path in data.iterdir():
        name = f"{names[path.stem]}{path.suffix}.xz"
        (packed / name).write_bytes(lzma.compress(path.read_bytes()))
    assert load(small(data=str(packed))) == found
    short = load(small(data=str(data), max_length=4))
    assert short.left_out == sum(len(pair.source) > 4 for pair in found.train)
    assert short.test == found.test
    rare = load(small(data=str(data), least_count=1000))
    assert {n for pair in rare.test for n in pair.source} == {UNK}
    back = load(small(data=str(data), source="de", target="en"))
    assert back.source == found.target


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("", None, "multi30k/dataset"),
        ("val.de", None, "dev.de"),
        ("val.de", b"A\nB\n", "val.de: 2 lines"),
        ("val.de", b"A\n\nB\nC\nD\nE\n", "val.de, line 2"),
        ("train.en", b"a\nb </s>\n", "train.en, line 2: </s>"),
        ("test.en", b"\xff\xfe\x00", "UTF-8"),
        ("test.en", b"\n\n", "not empty"),
    ],
)
def test_bad_data_is_told_before_anything_is_made(
    file: str, content: bytes | None, told: str, data: Path, tmp_path: Path
) -> None:
    where = data if file else tmp_path / "elsewhere"
    if content is not None:
        (data / file).write_bytes(content)
    elif file:
        (data / file).unlink()
    with pytest.raises(RevRNNError) as caught:
        load(small(data=str(where)))
    assert caught.value.argument == "data"
    assert told in str(caught.value)
    assert main([*options(where), "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(RevRNNError, match="multi30k"):
        load(small())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("context", "emb+9h"),
        ("context", "hidden"),
        ("context", "emb+emb"),
        ("context", ""),
        ("context", "0h"),
        ("cell", "rnn"),
        ("dropout", 1.0),
        ("beam", 0),
        ("target", "en"),
        ("learning_rate", 0.0),
        ("seed", -1),
        ("length_penalty", -1.0),
    ],
)
def test_bad_settings_are_told(argument: str, value: Any) -> None:
    with pytest.raises(RevRNNError) as caught:
        small(**{argument: value})
    assert caught.value.argument == argument
    with pytest.raises(RevRNNError, match="max_forget_bits"):
        small(encoder_max_forget_bits=11)
    with pytest.raises(RevRNNError, match="hidden_size"):
        small(hidden_size=7)


def test_contexts_are_read() -> None:
    assert Context.parse("Full") == Context(False, None)
    assert Context.parse("Emb") == Context(True, 0)
    assert Context.parse("100H") == Context(False, 100)
    assert Context.parse("20h+emb") == Context(True, 20)
    assert small(context="emb+full").context_sizes() == [6, 8]
    assert small(context="emb").context_sizes() == [6]
    assert small(cell="gru", context="8h").context_sizes() == [8]


def test_batches() -> None:
    pairs = [Pair((4, 5, 6), (7,)), Pair((8,), (9, 10))]
    batch = make_batch(pairs)
    assert batch.source.T.tolist() == [[4, 5, 6], [8, 0, 0]]
    assert batch.source_mask.T.tolist() == [[True] * 3, [True, False, False]]
    assert batch.inputs.T.tolist() == [[BEGIN, 7, 0], [BEGIN, 9, 10]]
    assert batch.targets.T.tolist() == [[7, END, 0], [9, 10, END]]
    assert batch.words == 5
    wide = batch.padded(4, 3)
    assert wide.source.shape == wide.targets.shape == (4, 3)
    assert wide.words == 5
    many = some_pairs(50)
    first, again, other = (training_order(many, 8, 3, epoch) for epoch in (0, 0, 1))
    assert sorted(np.concatenate(first)) == list(range(50))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    lengths = [[len(many[i].source) for i in numbers] for numbers in first]
    assert np.mean([max(each) - min(each) for each in lengths]) < 1.5
    assert sorted(np.concatenate(evaluation_order(many, 8))) == list(range(50))


# --- models --------------------------------------------------------------------------------------


def gradients(model: TorchModel) -> dict[str, torch.Tensor]:
    """Return the gradients, which every parameter must have."""
    found = {}
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        found[name] = value.grad.clone()
        value.grad = None
    return found


def by_autograd(model: TorchModel, batch: Tensors) -> torch.Tensor:
    """Do what the model's ``backward`` does, through the modules' calls, without streaming."""
    x = model.embed_source(batch.source)
    outputs, final = model.encoder(x, mask=batch.source_mask)
    seen = model.settings.attended
    parts = [x] if seen.embeddings else []
    if seen.units != 0:
        parts.append(outputs[:, :, : seen.units])
    outputs, _ = model.decoder(model.embed_target(batch.inputs), final, mask=batch.target_mask)
    total = model.loss(outputs, batch.targets, parts, batch.source_mask)
    mean = total / batch.target_mask.sum()
    mean.backward()  # type: ignore[no-untyped-call]
    return mean.detach()


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_gradients_by_reversal_are_those_of_the_whole_model(cell: str, context: str) -> None:
    settings = small(cell=cell, context=context, chunk_size=3, num_layers=2)
    model = TorchTrainer(settings, WORDS, WORDS).model
    batch = Tensors.of(make_batch(some_pairs(4)), CPU)
    loss, _ = model.backward(batch)
    found = gradients(model)
    assert torch.isclose(loss, by_autograd(model, batch), rtol=1e-6)
    for name, wanted in gradients(model).items():
        worst = (found[name] - wanted).abs().max()
        assert worst <= 1e-5 * wanted.abs().max() + 1e-9, name
    assert np.isclose(model.measure(batch) / int(batch.target_mask.sum()), float(loss), rtol=1e-5)


@pytest.mark.parametrize("cell", ["revlstm", "lstm"])
def test_padding_counts_nothing(cell: str) -> None:
    """Two sentences of unequal length together are the two alone: loss, gradient, translation."""
    settings = small(cell=cell, context="full", max_length=5)
    trainer = TorchTrainer(settings, WORDS, WORDS)
    pairs = [Pair((4, 5, 6, 7, 8), (9, 10)), Pair((8,), (9, 10, 11, 4))]
    both, alone = make_batch(pairs), [make_batch([pair]) for pair in pairs]
    assert np.isclose(trainer.evaluate(both), sum(map(trainer.evaluate, alone)), rtol=1e-5)
    trainer.model.train()
    trainer.model.backward(Tensors.of(both, CPU))
    found, wanted = gradients(trainer.model), []
    for batch in alone:
        trainer.model.backward(Tensors.of(batch, CPU))
        own = gradients(trainer.model)
        wanted.append({name: g * (batch.words / both.words) for name, g in own.items()})
    for name, value in found.items():
        assert torch.allclose(value, wanted[0][name] + wanted[1][name], atol=1e-6), name
    stepper, state = trainer.stepper(both)
    sentences = greedy(stepper, state, 2, 5)
    for batch, sentence in zip(alone, sentences, strict=True):
        assert greedy(*trainer.stepper(batch), 1, 5) == [sentence]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("cell", ["revgru", "gru"])
def test_shapes_of_contexts(cell: str, context: str) -> None:
    model = TorchTrainer(small(cell=cell, context=context), WORDS, WORDS).model
    batch = Tensors.of(make_batch(some_pairs(3)), CPU)
    encoded = model.encode(batch.source, batch.source_mask)
    steps = len(batch.source)
    assert [list(part.shape) for part in encoded.parts] == [
        [steps, 3, size] for size in model.settings.context_sizes()
    ]
    assert encoded.final.shape == (1, 3, 8)


def test_attention_is_what_it_should_be() -> None:
    torch.manual_seed(0)
    attention = Attention(3, [2, 4])
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    outputs, parts = torch.randn(2, 2, 3), [torch.randn(5, 2, 2), torch.randn(5, 2, 4)]
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]]).T
    found, context = attention(outputs, parts, mask), torch.cat(parts, 2)
    for row, length in ((0, 5), (1, 3)):
        for step in range(2):
            h, s = outputs[step, row], context[:length, row]
            weights = torch.exp(s @ attention.score @ h)
            seen = (weights / weights.sum()) @ s
            wanted = torch.tanh(attention.combine @ torch.cat([seen, h]))
            assert torch.allclose(found[step, row], wanted, atol=1e-5)
    weights = attention.weights(outputs, parts, mask)
    assert torch.allclose(weights.sum(2), torch.ones(2, 2))
    assert bool((weights[1, :, 3:] == 0).all())


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["revgru", "lstm"])
def test_training_learns_to_copy(cell: str) -> None:
    settings = small(
        cell=cell,
        embedding_size=16,
        hidden_size=32,
        context="emb+8h",
        batch_size=32,
        learning_rate=0.02,
        clip=1.0,
        max_length=10,
    )
    trainer = TorchTrainer(settings, WORDS, WORDS)
    pairs, update = some_pairs(320), 0
    before = mean_loss(trainer, pairs[:64], 32)
    for epoch in range(8):
        for numbers in training_order(pairs, 32, 0, epoch):
            trainer.step(make_batch([pairs[i] for i in numbers]), update, 0.02)
            update += 1
    assert before > 2.3
    assert mean_loss(trainer, pairs[:64], 32) < 0.4 * before


# --- searches ------------------------------------------------------------------------------------


class Table:
    """A model that knows the next word's probabilities from the last word alone."""

    def __init__(self, seed: int) -> None:
        scores = np.random.default_rng(seed).normal(0, 2, (WORDS, WORDS)).astype(np.float32)
        self.scores = scores - np.log(np.exp(scores).sum(1, keepdims=True))

    def step(self, state: Any, words: Any) -> tuple[Any, Any]:
        assert len(state) == len(words)
        return self.scores[words] + 0.0 * state[:, None], state

    def select(self, state: Any, rows: Any) -> Any:
        return state[rows]

    def best(self, longest: int) -> tuple[float, list[int]]:
        """Return the most probable sentence, by looking at all of them."""
        found: list[tuple[float, list[int]]] = []
        begun: list[tuple[float, list[int]]] = [(0.0, [])]
        for _ in range(longest):
            after = []
            for total, words in begun:
                row = self.scores[words[-1] if words else BEGIN]
                found.append((total + float(row[END]), words))
                after += [(total + float(row[w]), [*words, w]) for w in range(4, WORDS)]
            begun = after
        return max(found + begun)


@pytest.mark.parametrize("seed", range(4))
def test_searches(seed: int) -> None:
    table, state = Table(seed), np.zeros(3)
    sentences = greedy(table, state, 3, 6)
    assert sentences == beam(table, state, 3, 6, 1, 0.0) == beam(table, state, 3, 6, 1, 1.0)
    assert all(len(s) <= 6 and min(s, default=4) >= 4 for s in sentences)
    wide = beam(table, state, 2, 3, 600, 0.0)
    assert wide == [table.best(3)[1]] * 2


def test_greedy_ends_at_the_first_end() -> None:
    """One sentence ends before the other; what the model says after its end is not heard."""
    first, second = [4, END, 5, 6, END], [7, 8, 9, END, 4]

    class Script:
        def __init__(self) -> None:
            self.said = zip(first, second, strict=True)

        def step(self, state: Any, words: Any) -> tuple[Any, Any]:
            return np.log(np.eye(WORDS, dtype=np.float32)[list(next(self.said))] + 0.01), state

        def select(self, state: Any, rows: Any) -> Any:
            return state

    assert greedy(Script(), None, 2, 5) == [[4], [7, 8, 9]]


@pytest.mark.parametrize("cell", ["revlstm", "revgru", "lstm", "gru"])
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_all_of_a_search_state_is_selected(framework: str, cell: str) -> None:
    """Every array of the state, before the first step and after it, follows its row."""
    if framework == "torch":
        trainer: Any = TorchTrainer(small(cell=cell), WORDS, WORDS)
    else:
        trainer = JaxTrainer(small(cell=cell, framework="jax"), WORDS, WORDS)
    stepper, state = trainer.stepper(make_batch(some_pairs(4, 3)))
    rows = np.array([2, 0, 0, 3, 1])
    for begun in (False, True):
        if begun:
            _, state = stepper.step(state, np.array([4, 5, 6, 7], np.int32))
        before, after = arrays_of(state), arrays_of(stepper.select(state, rows))
        heads = begun and cell.startswith("rev")
        assert len(before) == len(after) >= (4 if cell.endswith("gru") else 5) + heads
        for old, new in zip(before, after, strict=True):
            axis = old.shape.index(4)
            assert np.array_equal(new, old.take(rows, axis))


def arrays_of(state: Any) -> list[Any]:
    """Return all arrays of a state of a search, rows on their only axis of length 4."""
    if state is None or isinstance(state, Config):
        return []
    if hasattr(state, "shape"):
        return [np.array(state.tolist())]
    parts = state if isinstance(state, (list, tuple)) else vars(state).values()
    return [array for part in parts for array in arrays_of(part)]


@pytest.mark.parametrize("cell", ["revlstm", "gru"])
def test_a_beam_of_one_is_greedy(cell: str) -> None:
    """Also the model's states are carried to the right rows: a row is what it is alone."""
    settings = small(cell=cell, seed=5)
    trainer = TorchTrainer(settings, WORDS, WORDS)
    larger = {n: 4 * v for n, v in trainer.parameters().items()}
    trainer.set_parameters(larger)
    pairs = some_pairs(5, 7)
    batch = make_batch(pairs)
    stepper, state = trainer.stepper(batch)
    sentences = greedy(stepper, state, 5, 8)
    assert sentences == beam(stepper, state, 5, 8, 1, 1.0)
    assert len({tuple(s) for s in sentences}) > 1
    together = beam(stepper, state, 5, 8, 3, 1.0)
    alone = [beam(*trainer.stepper(make_batch([pair])), 1, 8, 3, 1.0)[0] for pair in pairs]
    assert together == alone


def test_bleu() -> None:
    text = ["ein mann fährt auf einem rad .", "zwei hunde laufen über eine wiese ."]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isclose(score(text, text).bleu, 100)
    found = score(["", "zwei hunde laufen ."], text)
    assert 0 < found.bleu < 50
    assert "tok:none" in found.signature


# --- frameworks ----------------------------------------------------------------------------------


def test_frameworks_agree() -> None:
    """Loss and translation are equal from the same parameters, but for rounding.

    JAX fills the batch up with steps and with a row; there is no trace of them.
    """
    settings = small(cell="revgru", context="emb+2h", max_length=6)
    first = TorchTrainer(settings, WORDS, WORDS)
    second = JaxTrainer(dataclasses.replace(settings, framework="jax"), WORDS, WORDS)
    assert first.parameters().keys() == second.parameters().keys()
    for name, value in first.parameters().items():
        assert np.array_equal(value, second.parameters()[name])
    batch = make_batch(some_pairs(3))
    losses = [trainer.step(batch, 0, 0.05) for trainer in (first, second)]
    assert np.isclose(losses[0], losses[1], rtol=1e-5)
    for name, value in first.parameters().items():
        # Adam's first step is ± the learning rate, wherever a gradient is not nearly 0.
        near = np.isclose(value, second.parameters()[name], atol=1e-3)
        assert near.mean() > 0.95, name
    second.set_parameters(first.parameters())
    found = [trainer.evaluate(batch) for trainer in (first, second)]
    assert np.isclose(found[0], found[1], rtol=1e-5)
    sentences = [greedy(*t.stepper(batch), 3, 6) for t in (first, second)]
    assert sentences[0] == sentences[1]


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "context"), [("revlstm", "2h"), ("gru", "full")])
def test_jax_goes_on_from_a_checkpoint(cell: str, context: str) -> None:
    """With dropout, which the update's number decides."""
    settings = small(framework="jax", cell=cell, context=context, dropout=0.4)
    whole, cut = (JaxTrainer(settings, WORDS, WORDS) for _ in range(2))
    batches = [make_batch(some_pairs(4, seed)) for seed in range(3)]
    cut.update = whole.update  # compiled once
    for number, batch in enumerate(batches):
        if number == 2:
            cut.restore(whole.arrays())
        loss = whole.step(batch, number, 0.01)
    assert cut.step(batches[2], 2, 0.01) == loss
    found, wanted = cut.arrays(), whole.arrays()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(value, found[name]), name


# --- runs ----------------------------------------------------------------------------------------


class CutError(Exception):
    """What stops a run in a test."""


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
    words = options(data, cell=cell, **more)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--out", str(whole)]) == 0
    step, calls = TorchTrainer.step, 0

    def stopping(self: Any, *given: Any) -> float:
        nonlocal calls
        calls += 1
        if calls in (3, 11):  # before the first checkpoint, and amid others
            raise KeyboardInterrupt if calls == 3 else CutError
        return step(self, *given)

    monkeypatch.setattr(TorchTrainer, "step", stopping)
    assert main([*words, "--out", str(cut)]) == 130
    with pytest.raises(CutError):
        main(["nmt", "--resume", "--out", str(cut)])
    assert main(["nmt", "--resume", "--out", str(cut)]) == 0
    ends = [RunFolder(folder).load("last") for folder in (whole, cut)]
    arrays = [end[0] for end in ends if end is not None]
    assert arrays[0].keys() == arrays[1].keys()
    assert any(name.startswith("optimiser/exp_avg_sq/") for name in arrays[0])
    for name, value in arrays[0].items():
        assert np.array_equal(value, arrays[1][name]), name
    records = [
        [r for e in ("train", "valid", "bits") for r in RunFolder(f).records(e)]
        for f in (whole, cut)
    ]
    assert len(records[0]) == 4 + 2 + (2 if cell.startswith("rev") else 0)
    for a, b in zip(*records, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    summaries = [json.loads((f / "summary.json").read_text()) for f in (whole, cut)]
    assert {**summaries[0], "seconds": 0} == {**summaries[1], "seconds": 0}
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in cut.iterdir())
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
                main([*options(data, cell="gru"), "--epochs", count, "--out", str(out), *more]) == 0
            )
        found = RunFolder(out).load("last")
        assert found is not None
        ends.append(found[0])
    for name, value in ends[0].items():
        assert np.array_equal(value, ends[1][name]), name


def test_translations_keep_their_order(data: Path) -> None:
    settings = small(data=str(data))
    corpus = load(settings)
    trainer = TorchTrainer(settings, len(corpus.source), len(corpus.target))
    trainer.set_parameters({n: 4 * v for n, v in trainer.parameters().items()})
    found = translate(trainer, settings, corpus.test, corpus.target, 1)
    for pair, text in zip(corpus.test, found, strict=True):
        alone = greedy(*trainer.stepper(make_batch([pair])), 1, settings.max_length)
        assert text == as_text(corpus.target, alone[0])


@pytest.mark.parametrize("context", ["emb+2h", "full"])
def test_savings_count_what_is_kept(context: str) -> None:
    settings = small(context=context)
    parameters = TorchTrainer(settings, WORDS, WORDS).parameters()
    batch = make_batch(some_pairs(6))
    wide = batch.padded(16, 8)
    encoder, decoder = savings(settings, parameters, [batch], "stream")
    steps = int(batch.source_mask.sum())
    assert encoder.plain_bits == 32 * 8 * steps
    assert decoder.plain_bits == 32 * 8 * batch.words
    slices = 32 * 2 * (steps + 6) if context == "emb+2h" else 0
    assert encoder.stored_bits >= slices + 32 * 4 * 6
    assert (encoder.stored_bits - slices - 32 * 4 * 6) % 16 == 0
    assert encoder.attended_bits == (32 * 8 * steps if context == "full" else 0)
    assert encoder.embedding_bits == (32 * 6 * steps if context == "emb+2h" else 0)
    assert decoder.attended_bits == decoder.embedding_bits == 0
    assert encoder.with_context < encoder.stored
    assert encoder.ideal is not None
    # Padding, of rows too, changes neither plain nor forgotten bits.
    for found, like in zip(
        savings(settings, parameters, [wide], "stream"), (encoder, decoder), strict=True
    ):
        assert found.plain_bits == like.plain_bits
        assert np.isclose(found.ideal_bits, like.ideal_bits, rtol=1e-6)
    other = savings(settings, parameters, [batch], "wordlist")
    assert other[0].stored_bits != encoder.stored_bits


@pytest.mark.slow
def test_memory_is_measured() -> None:
    found = measure(small(), WORDS, WORDS, make_batch(some_pairs(4)))
    if found is not None:  # the system may not tell
        assert found.bytes >= 0
        assert found.rows == 4
