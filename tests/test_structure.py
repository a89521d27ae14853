"""Who imports whom: the contracts hold, each can be broken, and the drawing is not out of date."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from folders import FOLDERS, ROOT, project
from structure import PAGE, lay_out, lint, stale

pytest.importorskip("importlinter", reason="nox installs it")

CONTRACTS: list[str] = [
    contract["name"] for contract in project()["tool"]["importlinter"]["contracts"]
]


def test_contracts_hold_and_the_page_is_up_to_date() -> None:
    program = str(Path(__file__).parent / "structure.py")
    done = subprocess.run(
        [sys.executable, program, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in CONTRACTS:
        assert f"{name} KEPT" in done.stdout


# A file, an import that it may not have, and the words that a contract broken by it begins with.
BREAKAGES = {
    "numpy_ref/cells.py": ("revrnn.second_opinion.cells", "Implementations"),
    "jax_impl/cells.py": ("revrnn.torch_impl.cells", "Implementations"),
    "native/gru.py": ("revrnn.torch_impl", "Experiments above all"),
    "torch_impl/cells.py": ("revrnn.conformance.contents", "Experiments above all"),
    "jax_impl/quantise.py": ("revrnn.jax_impl.cells", "The ground floor"),
    "spec/digest.py": ("revrnn.conformance.judge", "Experiments, suite"),
    "conformance/random_cases.py": ("revrnn.numpy_ref", "Oracle and second opinion"),
    "spec/evaluation.py": ("revrnn.torch_impl", "The frameworks' folders"),
    "conformance/runner.py": ("revrnn.native", "Kernels"),
    "spec/plan.py": ("torch", "PyTorch"),
    "spec/config.py": ("triton", "Triton"),
    "numpy_ref/product.py": ("jax.numpy", "JAX"),
    "torch_impl/product.py": ("numba", "numba"),
    "spec/formats.py": ("revrnn.evaluation", "No two files"),
}


def contract_of(words: str) -> str:
    (name,) = [name for name in CONTRACTS if name.startswith(words)]
    return name


def test_every_contract_can_be_broken() -> None:
    assert {contract_of(words) for _, words in BREAKAGES.values()} == set(CONTRACTS)


@pytest.mark.parametrize("file", BREAKAGES)
def test_an_import_that_may_not_be_is_seen(tmp_path: Path, file: str) -> None:
    imported, words = BREAKAGES[file]
    lay_out(ROOT, tmp_path)
    folder, _, name = file.partition("/")
    inside = tmp_path / "revrnn" / ("" if folder == "spec" else folder) / name
    with inside.open("a", encoding="utf-8") as text:
        text.write(f"\n\ndef late() -> None:\n    import {imported}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert f"{contract_of(words)} BROKEN" in done.stdout, done.stdout


def test_files_are_small() -> None:
    """At most 300 lines, but for a table of mistakes; a longer file has more than one subject."""
    files = [*(p for name in FOLDERS for p in (ROOT / name).rglob("*.py")), *ROOT.glob("*.py")]
    files += [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    files += [*(ROOT / "ports" / "c").glob("*.[ch]")]
    long = {path.name for path in files if len(path.read_text("utf-8").splitlines()) > 300}
    assert long <= {"mistakes.py"}


def test_every_folder_is_drawn() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    drawing = text.partition("```mermaid")[2].partition("```")[0]
    for folder in FOLDERS:
        assert any(folder in line.split() for line in drawing.splitlines()), folder


def test_a_page_may_lag_behind_by_little() -> None:
    arrow, row = "    a -- 100 --> b", "| `x.py` | what | 40 | – | 300 |"
    due = f"{arrow}\n{row}\n"
    assert stale(due, due) == []
    assert stale(due.replace("100", "85").replace("300", "350"), due) == []
    (line,) = stale(due.replace("300", "200"), due)
    assert line.endswith("(200, 300 are due)")
    for old, new in (("a --", "c --"), ("what", "who"), ("| – |", "| 7 |")):
        assert len(stale(due.replace(old, new), due)) == 2
    assert len(stale(due, due + "    c -- 1 --> d\n")) == 1
    assert len(stale(due + "    c -- 1 --> d\n", due)) == 1


def test_the_page_is_what_its_command_writes(tmp_path: Path) -> None:
    for name in (*FOLDERS, "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("vectors"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "torch_impl" / "new.py").write_text('"""A new question."""\n', encoding="utf-8")
    command = [sys.executable, str(Path(__file__).parent / "structure.py"), f"--root={tmp_path}"]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "| `new.py` | A new question | – | 1 | – |" in page
    assert stale(page, page.replace("A new question", "Another")) != []
    subprocess.run([*command, "--check"], check=True, capture_output=True)
