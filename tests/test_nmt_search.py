"""Greedy search and beam search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_cases import NMT_WORDS, small, some_pairs, write_pairs
from revrnn import Config
from revrnn.experiments.__main__ import main
from revrnn.experiments.nmt.batches import make_batch
from revrnn.experiments.nmt.corpus import BEGIN, END, as_text, load
from revrnn.experiments.nmt.search import beam, greedy
from revrnn.experiments.nmt.trainer import Trainer
from revrnn.experiments.nmt.translate import translate


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with pairs of sentences."""
    return write_pairs(tmp_path / "data")


class Table:
    """A model that knows the next word's probabilities from the last word alone."""

    def __init__(self, seed: int) -> None:
        scores = np.random.default_rng(seed).normal(0, 2, (NMT_WORDS, NMT_WORDS)).astype(np.float32)
        self.scores = scores - np.log(np.exp(scores).sum(1, keepdims=True))

    def step(self, state: Any, words: Any) -> tuple[Any, Any]:
        assert len(state) == len(words)
        return self.scores[words] + 0.0 * state[:, None], state

    def select(self, state: Any, rows: Any) -> Any:
        return state[rows]

    def best(self, longest: int) -> tuple[float, list[int]]:
        """Return the most probable sentence, by looking at all of them."""
        sentences: list[tuple[float, list[int]]] = []
        begun: list[tuple[float, list[int]]] = [(0.0, [])]
        for _ in range(longest):
            after = []
            for total, words in begun:
                row = self.scores[words[-1] if words else BEGIN]
                sentences.append((total + float(row[END]), words))
                after += [(total + float(row[w]), [*words, w]) for w in range(4, NMT_WORDS)]
            begun = after
        return max(sentences + begun)


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
            return np.log(np.eye(NMT_WORDS, dtype=np.float32)[list(next(self.said))] + 0.01), state

        def select(self, state: Any, rows: Any) -> Any:
            return state

    assert greedy(Script(), None, 2, 5) == [[4], [7, 8, 9]]


@pytest.mark.parametrize("cell", ["revlstm", "revgru", "lstm", "gru"])
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_all_of_a_search_state_is_selected(framework: str, cell: str) -> None:
    """Every array of the state, before the first step and after it, follows its row."""
    if framework == "torch":
        trainer: Any = Trainer(small(cell=cell), NMT_WORDS, NMT_WORDS)
    else:
        trainer = Trainer(small(cell=cell, framework="jax"), NMT_WORDS, NMT_WORDS)
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
    trainer = Trainer(settings, NMT_WORDS, NMT_WORDS)
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


def test_translations_keep_their_order(data: Path) -> None:
    settings = small(data=str(data))
    corpus = load(settings)
    trainer = Trainer(settings, len(corpus.source), len(corpus.target))
    trainer.set_parameters({n: 4 * v for n, v in trainer.parameters().items()})
    texts = translate(trainer, settings, corpus.test, corpus.target, 1)
    for pair, text in zip(corpus.test, texts, strict=True):
        alone = greedy(*trainer.stepper(make_batch([pair])), 1, settings.max_length)
        assert text == as_text(corpus.target, alone[0])


@pytest.mark.parametrize("power", ["10.5", "1e30", "nan"])
def test_a_power_of_lengths_that_no_float_holds(
    power: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["nmt", "--out", str(out), "--length-penalty", power]) == 2
    assert "] length_penalty: got" in capsys.readouterr().out
    assert not out.exists()
