"""Texts, settings and batches of translation."""

from __future__ import annotations

import lzma
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_cases import nmt_options, small, some_pairs, write_pairs
from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.nmt.batches import evaluation_order, make_batch, training_order
from revrnn.experiments.nmt.bleu import score
from revrnn.experiments.nmt.context import Context
from revrnn.experiments.nmt.corpus import BEGIN, END, UNK, Pair, as_text, load


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with pairs of sentences."""
    return write_pairs(tmp_path / "data")


def test_corpora(data: Path, tmp_path: Path) -> None:
    corpus = load(small(data=str(data)))
    assert (corpus.source.words[END], corpus.target.words[UNK]) == ("</s>", "<unk>")
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (27, 6, 5)
    lines = (data / "test.de").read_text(encoding="utf-8").splitlines()
    assert corpus.references == lines
    assert [as_text(corpus.target, list(pair.target)) for pair in corpus.test] == lines
    packed = tmp_path / "packed"
    packed.mkdir()
    names = {"train": "train", "val": "dev", "test": "test_2016_flickr"}
    for path in data.iterdir():
        name = f"{names[path.stem]}{path.suffix}.xz"
        (packed / name).write_bytes(lzma.compress(path.read_bytes()))
    assert load(small(data=str(packed))) == corpus
    short = load(small(data=str(data), max_length=4))
    assert short.left_out == sum(len(pair.source) > 4 for pair in corpus.train)
    assert short.test == corpus.test
    rare = load(small(data=str(data), least_count=1000))
    assert {n for pair in rare.test for n in pair.source} == {UNK}
    back = load(small(data=str(data), source="de", target="en"))
    assert back.source == corpus.target


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
    assert main([*nmt_options(where), "--out", str(tmp_path / "run")]) == 2
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
        ("beam", 1025),
        ("target", "en"),
        ("learning_rate", 0.0),
        ("seed", -1),
        ("length_penalty", -1.0),
        ("length_penalty", 1e30),
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


def test_bleu() -> None:
    text = ["ein mann fährt auf einem rad .", "zwei hunde laufen über eine wiese ."]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isclose(score(text, text).bleu, 100)
    counted = score(["", "zwei hunde laufen ."], text)
    assert 0 < counted.bleu < 50
    assert "tok:none" in counted.signature
