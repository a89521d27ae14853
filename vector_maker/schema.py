"""The JSON Schema of the vectors: what every file, case and value of them looks like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from revrnn.kinds import DTYPES, RECORDS, TABLE, Field
from revrnn.operations import OPERATIONS

Json = dict[str, Any]

# A name that no operation has, for the cases of E_OP.
UNKNOWN_OPERATION: Final = "no_such_operation"


def _object(properties: Json, required: Iterable[str] | None = None, **more: Any) -> Json:
    """Return the schema of a mapping, all of whose names are required unless said otherwise."""
    names = properties if required is None else required
    return {
        "additionalProperties": False,
        "properties": properties,
        "required": sorted(names),
        "type": "object",
    } | more


def _names(pattern: str, value: Json) -> Json:
    """Return the schema of a mapping from any names of a pattern."""
    return {"additionalProperties": False, "patternProperties": {pattern: value}, "type": "object"}


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _array_schema(kind: str) -> Json:
    form = TABLE["dtypes"][kind]
    if form == "number":
        ends = np.iinfo(DTYPES[kind].name)
        element: Json = {"maximum": int(ends.max), "minimum": int(ends.min), "type": "integer"}
    elif form == "truth value":
        element = {"type": "boolean"}
    elif form == "hexadecimal float":
        element = _ref("hex_float")
    else:
        element = {"pattern": "^(0|-?[1-9][0-9]*)$", "type": "string"}
    lengths = {"items": {"minimum": 0, "type": "integer"}, "type": "array"}
    data = {"items": element, "type": "array"}
    return _object({"data": data, "dtype": {"const": kind}, "shape": lengths})


_NAME: Final = "^[a-z][a-z0-9_]*$"
# Of requests at fault: any text has it.
_ANY_NAME: Final = "^"
_INTEGER: Final[Json] = {"type": "integer"}
# Kinds of which some argument or field may be none.
_NULLABLE: Final = {
    field.of
    for fields in (*RECORDS.values(), *(operation.arguments for operation in OPERATIONS.values()))
    for field in fields
    if field.none
}


def _single_schema(field: Field) -> Json:
    """Return the schema of a single value."""
    kind = field.kind
    if kind.type == "str":
        return {"enum": list(kind.values)}
    if kind.type in ("config", "formats"):
        record = _ref(kind.type)
        return {"anyOf": [record, {"type": "null"}]} if field.none else record
    if kind.type == "f64":
        return _ref("single_float")
    if kind.low == 0 and kind.high is None:
        return _ref("natural")
    word = {"int": "integer", "bool": "boolean"}[kind.type]
    return {"type": [word, "null"] if kind.name in _NULLABLE else word}


def _field_schema(field: Field) -> Json:
    """Return the schema of an argument or result."""
    if not field.is_array:
        return _single_schema(field)
    if not isinstance(field.of, str):
        return _ref(field.name.removesuffix("_steps"))
    # Gradients are written in the oracle's type.
    return _ref(field.kind.type.replace("float", "f64"))


_PARAMETERS: Final = {"^weight_(ih|hh)_l(0|[1-9][0-9]*)$": "i16", "^bias_l(0|[1-9][0-9]*)$": "i32"}


def _mapping_schema(fields: Iterable[Field], config: bool) -> Json:
    """Return the schema of the arguments or results of a right request."""
    layered = [field.name for field in fields if "{k}" in field.name]
    whole = [field for field in fields if "{k}" not in field.name]
    properties = {field.name: _field_schema(field) for field in whole}
    more = {}
    if layered:
        grads = all(name.startswith("grad_") for name in layered)
        more["patternProperties"] = {
            name.replace("^", "^grad_") if grads else name: _ref("f64" if grads else kind)
            for name, kind in _PARAMETERS.items()
        }
    required = (f.name for f in whole if not f.is_optional and not (config and f.when))
    return _object(properties, required, **more)


def _case_schema(operation: str) -> Json:
    """Return the schema of a case: a right request with results, or any request with a code."""
    common: Json = {
        "catches": {"items": {"type": "string"}, "type": "array", "uniqueItems": True},
        "id": {"pattern": f"^{operation}-[0-9a-f]{{16}}$", "type": "string"},
        "rules": {
            "items": {"pattern": "^[A-Z]{3,4}-[0-9]{3}$", "type": "string"},
            "minItems": 1,
            "type": "array",
            "uniqueItems": True,
        },
    }
    anything = _names(_ANY_NAME, _ref("value"))
    code = {"pattern": "^E_[A-Z_]+$", "type": "string"}
    wrong = _object(common | {"args": anything, "error": code})
    if operation == UNKNOWN_OPERATION:
        return _object(wrong["properties"] | {"operation": {"type": "string"}}, wrong["required"])
    asked, config = OPERATIONS[operation], "config" in OPERATIONS[operation].settings
    args, out = (_mapping_schema(part, config) for part in (asked.arguments, asked.results))
    right = _object(common | {"args": args, "out": out})
    return {"else": wrong, "if": {"required": ["out"]}, "then": right}


def schema() -> Json:
    """Return the JSON Schema of the operations' files; ``$defs/manifest`` is the manifest's."""
    names = (*OPERATIONS, UNKNOWN_OPERATION)
    arrays = sorted(DTYPES)
    hex_float = r"^(nan|-?inf|-?0x[01]\.[0-9a-f]+p[+-][0-9]+)$"
    # Only requests that are at fault have other names or values than these.
    scalars = {"type": ["boolean", "integer", "null", "string"]}
    any_mapping = _names(_ANY_NAME, {"anyOf": [scalars, _ref("formats_like")]})
    records = {
        name: _object(
            {field.name: _single_schema(field) for field in fields},
            [field.name for field in fields if not field.is_optional],
        )
        for name, fields in RECORDS.items()
    }
    defs: Json = {kind: _array_schema(kind) for kind in arrays}
    defs |= records | {
        "formats_like": _names(_ANY_NAME, scalars),
        "heads": {"anyOf": [_ref("i64"), _ref("bigint")]},
        "hex_float": {"pattern": hex_float, "type": "string"},
        "manifest": _manifest_schema(),
        "natural": {"minimum": 0, "type": "integer"},
        "q": {"anyOf": [_ref("i16"), _ref("i32")]},
        "single_float": _object({"f64": _ref("hex_float")}),
        "value": {"anyOf": [scalars, any_mapping, *(_ref(kind) for kind in arrays)]},
        "words": {"anyOf": [_ref("u16"), _ref("i64")]},
    }
    defs |= {f"case_{name}": _case_schema(name) for name in names}
    number = _ref("hex_float")
    text = {"type": "string"}
    tolerance = {"absolute": number, "relative": number, "results": text, "rule": text}
    properties = {
        "cases": {"minItems": 1, "type": "array"},
        "operation": {"enum": sorted(names)},
        "spec_version": text,
        "tolerance": _object(tolerance),
    }
    per_operation = [
        {
            "if": {"properties": {"operation": {"const": name}}},
            "then": {"properties": {"cases": {"items": _ref(f"case_{name}")}}},
        }
        for name in names
    ]
    return {
        "$defs": defs,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": per_operation,
        "title": "Test vectors of one operation of revrnn",
    } | _object(properties, ("cases", "operation", "spec_version"))


def _manifest_schema() -> Json:
    entry = _object(
        {"cases": _INTEGER, "sha256": {"pattern": "^[0-9a-f]{64}$", "type": "string"}}, ("sha256",)
    )
    files = _names(r"^[a-z_]+\.json$", entry)
    flags = _names(_NAME, {"pattern": r"^.+\.$", "type": "string"})
    text = {"type": "string"}
    return _object({"files": files, "flags": flags, "spec_version": text, "total": _INTEGER})
