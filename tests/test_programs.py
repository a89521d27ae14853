"""What ``python -m`` runs of this package, and what it says of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from folders import PACKAGES, ROOT
from revrnn import programs, tanh_table
from revrnn.experiments.demo import options


def test_all_programs_are_known() -> None:
    made = set()
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder).glob("*.py"):
            if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
                made.add(f"{package}.{path.stem}".removesuffix(".__main__"))
    assert made == set(programs.PROGRAMS)


@pytest.mark.parametrize("own", [[], ["lm", "-m", "--help"]])
@pytest.mark.parametrize("before", [["-m"], ["-X", "dev", "-Im"], ["joined"]])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("revrnn", "revrnn.archive --help"),
        ("revrnn.experiments.steps", "revrnn.experiments --help, python -m revrnn.experiments.d"),
        ("revrnn.experiments.lm", "revrnn.experiments --help"),
        ("revrnn.torch_impl.mixing", "revrnn.archive --help"),
        ("revrnn.experiments", ""),
        ("revrnn.experiments.__main__", ""),
        ("revrnn.conformance.mismatch", ""),
        ("pytest", ""),
        ("revrnn_of_others.m", ""),
    ],
)
def test_a_module_that_is_no_program_says_what_is(
    name: str,
    said: str,
    before: list[str],
    own: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As Python is called, before it has imported what it will run."""
    words = [*before[:-1], f"-m{name}"] if before[-1] == "joined" else [*before, name]
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, *words, *own])
    monkeypatch.setattr(sys, "argv", ["-m", *own])
    if said:
        with pytest.raises(SystemExit, match="2"):
            programs.check_program()
        assert f"python -m {name}: no program; allowed: python -m {said}" in capsys.readouterr().err
        monkeypatch.setattr(sys, "argv", [name, *own])
    programs.check_program()


def test_a_module_is_not_run_in_silence() -> None:
    words = [sys.executable, "-m", "revrnn.experiments.steps"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no program; allowed: python -m revrnn.experiments --help" in done.stderr


def test_a_table_without_a_place_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path, tmp_path / "none" / "tanh.json"):
        with pytest.raises(SystemExit, match="2"):
            tanh_table.main([str(place)])
        assert f"file: {place} cannot be written: " in capsys.readouterr().err
    tanh_table.main([str(tmp_path / "tanh.json")])
    made = (ROOT / "spec" / "data" / "tanh.json").read_bytes()
    assert (tmp_path / "tanh.json").read_bytes() == made


def test_a_demo_whose_plot_has_no_place_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plot.svg").mkdir()
    with pytest.raises(SystemExit, match="2"):
        options(["--out", str(tmp_path / "plot")])
    assert "out: got" in capsys.readouterr().err
