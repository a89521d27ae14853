"""What the documents name is there: files, sessions, names of vectors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from revrnn.rules import sections
from revrnn.vectors import load

ROOT = Path(__file__).parents[1]
# docs/structure.md is generated, and names files within the implementations.
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("spec/**/*.md")])
DOCUMENTS.remove(ROOT / "docs" / "structure.md")
FOLDERS = "|".join(sorted(path.parent.name for path in ROOT.glob("*/__init__.py")))
FILE = re.compile(rf"`((?:{FOLDERS}|tests|benchmarks|docs|ports)/[\w./]*\w)`")
SESSION = re.compile(r"nox -s ([\w-]+)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    missing = [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    assert not missing, f"{path.name} names files that are not there: {missing}"
    sessions = re.findall(r"^@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.M)
    unknown = {name.replace("-", "_") for name in SESSION.findall(text)} - set(sessions)
    assert not unknown, f"{path.name} names sessions that are not there: {sorted(unknown)}"


def test_the_site_has_all_pages() -> None:
    """Of docs/ and of the text; nox -s docs, which would fail, is not a part of the tests."""
    listed = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert pages | {f"spec/{name}" for name in sections()} <= set(listed)


GUIDES = (
    "jax_impl",
    "jax_impl/native",
    "jax_impl/triton",
    "native",
    "torch_impl",
    "torch_impl/native",
)


@pytest.mark.parametrize("folder", GUIDES)
def test_a_package_says_in_what_order_all_of_its_files_are_read(folder: str) -> None:
    guide = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
    assert "Read in this order" in guide
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert set(re.findall(r":mod:`\.(\w+)`", guide)) == files


def test_the_vector_named_as_an_example_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"--case (\S+)", text)
    operation = name.rpartition("-")[0]
    assert name in {case.id for case in load(operation)}
