"""What cannot be is said by experiments in one line, and no folder is left behind."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rich")

from revrnn.experiments.__main__ import main
from revrnn.experiments.corpora import read_sentences
from revrnn.experiments.demo import options
from revrnn.experiments.figures import main as figures

SMALL = [
    "lm",
    "--hidden-size",
    "4",
    "--embedding-size",
    "4",
    "--batch-size",
    "2",
    "--steps",
    "5",
    "--epochs",
    "1",
    "--no-anneal",
    "--no-measure-memory",
]


def text(folder: Path, **parts: str) -> Path:
    """Write a corpus."""
    folder.mkdir()
    for part in ("train", "valid", "test"):
        given = parts.get(part, "the cat sat on a mat\n" * 20)
        (folder / f"{part}.txt").write_text(given, encoding="utf-8")
    return folder


Refused = tuple[list[str], str]
# Words after ``lm --data DATA --out OUT``, and what is named.
SETTINGS: dict[str, Refused] = {
    "rate without end": (["--learning-rate", "inf"], "learning_rate"),
    "rate that float32 does not hold": (["--learning-rate", "1e39"], "learning_rate"),
    "clip without end": (["--clip", "inf"], "clip"),
    "no decay": (["--weight-decay", "nan"], "weight_decay"),
    "seed below 0": (["--seed", "-1"], "seed"),
    "large seed": (["--seed", "9" * 20], "seed"),
    "streams": (["--batch-size", "1000"], "batch_size"),
    "units": (["--hidden-size", "7"], "hidden_size"),
    "more units than any machine has": (["--hidden-size", "9" * 12], "hidden_size"),
    "as many of a framework's": (["--hidden-size", "9" * 12, "--cell", "gru"], "hidden_size"),
    "features": (["--embedding-size", "9" * 12], "embedding_size"),
    "layers": (["--num-layers", "9" * 9], "num_layers"),
    "no words": (["--train-words", "0"], "train_words"),
    "more words than there are": (["--train-words", "1000"], "train_words"),
    "too few words": (["--train-words", "30"], "batch_size"),
}


def one_line(capsys: pytest.CaptureFixture[str], argument: str) -> None:
    lines = capsys.readouterr().out.splitlines()
    assert sum("allowed: " in line for line in lines) == 1
    assert f"] {argument}: got" in lines[-1]
    assert "allowed: " in lines[-1]


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, argument = SETTINGS[case]
    data, out = text(tmp_path / "data"), tmp_path / "out"
    assert main(["lm", "--data", str(data), "--out", str(out), *words]) == 2
    one_line(capsys, argument)
    assert not out.exists()


def test_a_framework_that_is_missing_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "revrnn.experiments.jax_framework", None)
    data, out = text(tmp_path / "data"), tmp_path / "out"
    with pytest.raises(ModuleNotFoundError):
        main([*SMALL, "--data", str(data), "--out", str(out), "--framework", "jax"])
    assert not out.exists()


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("content", ["", "\n \n", "a"])
def test_texts_too_short(
    part: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = text(tmp_path / "data", **{part: content}), tmp_path / "out"
    assert main([*SMALL, "--data", str(data), "--out", str(out)]) == 2
    # A training text of one word has none that the others could be taken for.
    one_line(capsys, "data")
    assert not out.exists()


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    data = text(tmp_path / "data", train="\ufeffthe cat\n")
    assert read_sentences(data / "train.txt") == [["the", "cat"]]


@pytest.mark.parametrize("where", ["file", "file/below", "x" * 300])
def test_folders_that_cannot_be(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = text(tmp_path / "data")
    (tmp_path / "file").write_text("taken")
    assert main([*SMALL, "--data", str(data), "--out", str(tmp_path / where)]) == 2
    assert "out: " in capsys.readouterr().out
    assert (tmp_path / "file").read_text() == "taken"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that has ended."""
    folder = tmp_path_factory.mktemp("run")
    data = text(folder / "data")
    assert main([*SMALL, "--data", str(data), "--out", str(folder / "out")]) == 0
    return folder / "out"


def _write(name: str, content: str) -> Callable[[Path], object]:
    return lambda out: (out / name).write_text(content, encoding="utf-8")


def _wider(out: Path) -> None:
    config = (out / "config.json").read_text(encoding="utf-8")
    (out / "config.json").write_text(config.replace('"hidden_size": 4', '"hidden_size": 6'))


def _cut(out: Path) -> None:
    path = out / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no JSON": _write("config.json", "{"),
    "a list": _write("config.json", "[]"),
    "another experiment": _write("config.json", '{"lag": 3}'),
    "text for a number": _write("config.json", '{"epochs": "x"}'),
    "wider": _wider,
    "no metrics": _write("metrics.jsonl", "{\n" * 400),
    "empty checkpoint": _write("last.safetensors", ""),
    "cut checkpoint": _cut,
    "another checkpoint": lambda out: shutil.copy(
        out / "best.safetensors", out / "last.safetensors"
    ),
    "empty best": _write("best.safetensors", ""),
    "no best": lambda out: (out / "best.safetensors").unlink(),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_runs_that_are_damaged(
    case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run, out)
    DAMAGES[case](out)
    assert main(["lm", "--resume", "--out", str(out)]) == 2
    one_line(capsys, "out")


@pytest.mark.parametrize("command", ["nmt", "memory"])
def test_runs_of_another_experiment(
    command: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--resume", "--out", str(run)]) == 2
    one_line(capsys, "out")


@pytest.mark.parametrize(
    "words",
    [
        ["--updates", "0"],
        ["--rows", "-1"],
        ["--steps", "x"],
        ["--hidden-size", "7"],
        ["--max-forget-bits", "11"],
        ["--learning-rate", "nan"],
        ["--seed", "-1"],
        ["--checks", "9" * 12],
        ["--out", "/dev/null/x/y"],
        ["--out", "."],
    ],
)
def test_demos_that_cannot_be(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options(words)
    assert caught.value.code == 2
    assert words[0].strip("-").replace("-", "_") in capsys.readouterr().err.replace("-", "_")


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["forgetting", "--words", "-1"], "words"),
        (["forgetting", "--words", "0"], "words"),
        (["forgetting", "--words", "1000"], "words"),
        (["forgetting", "--first", "-5", "--words", "2"], "first"),
        (["forgetting", "--first", "1000"], "first"),
        (["forgetting", "--out", "/"], "out"),
        (["forgetting", "--run", "nowhere"], "run"),
        (["steps", "--lengths", "8", "0"], "lengths"),
        (["steps", "--vocabulary", "-1"], "vocabulary"),
        (["steps", "--out", "/"], "out"),
        (["steps", "--out", os.devnull], "out"),
        (["memory", "--hidden-sizes", "9" * 10 + "0"], "hidden_sizes"),
        (["memory", "--symbols", "9" * 12], "symbols"),
    ],
)
def test_measurements_that_cannot_be(
    words: list[str],
    argument: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are refused before anything is measured, and nothing else is measured instead."""
    monkeypatch.chdir(tmp_path)
    own = ["--run", str(run)] if words[0] == "forgetting" and "--run" not in words else []
    assert main([*words, *own]) == 2
    one_line(capsys, argument)


def test_runs_of_which_forgetting_cannot_be_asked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "cut")
    (tmp_path / "cut" / "summary.json").unlink()
    assert main(["forgetting", "--run", str(tmp_path / "cut"), "--out", str(tmp_path / "o")]) == 2
    one_line(capsys, "run")


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"models": 3}'])
def test_results_that_cannot_be_drawn(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--results", str(tmp_path), "--out", str(tmp_path / "out")]
    assert figures(words) == 1
    assert "nothing to draw: lm" in capsys.readouterr().err
    (tmp_path / "lm-x.json").write_text(content, encoding="utf-8")
    assert figures(words) == 2
    assert "] results: got" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["steps", "--resume"],
        ["steps", "--cell", "gru"],
        ["steps", "--steps", "35"],
        ["steps", "--data", "text"],
        ["lm-sweep", "--cell", "gru"],
        ["lm-sweep", "--max-forget-bits", "5"],
        ["lm-sweep", "--no-forgetting"],
        ["nmt-sweep", "--context", "full"],
        ["lm", "--preset", "large"],
    ],
)
def test_options_that_would_have_no_effect(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert words[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("lm", ["(default: 0.008; authors, paper: 20.0)", "(default: yes)", "(default: none)"]),
        ("nmt", ["(must be given)", "(default: 0.4)", "(default: 128; multi30k, authors: 300;"]),
        ("memory", ["(default: 200; full: 1000)"]),
        ("lm-sweep", ["(default: small)", "revgru-no-limit"]),
        ("steps", ["(default: 16)"]),
    ],
)
def test_help_says_what_holds_by_default(
    command: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each preset that differs, too: what is said is what a run without the option has."""
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for text in texts:
        assert text in told
