"""Figures are drawn from results that are there, the same each time, and from nothing else."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiment_cases import FREQUENCIES, LM_SMALL, NO_DROPOUT, segments, write_text
from folders import ROOT
from options import as_options
from revrnn.experiments import figures
from revrnn.experiments.__main__ import main
from revrnn.experiments.figure_style import LOOKS, STYLE, error_bars
from revrnn.experiments.forgetting import forgotten
from revrnn.experiments.lm.settings import LmSettings
from revrnn.experiments.lm.trainer import Trainer
from revrnn.experiments.nmt.figures import draw_contexts, draw_memory


def spread(*values: float) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": deviation, "values": list(values)}


def language_model(cell: str, limit: int | None, loss: float) -> dict[str, Any]:
    saved = [{"layout": "stream", "stored": spread(10.0, 11.0)}] if cell[:3] == "rev" else []
    config = {"cell": cell, "hidden_size": 8, "max_forget_bits": limit, "carry_state": True}
    return {
        "name": cell,
        "config": config,
        "test_perplexity": spread(loss, loss + 1),
        "savings": saved,
    }


def translation(cell: str, context: str, stored: float = 8.0) -> dict[str, Any]:
    saved = [
        {
            "part": part,
            "layout": "stream",
            "stored": spread(stored, stored + 1),
            "with_context": spread(stored / 8),
        }
        for part in ("encoder", "decoder")
    ]
    return {
        "name": f"{cell}-{context.replace('+', '-')}",
        "config": {"cell": cell, "context": context},
        "bleu_beam": spread(30.0, 31.0),
        "test_perplexity": spread(5.0, 5.5),
        "savings": saved if cell[:3] == "rev" else [],
    }


RESULTS: dict[str, Any] = {
    "lm-x": {
        "models": [
            language_model("gru", 3, 90.0),
            language_model("revgru", 3, 91.0),
            language_model("revgru", None, 92.0),
        ]
    },
    "nmt-x": {"models": [translation(c, s) for c in LOOKS for s in ("full", "emb+20h")]},
    "steps": {"models": {cell: {"8": 1000, "16": 2000} for cell in LOOKS}},
    "repeat": {
        "results": {
            "networks": [
                {"variant": v, "hidden_size": 8, "accuracy_trained": 0.5}
                for v in ("gru", "lstm", "revgru", "revlstm", "revgru-keeping", "revlstm-keeping")
            ]
        }
    },
    "forgetting": {"words": ["a", "b"], "bits": [[0.1, 2.0], [1.0, 0.0]], "mean_by_word": [1, 2]},
}


def test_each_result_has_its_figure(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for name, content in RESULTS.items():
        (results / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    written = figures.draw_all(results, tmp_path / "a")
    names = {
        f"{stem}-{name}" for stem in RESULTS for name, _ in figures.FIGURES[stem.split("-")[0]]
    }
    assert {path.stem for path in written} == names
    assert len(written) == 2 * len(names)
    assert all(path.stat().st_size > 1000 for path in written)
    again = figures.draw_all(results, tmp_path / "b")
    for one, two in zip(written, again, strict=True):
        if one.suffix == ".svg":
            assert one.read_bytes() == two.read_bytes()


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    """Neither without a file, nor of another experiment, nor without a reversible model."""
    assert figures.main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    (tmp_path / "speed.json").write_text("{}", encoding="utf-8")
    only = {"models": [language_model("gru", 3, 90.0)]}
    (tmp_path / "lm-only.json").write_text(json.dumps(only), encoding="utf-8")
    (tmp_path / "nmt-none.json").write_text(json.dumps({"models": []}), encoding="utf-8")
    assert figures.draw_all(tmp_path, tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "draw"), [("lm-x", figures.draw_language_models), ("nmt-x", draw_memory)]
)
def test_savings_have_the_same_scales_side_by_side(name: str, draw: Any) -> None:
    with mpl.rc_context(STYLE):
        figure = draw(RESULTS[name])
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    plt.close(figure)


def test_one_seed_has_no_spread() -> None:
    assert math.isnan(error_bars(spread(1.0)))
    assert error_bars(spread(1.0, 1.0)) == 0


def test_contexts_are_compared_under_the_same_limits() -> None:
    """A model that differs in its limit too is in no bar of a context."""
    limited = translation("revgru", "emb+20h", stored=50.0) | {"name": "revgru-5-bits"}
    models = [*RESULTS["nmt-x"]["models"], limited]
    drawn = []
    for own in (models[:-1], models):
        with mpl.rc_context(STYLE):
            pair = [draw({"models": own}) for draw in (draw_contexts, draw_memory)]
        drawn.append([str(axis.dataLim) for figure in pair for axis in figure.axes])
        for figure in pair:
            plt.close(figure)
    assert drawn[0] == drawn[1]


def test_figures_read_in_grey() -> None:
    """Each cell has its own marker, its own line, and its own shade."""
    looks = list(LOOKS.values())
    for part in (1, 2):
        assert len({look[part] for look in looks}) == len(looks)
    shades = sorted(
        0.2126 * r + 0.7152 * g + 0.0722 * b
        for r, g, b in (mpl.colors.to_rgb(look[0]) for look in looks)
    )
    assert min(np.diff(shades)) > 0.02


def test_committed_figures_have_their_results() -> None:
    images = {path.stem for path in (ROOT / "docs" / "images").glob("*.svg")}
    expected = {
        f"{path.stem}-{name}"
        for path in (ROOT / "docs" / "results").glob("*.json")
        for name, _ in figures.FIGURES.get(path.stem.partition("-")[0], ())
    }
    assert images == expected


@pytest.mark.parametrize("limit", [1, 3, None])
def test_forgotten_bits_are_those_that_are_counted(limit: int | None) -> None:
    """Unit by unit they add up to what the account says of the same text."""
    settings = LmSettings(**{**LM_SMALL, **NO_DROPOUT, "max_forget_bits": limit})
    trainer = Trainer(settings, FREQUENCIES)
    larger = {name: 3 * value for name, value in trainer.parameters().items()}
    trainer.set_parameters(larger)
    tokens, targets = segments(0, steps=30, rows=1)

    account = partial(trainer.model.gradients, report=True)
    state = trainer.model.stack.fresh(1)
    segment = trainer.segment(tokens, targets, 30)
    report = trainer.training.gradients(account, state, segment)[1].report
    bits = forgotten(settings.config(), larger, tokens[:, 0])
    assert bits.shape == (30, 8)
    assert bits.sum() == pytest.approx(report.ideal_bits, rel=0.01)


def test_forgetting_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run, out = write_text(tmp_path / "data"), tmp_path / "run", tmp_path / "forgetting.json"
    words = ["lm", "--data", str(data), *as_options({**LM_SMALL, "epochs": 1}), "--out", str(run)]
    assert main(words) == 0
    asked = ["forgetting", "--run", str(run), "--out", str(out), "--words", "6"]
    assert main(asked) == 0
    content = json.loads(out.read_text(encoding="utf-8"))
    text = (data / "test.txt").read_text(encoding="utf-8").split()
    assert content["words"] == text[:6]
    assert np.array(content["bits"]).shape == (6, 8)
    assert main([*asked, "--first", "100000"]) == 2
    assert "first: got" in capsys.readouterr().out
    assert main(["forgetting", "--run", str(tmp_path), "--out", str(out)]) == 2
