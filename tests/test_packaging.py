"""What is installed: the whole package, with its data, and nothing that should not be imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy
import pytest

import release
import revrnn
from folders import FOLDERS, PACKAGES, ROOT, project
from revrnn.archive import FOLDERS as FOLDERS_IN_ARCHIVE
from revrnn.archive import main as write_archives
from revrnn.archive import write
from revrnn.conformance.judge import ABSENT
from revrnn.tanh_table import compute, file_text

# The libraries that each folder may import; tests/test_structure.py sees to the folders.
MAY_IMPORT = {
    "spec": {"numpy", "revrnn"},
    "conformance": {"numpy", "revrnn"},
    "numpy_ref": {"numpy", "revrnn"},
    "second_opinion": {"numpy", "revrnn"},
    "vector_maker": {"numpy", "revrnn"},
    "native": {"llvmlite", "numba", "numpy", "revrnn"},
    "torch_impl": {"numpy", "revrnn", "safetensors", "torch"},
    "jax_impl": {"numpy", "revrnn", "safetensors", "jax"},
}
# What a single file may import besides; nothing else may import that file.
OPTIONAL = {
    ("jax_impl", "flax.py"): {"flax"},
    ("jax_impl", "equinox.py"): {"equinox"},
    ("conformance", "plugin.py"): {"pytest"},
    ("conformance", "suite.py"): {"pytest"},
    ("conformance", "progress.py"): {"rich"},
}


def test_every_folder_is_packaged() -> None:
    """A sub-package that is missing from the list would be left out of the wheel silently."""
    assert sorted(PACKAGES) == sorted(project()["tool"]["setuptools"]["packages"])
    on_disk = set()
    for top in ROOT.glob("*/__init__.py"):
        for path in top.parent.rglob("*"):
            inside = path.suffix in {".py", ".json", ".md"} and "__pycache__" not in path.parts
            if path.is_file() and inside:
                on_disk.add(str(path.parent.relative_to(ROOT)))
    assert on_disk == set(PACKAGES.values())


def test_a_release_tries_every_extra() -> None:
    extras = project()["project"]["optional-dependencies"]
    assert {"", *extras} == set(release.IMPORTS)


def test_data_files_are_installed() -> None:
    installed = files("revrnn")
    for folder in ("data", "text", "vectors"):
        names = {p.name for p in (ROOT / "spec" / folder).iterdir() if p.suffix in {".md", ".json"}}
        assert names
        for name in names:
            wanted = (ROOT / "spec" / folder / name).read_bytes()
            assert installed.joinpath(folder, name).read_bytes() == wanted, name
    assert installed.joinpath("py.typed").is_file()


def test_law_and_suite_are_one_archive(tmp_path: Path) -> None:
    """All of text, tables, vectors, law and suite; the same bytes whenever it is written."""
    paths = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for path in paths:
        count = write(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths
    with zipfile.ZipFile(paths[0]) as archive:
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        names = archive.namelist()
        assert len(names) == count
        root = f"revrnn-spec-{revrnn.SPEC_VERSION}"
        sources = {ROOT / "spec": "revrnn", ROOT / "conformance": "revrnn/conformance"}
        sources |= {ROOT / "spec" / folder: f"revrnn/{folder}" for folder in FOLDERS_IN_ARCHIVE}
        for folder, where in sources.items():
            for path in folder.iterdir():
                if path.suffix in {".md", ".json", ".py", ".typed"}:
                    inside = f"{root}/{where}/{path.name}"
                    assert archive.read(inside) == path.read_bytes()
                    names.remove(inside)
        assert names == [f"{root}/README.md"]


def test_the_suite_runs_from_the_archive_with_numpy_alone(tmp_path: Path) -> None:
    """Unpacked where nothing else is: a port is asked the vectors, and told that no judge is."""
    write(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path)
    alone = tmp_path / "numpy alone"
    alone.mkdir()
    for folder in Path(numpy.__file__).parents[1].glob("numpy*"):
        if folder.name in ("numpy", "numpy.libs"):
            (alone / folder.name).symlink_to(folder)
    # The port is the installed oracle; -P keeps the archive's package from it.
    port = f"{sys.executable} -P -m revrnn.conformance.serve --adapter numpy"
    suite = [sys.executable, "-S", "-m", "revrnn.conformance", "--profile", "gates"]

    def asked(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*suite, *words, "--command", port],
            cwd=tmp_path / f"revrnn-spec-{revrnn.SPEC_VERSION}",
            env={**os.environ, "PYTHONPATH": str(alone)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = asked()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == f"{ABSENT}\n"
    assert "PASS, the vectors alone" in done.stdout
    # Unpacked there too, the judge is found.
    archive_of_judge = tmp_path / "j.zip"
    write_archives([str(tmp_path / "a.zip"), str(archive_of_judge)])
    with zipfile.ZipFile(archive_of_judge) as archive:
        archive.extractall(tmp_path)
    with pytest.raises(SystemExit):  # one would be written over the other
        write_archives([str(archive_of_judge)] * 2)
    done = asked("--examples", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "random requests judged by numpy" in done.stdout


def test_tests_run_on_the_installed_package() -> None:
    """The folders in the repository are no packages of their own: nobody imports them so."""
    for path in ROOT.rglob("*.py"):
        if {".nox", "build", ".venv"} & set(path.parts):
            continue
        for name in imported(path):
            assert name.split(".")[0] not in FOLDERS, f"{path} imports {name}"
    assert revrnn.__name__ == "revrnn"


def imported(path: Path) -> set[str]:
    """Return the absolute names that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folders_import_only_what_they_may(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names:
                continue
            more = OPTIONAL.get((folder, path.name), set())
            if path.parent.name == "triton":
                more = more | {"triton"}
            assert top in MAY_IMPORT[folder] | more, f"{path} imports {name}"


def test_oracle_needs_numpy_alone() -> None:
    program = (
        "import sys; from revrnn.evaluation import load; load('numpy'); load('naive'); "
        "bad = {'torch', 'jax', 'hypothesis', 'pytest'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT / "tests")


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_implementations_do_not_load_one_another(name: str) -> None:
    other = {"torch": "jax", "jax": "torch"}[name]
    program = (
        f"import sys; from revrnn.evaluation import load; load('{name}'); "
        f"bad = {{'{other}', 'revrnn.numpy_ref', 'flax', 'equinox'}} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT / "tests")


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_missing_framework_is_named_with_its_extra(name: str) -> None:
    program = (
        "import sys, importlib.util as util; real = util.find_spec; "
        f"util.find_spec = lambda n, *a: None if n == '{name}' else real(n, *a); "
        f"sys.modules['{name}'] = None\n"
        f"try: import revrnn.{name}_impl\n"
        f"except ModuleNotFoundError as error: print(error.name, error)"
    )
    command = [sys.executable, "-c", program]
    made = subprocess.run(command, check=True, cwd=ROOT / "tests", capture_output=True, text=True)
    assert made.stdout.startswith(f"{name} No module named '{name}': pip install 'revrnn[{name}]'")


@pytest.mark.rule("ACT-001")
def test_table_file_is_what_its_command_writes() -> None:
    text = (ROOT / "spec" / "data" / "tanh.json").read_text(encoding="ascii")
    assert file_text(compute()) == text
