"""The files of the test vectors: written, checked, described and loaded as they should be."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_vectors import CASES, FOLDER, NAMES, raw

from revrnn import SPEC_VERSION
from revrnn.errors import CODES
from revrnn.operations import OPERATIONS
from revrnn.rules import rules
from revrnn.vector_maker import cases, make
from revrnn.vectors import flags, manifest, operations
from revrnn.vectors import load as load_cases
from revrnn.wire import encode


def test_files_are_what_the_command_writes(tmp_path: Path) -> None:
    assert make.main([str(tmp_path)]) == 0
    (tmp_path / "README.md").write_text("by hand")
    assert make.main(["--check", str(tmp_path)]) == 0
    texts = [
        {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in make.BY_HAND}
        for folder in (tmp_path, FOLDER)
    ]
    assert texts[0] == texts[1]


def test_check_notices_every_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in FOLDER.glob("*.json"):
        shutil.copy(path, tmp_path)
    (tmp_path / "tanh.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    text = (tmp_path / "view.json").read_bytes()
    (tmp_path / "view.json").write_bytes(text.rstrip(b"\n"))
    assert make.main(["--check", str(tmp_path)]) == 1
    told = "".join(capsys.readouterr()).splitlines()
    faults = [line for line in told if "json" in line]
    assert sorted(faults) == ["old.json is extra", "tanh.json is missing", "view.json differs"]


@pytest.mark.parametrize("name", NAMES)
def test_schema_holds_for_every_case(name: str) -> None:
    schema = raw("schema")
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    data = raw(name)
    validator.validate(data)
    # The schema is not satisfied by just anything.
    changes: list[dict[str, Any]] = [
        {"more": 1},
        {"cases": []},
        {"cases": [data["cases"][0] | {"more": 1}]},
    ]
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(data | change)
    for case in data["cases"]:
        if "out" in case:
            wrong = [
                case | {"args": case["args"] | {"more": 1}},
                case | {"out": case["out"] | {"more": 1}},
                case | {"out": dict(list(case["out"].items())[1:])},
            ]
            for item in wrong[: 3 if name in ("quantise", "revmul") else 2]:
                with pytest.raises(jsonschema.ValidationError):
                    validator.validate(data | {"cases": [item]})
            break


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Give every mapping inside a schema that describes mappings."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for item in schema.values():
            yield from objects(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from objects(item)


def test_schema_allows_no_other_names_anywhere() -> None:
    schemas = list(objects(raw("schema")))
    assert len(schemas) > 40
    assert all(item["additionalProperties"] is False for item in schemas)


def test_manifest_is_right() -> None:
    data = raw("manifest")
    schema = raw("schema")
    jsonschema.Draft202012Validator(schema["$defs"]["manifest"]).validate(data)
    assert data == manifest()
    assert data["spec_version"] == SPEC_VERSION
    on_disk = {path.name for path in FOLDER.glob("*.json")} - {"manifest.json"}
    assert set(data["files"]) == on_disk
    assert set(operations()) == set(NAMES)
    for name, entry in data["files"].items():
        content = (FOLDER / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        if name != "schema.json":
            assert entry["cases"] == len(json.loads(content)["cases"]) > 0
    total = sum(entry.get("cases", 0) for entry in data["files"].values())
    assert data["total"] == total == len(CASES)


@pytest.mark.parametrize("name", NAMES)
def test_identifiers_are_mechanical_and_unique(name: str) -> None:
    data = raw(name)
    assert data["operation"] == name
    ids = []
    for case in data["cases"]:
        text = json.dumps(case["args"], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode("ascii")).hexdigest()[:16]
        assert case["id"] == f"{name}-{digest}"
        ids.append(case["id"])
    assert len(set(ids)) == len(ids)


def test_files_are_small_ascii_and_a_case_a_line() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.json")]
    assert sum(sizes) < 1_000_000
    for name in NAMES:
        text = (FOLDER / f"{name}.json").read_bytes().decode("ascii")
        assert text.endswith("}\n")
        assert len(text.splitlines()) == len(raw(name)["cases"]) + 2
        data = raw(name)
        assert dict(sorted(data.items())) == data


def test_flags_rules_and_codes_are_defined_and_used() -> None:
    defined = flags()
    assert all(re.fullmatch(r"[A-Z].+\.", sentence) for sentence in defined.values())
    assert {flag for case in CASES.values() for flag in case.catches} == set(defined)
    covered = {rule for case in CASES.values() for rule in case.rules}
    assert not covered - set(rules())
    for operation in OPERATIONS.values():
        assert set(operation.rules) <= covered, operation.name
    codes = {case.error for case in CASES.values() if case.error}
    # These do not arise from a request to the oracle.
    assert codes == set(CODES) - {"E_UNSUPPORTED", "E_OVERFLOW", "E_REVERSAL"}


def test_loader_notices_damage(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(FOLDER, folder)
    assert len(load_cases("tanh", folder)) == len(load_cases("tanh"))
    assert operations(folder) == operations()
    text = (folder / "tanh.json").read_bytes()
    (folder / "tanh.json").write_bytes(text.replace(b'"-1"', b'"-2"', 1))
    with pytest.raises(ValueError, match="damaged"):
        load_cases("tanh", folder)
    # Whoever changes the manifest too must still get the number of cases right.
    data = json.loads((folder / "manifest.json").read_bytes())
    data["files"]["view.json"]["cases"] += 1
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="cases"):
        load_cases("view", folder)
    with pytest.raises(KeyError):
        load_cases("softmax")


def test_loader_decodes_what_the_writer_encodes() -> None:
    for case in CASES.values():
        args = encode(case.args)
        assert make.case_id(case.operation, args) == case.id


def test_mistakes_stand_with_the_cases_of_their_section() -> None:
    """No flag stands in two files, and each in the file of its rule (the law's section)."""
    sections = {
        f"vector_maker/cases/{Path(str(section.__file__)).name}": section.MISTAKES
        for section in cases.WITH_MISTAKES
    }
    assert sum(map(len, sections.values())) == len(cases.MISTAKES)
    prefixes: dict[str, set[str]] = {}
    for name, mistakes in sections.items():
        for rule, _ in mistakes.values():
            prefixes.setdefault(rule.partition("-")[0], set()).add(name)
    assert all(len(names) == 1 for names in prefixes.values()), prefixes
