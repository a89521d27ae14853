"""Small language models, small translation models, and texts for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from options import as_options
from revrnn.experiments.lm.trainer import Trainer as LmTrainer
from revrnn.experiments.nmt.corpus import Pair
from revrnn.experiments.nmt.settings import NmtSettings
from revrnn.experiments.runs import RunFolder

LM_WORDS, NMT_WORDS = 23, 12
FREQUENCIES = np.log(np.linspace(1, 2, LM_WORDS) / (1.5 * LM_WORDS)).astype(np.float32)
LM_SMALL: dict[str, Any] = {
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
NMT_SMALL: dict[str, Any] = {
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

# Of runs of either experiment in a sweep.
SIZES = [
    "--embedding-size=6",
    "--hidden-size=8",
    "--batch-size=4",
    "--epochs=1",
    "--log-every=2",
    "--no-measure-memory",
]


class CutError(Exception):
    """What stops a run in a test."""


def stop(
    monkeypatch: pytest.MonkeyPatch, trainer: type[Any], at: dict[int, type[BaseException]]
) -> list[int]:
    """Have updates of these numbers, from 1, raise; the list returned has all that have begun."""
    step, begun = trainer.step, list[int]()

    def stopping(self: Any, *given: Any) -> Any:
        begun.append(len(begun) + 1)
        if begun[-1] in at:
            raise at[begun[-1]]
        return step(self, *given)

    monkeypatch.setattr(trainer, "step", stopping)
    return begun


def check_alike(a: Path, b: Path, events: tuple[str, ...]) -> None:
    """See that two runs ended with the same bits, metrics, summary and files, times left out."""
    ends = [RunFolder(folder).load("last") for folder in (a, b)]
    ours, theirs = (end[0] for end in ends if end is not None)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name]), name
        assert value.dtype == theirs[name].dtype
    records = [[r for e in events for r in RunFolder(folder).records(e)] for folder in (a, b)]
    summaries = [RunFolder(folder).summary for folder in (a, b)]
    for one, other in [*zip(*records, strict=True), summaries]:
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())


def write_text(folder: Path) -> Path:
    """Write a small text, in which a word says what comes next."""
    generator = np.random.default_rng(0)
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
    ids = np.random.default_rng(seed).integers(0, LM_WORDS, (steps + 1, rows)).astype(np.int32)
    return ids[:-1], ids[1:]


def dropout_of(trainer: LmTrainer, seed: int) -> Any:
    """Return what drops in one sequence."""
    import jax

    if trainer.settings.framework == "torch":
        return trainer.framework.Dropout(seed)
    return trainer.framework.Dropout(jax.random.key(seed))


def small(**more: Any) -> NmtSettings:
    """Return settings of a small translation model without dropout."""
    return NmtSettings(**{**NMT_SMALL, "dropout": 0.0, **more})


def some_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Return sentences of 2 … 6 words, to be copied."""
    generator = np.random.default_rng(seed)
    sentences = [
        tuple(generator.integers(4, NMT_WORDS, generator.integers(2, 7))) for _ in range(count)
    ]
    return [Pair(tuple(map(int, words)), tuple(map(int, words))) for words in sentences]


def write_pairs(folder: Path) -> Path:
    """Write sentences whose translation is the same, letters upper case."""
    folder.mkdir()
    for number, (part, size) in enumerate((("train", 27), ("val", 6), ("test", 5))):
        lines = [" ".join(chr(93 + n) for n in p.source) for p in some_pairs(size, number)]
        for language, text in (("en", "\n".join(lines)), ("de", "\n".join(lines).upper())):
            (folder / f"{part}.{language}").write_text(text + "\n", encoding="utf-8")
    return folder


def nmt_options(data: Path, **more: Any) -> list[str]:
    """Return the words of a command line."""
    return ["nmt", "--data", str(data), *as_options({**NMT_SMALL, **more})]


def write_both(folder: Path) -> Path:
    """Write sentences, and their translations: the same, letters upper case."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for part, size in (("train", 40), ("val", 12), ("test", 12)):
        lines = [" ".join("abcdefgh"[i] for i in generator.integers(0, 8, 5)) for _ in range(size)]
        text = "\n".join([*lines, "<unk>"]) + "\n"
        for name, content in ((f"{part}.en", text), (f"{part}.de", text.upper())):
            (folder / name).write_text(content, encoding="utf-8")
        name = "valid" if part == "val" else part
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder
