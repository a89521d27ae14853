"""The test vectors: their files, and every implementation against every case."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from revrnn import SPEC_VERSION
from revrnn.comparison import tolerance_of
from revrnn.errors import CODES
from revrnn.evaluation import load, outcome
from revrnn.operations import OPERATIONS
from revrnn.rules import rules
from revrnn.vector_maker import cases, make
from revrnn.vectors import Case, flags, manifest, operations
from revrnn.vectors import load as load_cases
from revrnn.wire import encode

FOLDER = Path(__file__).parent.parent / "spec" / "vectors"
NAMES = (*OPERATIONS, "no_such_operation")
CASES = {case.id: case for name in NAMES for case in load_cases(name)}


def raw(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="ascii"))
    return data


# The files


def test_files_are_what_the_command_writes() -> None:
    assert make.check(FOLDER) == []
    assert make.main(["--check", str(FOLDER)]) == 0


def test_check_notices_every_difference(tmp_path: Path) -> None:
    assert make.main([str(tmp_path)]) == 0
    (tmp_path / "README.md").write_text("by hand")
    assert make.check(tmp_path) == []
    (tmp_path / "tanh.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    text = (tmp_path / "view.json").read_bytes()
    (tmp_path / "view.json").write_bytes(text.rstrip(b"\n"))
    assert make.main(["--check", str(tmp_path)]) == 1
    faults = make.check(tmp_path)
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
    assert sum(sizes) < 700_000
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


# The implementations


def faults(case: Case, got: Mapping[str, Any]) -> list[str]:
    """Describe how an answer differs from a case's; an empty list means that it is right."""
    if case.out is None:
        return [] if got == {"error": case.error} else [f"{case.error} expected, {got} got"]
    if set(got) != set(case.out):
        return [f"results {sorted(case.out)} expected, {dict(got) if 'error' in got else set(got)}"]
    tolerance = raw(case.operation).get("tolerance") if floats(case) else None
    return [
        f"{name}: {wanted!r} expected, {got[name]!r} got"
        for name, wanted in case.out.items()
        if not right(name, wanted, got[name], tolerance)
    ]


def floats(case: Case) -> bool:
    return any(tolerance_of(name) for name in case.out or ())


def right(name: str, wanted: Any, got: Any, tolerance: Mapping[str, str] | None) -> bool:
    if tolerance and re.search(tolerance["results"], name):
        relative, absolute = (float.fromhex(tolerance[n]) for n in ("relative", "absolute"))
        if np.shape(got) != np.shape(wanted) or not np.isfinite(got).all():
            return False
        limit = relative * np.abs(wanted).max(initial=0) + absolute
        return bool(np.abs(got - wanted).max(initial=0) <= limit)
    if isinstance(wanted, np.ndarray):
        return (
            isinstance(got, np.ndarray)
            and got.dtype == wanted.dtype
            and got.shape == wanted.shape
            and got.tolist() == wanted.tolist()
        )
    return type(got) is type(wanted) and bool(got == wanted)


def may_be_left_out(name: str, case: Case) -> bool:
    """Say whether an implementation may answer ``E_UNSUPPORTED`` (BUF-037)."""
    config = case.args.get("config")
    layout = config.get("buffer") if isinstance(config, dict) else case.args.get("layout")
    no_gradients = name == "naive" and case.operation == "sequence_gradient"
    return layout == "bigint" or no_gradients


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


@pytest.mark.rule(
    "QNT-001",
    "QNT-002",
    "QNT-003",
    "QNT-004",
    "QNT-006",
    "GEN-003",
    "PROD-001",
    "PROD-002",
    "FMT-004",
    "ACT-001",
    "ACT-002",
    "ACT-003",
    "ACT-004",
    "ACT-005",
    "ACT-006",
    "BUF-001",
    "BUF-002",
    "BUF-003",
    "BUF-004",
    "BUF-005",
    "BUF-010",
    "BUF-020",
    "BUF-021",
    "BUF-022",
    "BUF-023",
    "BUF-024",
    "BUF-030",
    "BUF-031",
    "BUF-032",
    "BUF-033",
    "BUF-034",
    "BUF-036",
    "BUF-037",
    "MUL-001",
    "MUL-002",
    "MUL-003",
    "MUL-004",
    "MUL-005",
    "MUL-006",
    "CELL-003",
    "CELL-004",
    "CELL-010",
    "CELL-011",
    "CELL-012",
    "CELL-020",
    "CELL-021",
    "CELL-022",
    "CELL-030",
    "CELL-031",
    "CELL-040",
    "SEQ-001",
    "SEQ-002",
    "SEQ-003",
    "SEQ-004",
    "SEQ-005",
    "SEQ-006",
    "SEQ-007",
    "SEQ-008",
    "SEQ-009",
    "SEQ-010",
    "ACC-001",
    "ACC-002",
    "ACC-003",
    "ACC-004",
    "ERR-001",
    "ERR-002",
    "EVAL-003",
    "EVAL-004",
    "EVAL-005",
    "EVAL-006",
    "EVAL-007",
    "EVAL-008",
    "EVAL-009",
    "GRAD-001",
    "GRAD-010",
    "GRAD-011",
    "GRAD-012",
    "GRAD-013",
    "GRAD-014",
    "GRAD-020",
    "GRAD-021",
)
@pytest.mark.parametrize("operation", NAMES)
@pytest.mark.parametrize("name", ["numpy", "naive", "torch", "jax"])
def test_every_case(name: str, operation: str) -> None:
    implementation = load(name)
    wrong: dict[str, list[str]] = {}
    tally: Counter[str] = Counter()
    for case in load_cases(operation):
        got = outcome(implementation, operation, case.args)
        if got == {"error": "E_UNSUPPORTED"} and may_be_left_out(name, case):
            tally["left out"] += 1
            continue
        tally["checked"] += 1
        if lines := faults(case, got):
            wrong[f"{case.id} {' '.join(case.rules)} ({' '.join(case.catches)})"] = lines
    assert not wrong, "\n".join(f"{key}: {lines}" for key, lines in wrong.items())
    assert tally.total() == manifest()["files"][f"{operation}.json"]["cases"]
    if name == "numpy":
        assert not tally["left out"]
    if tally["left out"] and not tally["checked"]:
        pytest.skip(f"{name} offers none of it")


def test_answers_are_compared_strictly() -> None:
    """Another type, shape, value, name or code is a fault; floats have the stated room."""
    case = next(c for c in load_cases("view") if c.out and c.out["a"].size)
    assert case.out is not None
    good = case.out["a"]
    assert faults(case, {"a": good}) == []
    for bad in (good.astype(np.int32), good[None], good + np.int16(1), good.tolist()):
        assert faults(case, {"a": bad})
    assert faults(case, {"b": good})
    assert faults(case, {"error": "E_SHAPE"})
    error = next(c for c in load_cases("view") if c.error)
    assert faults(error, {"a": good})
    assert faults(error, {"error": "E_OP"})
    case = load_cases("sequence_gradient")[0]
    assert case.out is not None
    for factor, accepted in ((1 + 5e-5, True), (1 + 3e-4, False), (np.nan, False)):
        got = case.out | {"grad_x": case.out["grad_x"] * factor}
        assert (faults(case, got) == []) == accepted
    case = load_cases("sequence_storage")[0]
    assert case.out is not None
    assert faults(case, case.out | {"ideal_bits": case.out["ideal_bits"] * (1 + 1e-12)}) == []
    assert faults(case, case.out | {"ideal_bits": case.out["ideal_bits"] + 1.0})
    assert faults(case, case.out | {"stored_bits": float(case.out["stored_bits"])})
