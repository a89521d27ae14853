"""The table of operations: it says what holds, and nothing else says it again."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from revrnn import Config, Formats, RevRNNError
from revrnn.config import CELLS
from revrnn.conformance.contents import STYLES, contents
from revrnn.conformance.random_cases import RandomCases
from revrnn.errors import CODES
from revrnn.evaluation import Implementation, outcome
from revrnn.formats import (
    FORGET_BITS,
    GAIN_BITS,
    GAIN_MAX,
    HEAD_START,
    MAX_PRODUCT_LENGTH,
    OPERAND_MAX,
)
from revrnn.kinds import DTYPES, KINDS, RECORDS, TABLE, Field
from revrnn.operations import (
    AXES,
    OPERATIONS,
    Operation,
    arguments_of,
    axes_of,
    length_of,
    results_of,
)
from revrnn.operations_text import written
from revrnn.rules import rules
from revrnn.vectors import load

DATA = files("revrnn").joinpath("data")
TEXT = files("revrnn").joinpath("text")
CONFIGS = [
    Config(cell, 3, 4, layers, forgetting=forgetting, slice_size=forgetting * slices)
    for cell in CELLS
    for layers, slices in ((1, 0), (2, 1))
    for forgetting in (True, False)
]


def all_fields() -> Iterator[Field]:
    for record in RECORDS.values():
        yield from record
    for operation in OPERATIONS.values():
        yield from (*operation.arguments, *operation.results)


def test_the_table_fits_its_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(DATA.joinpath("operations.schema.json").read_bytes())
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(TABLE)) == []
    for fault in (
        {"kinds": {"operand": {"type": "i12", "rule": "FMT-001"}}},
        {"operations": {"tanh": {"profile": "gates", "rules": ["ACT-2"]}}},
        {"records": {"formats": [{"name": "state_bits"}]}},
    ):
        assert list(validator.iter_errors({**TABLE, **fault}))


def test_everything_that_the_table_names_is_there() -> None:
    assert set(TABLE["dtypes"]) == set(DTYPES)
    named = [kind.rule for kind in KINDS.values()]
    named += [kind.tolerance.rule for kind in KINDS.values() if kind.tolerance]
    named += [rule for operation in OPERATIONS.values() for rule in operation.rules]
    named += [field.rule for field in all_fields() if field.rule]
    assert set(named) | set(TABLE["rules"]) <= set(rules())
    errors = [kind.error for kind in KINDS.values()]
    errors += [code for operation in OPERATIONS.values() for code in operation.errors]
    assert set(errors) <= set(CODES)
    known = {field.name for record in RECORDS.values() for field in record}
    known |= {name for operation in OPERATIONS.values() for name in operation.settings}
    used = set()
    for field in all_fields():
        choices = [field.of] if isinstance(field.of, str) else list(field.of.values())[1:]
        used.update(choices)
        assert set(field.when or {}) <= known, field
    assert used == set(KINDS)  # none is missing, none is left over
    parts = [*TABLE["lists"].values()]
    parts += [
        entry[part] for entry in TABLE["operations"].values() for part in ("arguments", "results")
    ]
    lists = {entry for part in parts for entry in part if isinstance(entry, str)}
    assert lists == set(TABLE["lists"])


@pytest.mark.rule("EVAL-003", "FMT-002")
@pytest.mark.parametrize(("name", "record"), [("config", Config), ("formats", Formats)])
def test_records_have_the_fields_and_defaults_of_their_classes(name: str, record: Any) -> None:
    least = {"cell": "revgru", "input_size": 1, "hidden_size": 2} if name == "config" else {}
    made = record(**least)
    assert {field.name for field in RECORDS[name]} == {field.name for field in fields(record)}
    for field in RECORDS[name]:
        if field.name in least:
            assert not field.is_optional
        elif field.name == "formats":
            assert (field.default, made.formats) == (None, Formats())
        else:
            assert getattr(made, field.name) == field.default, field.name


@pytest.mark.rule("FMT-001", "SEQ-012")
def test_the_table_agrees_with_the_constants() -> None:
    assert KINDS["operand"].ends == KINDS["weight"].ends == (-OPERAND_MAX, OPERAND_MAX)
    assert KINDS["gate"].ends == (1, 1 << FORGET_BITS)
    assert KINDS["gain"].ends == (0, 16 << GAIN_BITS) == (0, GAIN_MAX)
    assert KINDS["stream_head"].ends == (HEAD_START, 2**31 - 1)
    assert AXES["K"].most == AXES["H"].most == MAX_PRODUCT_LENGTH


@pytest.mark.rule("CELL-003")
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_parameters_are_those_of_the_configuration(config: Config) -> None:
    lengths = axes_of(config, {})
    shapes = {
        field.name: tuple(length_of(axis, lengths) for axis in field.axes)
        for field in arguments_of("sequence_storage", config, {})
        if field.name.startswith(("weight", "bias"))
    }
    assert shapes == config.parameter_shapes()
    assert list(shapes) == list(config.parameter_shapes())


@pytest.mark.rule("EVAL-004", "EVAL-005", "EVAL-007", "EVAL-008", "CONF-001")
def test_the_text_has_the_tables_as_they_are() -> None:
    texts = [e.read_text(encoding="utf-8") for e in TEXT.iterdir() if e.name.endswith(".md")]
    for text in texts:
        assert written(text) == text, "run nox -s tables"
    stale = next(text for text in texts if "| `tanh_bits`" in text or "| `tanh` |" in text)
    assert written(stale.replace("8 … 27", "8 … 28")) == stale
    whole = "".join(texts)
    for name in (*TABLE["axes"], *OPERATIONS, *(f.name for r in RECORDS.values() for f in r)):
        assert f"`{name}`" in whole


@pytest.mark.rule("ERR-001", "ERR-002")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_vectors_end_in_no_other_errors(operation: str) -> None:
    given = {case.error for case in load(operation) if case.error}
    assert given <= _possible_errors(OPERATIONS[operation])


def _possible_errors(operation: Operation) -> set[str]:
    """Return the codes that a request for an operation can end in."""
    kinds = [KINDS[kind] for field in operation.arguments for kind in _kinds(field)]
    codes = {"E_ARGUMENT", "E_DTYPE", "E_SHAPE", *operation.errors}
    codes |= {kind.error for kind in kinds if kind.error != "E_RANGE" or kind.low is not None}
    if any(kind.type == "f32" for kind in kinds):
        codes.add("E_NONFINITE")
    settings = {*operation.settings}
    if "config" in settings:
        codes |= {"E_HIDDEN_SIZE", "E_FORGET_BITS", "E_SLICE"}
    if {"config", "formats"} & settings:
        codes.add("E_FORMAT")
    return codes | ({"E_UNSUPPORTED"} if {"config", "layout"} & settings else set())


def _kinds(field: Field) -> list[str]:
    """Return the names of all kinds that a field may have."""
    if isinstance(field.of, str):
        return [field.of]
    return [kind for choice, kind in field.of.items() if choice != "by"]


@pytest.mark.rule("EVAL-002", "EVAL-004", "EVAL-005", "EVAL-007", "EVAL-008", "EVAL-009")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_are_those_of_the_table(oracle: Implementation, operation: str) -> None:
    """Names in their order, types and shapes, for both cells, all layouts, with and without."""
    for layouts in (("stream",), ("wordlist",), ("bigint",)):
        cases, answered = RandomCases(oracle, 3, layouts, pool=6), 0
        for number in range(6):
            arguments = cases.draw(operation, number)
            given = arguments.get("config")
            config = Config.from_dict(given) if given else None
            results = outcome(oracle, operation, arguments)
            if "error" in results:  # pops that fail are drawn too
                continue
            answered += 1
            expected = results_of(operation, config, arguments)
            assert list(results) == [field.name for field in expected]
            lengths = axes_of(config, arguments) | _lengths(operation, config, arguments)
            for field in expected:
                _check_result(field, results[field.name], lengths)
        assert answered >= 3


def _lengths(operation: str, config: Config | None, arguments: dict[str, Any]) -> dict[str, int]:
    return {
        axis: length
        for field in arguments_of(operation, config, arguments)
        if field.is_array and field.name in arguments and field.axes != ("*",)
        for axis, length in zip(field.axes, arguments[field.name].shape, strict=True)
        if axis in AXES
    }


def _check_result(field: Field, value: Any, lengths: dict[str, int]) -> None:
    if not field.is_array:
        assert type(value) is {"int": int, "f64": np.float64}[field.kind.type]
        return
    assert field.kind.type in ("float", *DTYPES)
    if field.kind.type != "float":
        assert value.dtype == DTYPES[field.kind.type], field.name
    for axis, length in zip(field.axes, value.shape, strict=field.axes != ("*",)):
        if axis not in ("W", "P", "F", "*"):  # what an operation pushed or popped
            assert length == length_of(axis, lengths), field.name


@pytest.mark.rule("CONF-002")
def test_random_requests_reach_the_ends_of_what_is_allowed(oracle: Implementation) -> None:
    cases = RandomCases(oracle, 0)
    for name, operation in OPERATIONS.items():
        if operation.profile != "gates":
            continue
        drawn = [cases.draw(name, number) for number in range(60)]
        for field in operation.arguments:
            values = [request[field.name] for request in drawn]
            kind = field.kind
            if field.is_array and kind.type != "f32":
                low, high = min(v.min() for v in values), max(v.max() for v in values)
                ends = np.iinfo(DTYPES[kind.type].name) if kind.low is None else None
                assert (low, high) == ((ends.min, ends.max) if ends else (kind.low, kind.high))
            elif kind.values:
                assert set(values) == set(kind.values)
            elif kind.type == "int":
                assert {kind.low, kind.high} <= set(values)
                assert (None in values) == field.none
    formats = [request["formats"] for request in (cases.draw("quantise", n) for n in range(60))]
    for field in RECORDS["formats"]:
        high = 13 if isinstance(field.kind.high, str) else field.kind.high
        assert {field.kind.low, high} <= {record[field.name] for record in formats}


@pytest.mark.parametrize(
    ("kind", "style"), [(kind, style) for kind in STYLES for style in STYLES[kind]]
)
def test_contents_are_of_their_kind(kind: str, style: str) -> None:
    values = contents(kind, np.random.default_rng(0), (6, 4), style)
    assert values.dtype == DTYPES[KINDS[kind].type]
    low, high = KINDS[kind].low, KINDS[kind].high
    if low is not None:
        assert values.min() >= low
    if isinstance(high, int):
        assert values.max() <= high
    if kind == "real":
        assert np.isfinite(values).all()


@pytest.mark.rule("EVAL-001")
@pytest.mark.parametrize("folder", ["numpy_ref", "torch_impl", "jax_impl", "second_opinion"])
def test_implementations_list_the_operations_in_the_order_of_the_table(folder: str) -> None:
    path = Path(__file__).parent.parent / folder / "evaluate.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) in {"_OPERATIONS", "_SEQUENCES"}
    ]
    keys = [key for table in tables if isinstance(table, ast.Dict) for key in table.keys]
    names = [ast.literal_eval(key) for key in keys if key is not None]
    left_out = ["sequence_gradient"] if folder == "second_opinion" else []
    assert names + left_out == list(OPERATIONS)


@pytest.mark.rule("ERR-002")
def test_layers_without_end_are_refused_at_once(implementation: Implementation) -> None:
    config = {"cell": "revgru", "input_size": 1, "hidden_size": 2, "num_layers": 10**12}
    with pytest.raises(RevRNNError, match="num_layers"):
        implementation.evaluate("sequence_forward", {"config": config})
