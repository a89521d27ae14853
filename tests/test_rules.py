"""Traceability: every rule has code and a test, and nobody cites a rule that does not exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import FOLDERS, ROOT
from revrnn.operations import OPERATIONS
from revrnn.rules import CITATION, rules, sections, text

# Rules that say how to read the others, or prove one: no line of code can cite them.
WITHOUT_CODE = {"GEN-001", "GEN-002", "GEN-005", "EVAL-002", "PROD-003", "SEQ-011"}


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def cited_in_code() -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {}
    for path in python_files(*FOLDERS):
        for identifier in CITATION.findall(path.read_text(encoding="utf-8")):
            folders.setdefault(identifier, set()).add(path.relative_to(ROOT).parts[0])
    return folders


def cited_in_tests() -> set[str]:
    """Return the arguments of every ``pytest.mark.rule(...)`` in the tests."""
    cited: set[str] = set()
    for path in python_files("tests"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lists = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule":
                for argument in node.args:
                    value = argument
                    if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Name):
                        value = lists[argument.value.id]
                    cited.update(CITATION.findall(ast.unparse(value)))
    return cited


def test_rules_are_found() -> None:
    assert len(rules()) > 80
    assert rules()["BUF-031"] == "Stream: renormalisation"
    assert len(sections()) >= 12
    assert text("BUF-031").startswith("### BUF-031 Stream: renormalisation\nFor each active unit")
    assert text("BUF-031").endswith("becomes `x >> 16`.")
    assert text("BUF-010").endswith("caught by SEQ-009.")


def test_every_rule_is_cited_by_code() -> None:
    missing = set(rules()) - set(cited_in_code()) - WITHOUT_CODE
    assert not missing, f"rules without code: {sorted(missing)}"


def test_every_rule_has_a_test() -> None:
    missing = set(rules()) - cited_in_tests()
    assert not missing, f"rules without a test: {sorted(missing)}"


def test_nobody_cites_an_unknown_rule() -> None:
    known = set(rules())
    for where, cited in (("code", set(cited_in_code())), ("tests", cited_in_tests())):
        assert not cited - known, f"{where} cites unknown rules: {sorted(cited - known)}"
    for name, section in sections().items():
        unknown = set(CITATION.findall(section)) - known
        assert not unknown, f"{name} cites unknown rules: {sorted(unknown)}"
    for operation in OPERATIONS.values():
        assert set(operation.rules) <= known


@pytest.mark.parametrize("folder", ["numpy_ref", "torch_impl", "jax_impl"])
def test_each_implementation_cites_what_it_computes(folder: str) -> None:
    """The rules that are arithmetic must be found from the code of every implementation."""
    prefixes = ("QNT", "ACT", "BUF-0", "MUL", "CELL-0", "GRAD-01")
    elsewhere = {
        "QNT-003",
        "QNT-005",
        "ACT-001",
        "ACT-006",
        "BUF-003",
        "BUF-010",
        "BUF-033",
        "BUF-034",
        "BUF-035",
        "BUF-036",
        "BUF-037",
        "MUL-002",
        "CELL-001",
        "CELL-002",
        "CELL-004",
    }
    wanted = {name for name in rules() if name.startswith(prefixes)} - elsewhere
    missing = {name for name in wanted if folder not in cited_in_code().get(name, set())}
    assert not missing, f"{folder} does not cite {sorted(missing)}"
