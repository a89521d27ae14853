"""Texts and settings of language models."""

from __future__ import annotations

import dataclasses
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_cases import FREQUENCIES, LM_SMALL, LM_WORDS, write_text
from revrnn import RevRNNError
from revrnn.experiments.__main__ import main
from revrnn.experiments.lm import corpus as corpora
from revrnn.experiments.lm.segments import lengths, longest, streams
from revrnn.experiments.lm.settings import CELLS, LmSettings
from revrnn.experiments.lm.sizes import all_parameters, matched
from revrnn.experiments.lm.trainer import Trainer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with a small text."""
    return write_text(tmp_path / "data")


def test_corpora(tmp_path: Path, data: Path) -> None:
    corpus = corpora.load(str(data))
    assert corpus.vocabulary.words[0] in ("<eos>", "w0", "w1", "w2", "w3", "w4", "w5")
    text = (data / "valid.txt").read_text(encoding="utf-8").replace("\n", " <eos> ").split()
    assert [corpus.vocabulary.words[i] for i in corpus.valid] == text
    packed = tmp_path / "packed"
    packed.mkdir()
    for part in ("train", "valid", "test"):
        content = (data / f"{part}.txt").read_bytes()
        with lzma.open(packed / f"wiki.{part}.tokens.xz", "wb") as file:
            file.write(content)
    again = corpora.load(str(packed))
    assert again.vocabulary == corpus.vocabulary
    assert np.array_equal(again.train, corpus.train)
    own = corpora.load("builtin")
    assert len(own.train) > 50_000
    assert min(len(own.valid), len(own.test)) > 5_000
    assert own.train.max() == len(own.vocabulary) - 1
    (data / "test.txt").write_text("never seen\n", encoding="utf-8")
    assert corpora.load(str(data)).test[0] == corpus.vocabulary.number("<unk>")


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
    columns = streams(ids, 4)
    assert columns.shape == (5, 4)
    assert columns[:, 1].tolist() == [5, 6, 7, 8, 9]
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
    settings = LmSettings(cell=cell, **{**LM_SMALL, **more})
    count = sum(v.size for v in Trainer(settings, FREQUENCIES).parameters().values())
    if cell in ("gru", "lstm"):  # two biases a gate
        gates = {"gru": 3, "lstm": 4}[cell]
        count -= gates * settings.hidden_size * settings.num_layers
    assert all_parameters(settings, LM_WORDS) == count
    wide = dataclasses.replace(settings, hidden_size=60)
    like = matched(dataclasses.replace(wide, match="revgru"), LM_WORDS)
    wanted = all_parameters(dataclasses.replace(wide, cell="revgru"), LM_WORDS)
    assert abs(all_parameters(like, LM_WORDS) - wanted) <= 0.05 * wanted


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
