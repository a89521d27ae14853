"""The JSON Schema of the vectors: what every file, case and value of them looks like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from revrnn import Config
from revrnn.comparison import is_float_result
from revrnn.operations import OPERATIONS, arguments_of
from revrnn.wire import DTYPES

Json = dict[str, Any]

# A name that no operation has, for the cases of E_OP.
UNKNOWN_OPERATION: Final = "no_such_operation"

_RANGES: Final = {
    "i16": (-(2**15), 2**15 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
}


def _object(properties: Json, required: Iterable[str] | None = None, **more: Any) -> Json:
    """Return the schema of a mapping, all of whose names are required unless said otherwise."""
    names = properties if required is None else required
    return {
        "additionalProperties": False,
        "properties": properties,
        "required": sorted(names),
        "type": "object",
    } | more


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _array_schema(kind: str) -> Json:
    if kind in _RANGES:
        low, high = _RANGES[kind]
        element: Json = {"maximum": high, "minimum": low, "type": "integer"}
    elif kind == "bool":
        element = {"type": "boolean"}
    elif kind in ("f32", "f64"):
        element = _ref("hex_float")
    else:
        element = {"pattern": "^(0|-?[1-9][0-9]*)$", "type": "string"}
    lengths = {"items": {"minimum": 0, "type": "integer"}, "type": "array"}
    data = {"items": element, "type": "array"}
    return _object({"data": data, "dtype": {"const": kind}, "shape": lengths})


_INTEGER: Final[Json] = {"type": "integer"}
_SETTINGS: Final[dict[str, Json]] = {
    "bits": _INTEGER,
    "config": {"$ref": "#/$defs/config"},
    "formats": {"$ref": "#/$defs/formats"},
    "k": _INTEGER,
    "kind": {"enum": ["operand", "weight", "bias", "state"]},
    "layout": {"enum": ["stream", "wordlist", "bigint"]},
    "max_forget_bits": {"type": ["integer", "null"]},
    "slice_size": _INTEGER,
    "state_bits": _INTEGER,
    "states": {"enum": ["reversed", "stored"]},
    "trace": {"type": "boolean"},
    "view_bits": _INTEGER,
    "z_max": {"type": ["integer", "null"]},
}

# Types of results (EVAL-004 … 009); heads and words have those of their layout.
_STATE: Final = {"h": "i32", "c": "i32", "heads": "heads", "words": "words", "flags": "u8"}
_TRACE: Final = {"h_steps": "i32", "c_steps": "i32", "heads_steps": "heads", "words_steps": "i64"}
_RESULTS: Final[dict[str, dict[str, str]]] = {
    "quantise": {"q": "q"},
    "dequantise": {"x": "f32"},
    "round_shift": {"v": "i64"},
    "product": {"s": "i64"},
    "tanh": {"y": "i32"},
    "sigmoid": {"y": "i32"},
    "forget_gate": {"z": "i32"},
    "view": {"a": "i16"},
    "revmul": {name: kind for name, kind in _STATE.items() if name != "c"},
    "revmul_inverse": {name: kind for name, kind in _STATE.items() if name != "c"},
    "cell_forward": _STATE,
    "cell_reverse": _STATE,
    "sequence_forward": _STATE | _TRACE | {"outputs": "i32", "slices": "i32", "wraps": "natural"},
    "sequence_reverse": _STATE | _TRACE,
    "sequence_storage": {
        "gate_counts": "i64",
        "ideal_bits": "single_float",
        "plain_bits": "natural",
        "stored_bits": "natural",
    },
    "sequence_gradient": {"grad_x": "f64", "grad_h": "f64", "grad_c": "f64"},
}
_OPTIONAL: Final = {
    "c",
    "heads",
    "words",
    "flags",
    "slices",
    "gains",
    "grad_c",
    "formats",
    "trace",
    *_TRACE,
}
_PARAMETERS: Final = {"^weight_(ih|hh)_l(0|[1-9][0-9]*)$": "i16", "^bias_l(0|[1-9][0-9]*)$": "i32"}


def _arguments_schema(operation: str) -> Json:
    """Return the schema of a right request."""
    settings = OPERATIONS[operation].settings
    # The widest configuration takes every name that any other takes.
    config = Config("revlstm", 1, 2, 2, slice_size=1) if "config" in settings else None
    arrays = {a.name: a.dtype for a in arguments_of(operation, config)}
    properties = {name: _SETTINGS[name] for name in settings}
    properties |= {n: _ref(k) for n, k in arrays.items() if not n.startswith(("weight", "bias"))}
    more = {}
    if config:
        more["patternProperties"] = {name: _ref(kind) for name, kind in _PARAMETERS.items()}
    always = {"words", "flags", "heads"} if config is None else set()
    optional = _OPTIONAL - always
    return _object(properties, (n for n in properties if n not in optional), **more)


def _results_schema(operation: str) -> Json:
    results = _RESULTS[operation]
    properties = {name: _ref(kind) for name, kind in results.items()}
    more = {}
    if operation == "sequence_gradient":
        names = {name.replace("^", "^grad_"): _ref("f64") for name in _PARAMETERS}
        more["patternProperties"] = names
        assert all(is_float_result(name) for name in results)
    required = (n for n in properties if n not in _OPTIONAL or operation.startswith("revmul"))
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
    anything = {
        "additionalProperties": False,
        "patternProperties": {"^[a-z][a-z0-9_]*$": _ref("value")},
        "type": "object",
    }
    code = {"pattern": "^E_[A-Z_]+$", "type": "string"}
    wrong = _object(common | {"args": anything, "error": code})
    if operation == UNKNOWN_OPERATION:
        return wrong
    args, out = _arguments_schema(operation), _results_schema(operation)
    right = _object(common | {"args": args, "out": out})
    return {"else": wrong, "if": {"required": ["out"]}, "then": right}


def schema() -> Json:
    """Return the JSON Schema of the operations' files; ``$defs/manifest`` is the manifest's."""
    names = (*OPERATIONS, UNKNOWN_OPERATION)
    arrays = sorted(DTYPES)
    hex_float = r"^(nan|-?inf|-?0x[01]\.[0-9a-f]+p[+-][0-9]+)$"
    # Only requests that are at fault have other names or values than these.
    scalars = {"type": ["boolean", "integer", "null", "string"]}
    any_mapping = {
        "additionalProperties": False,
        "patternProperties": {"^[a-z][a-z0-9_]*$": {"anyOf": [scalars, _ref("formats_like")]}},
        "type": "object",
    }
    formats = ("state_bits", "operand_bits", "lstm_view_bits", "weight_bits")
    config: Json = {
        "buffer": _SETTINGS["layout"],
        "cell": {"enum": ["revgru", "revlstm"]},
        "forgetting": {"type": "boolean"},
        "formats": _ref("formats"),
        "hidden_size": _INTEGER,
        "input_size": _INTEGER,
        "max_forget_bits": _SETTINGS["max_forget_bits"],
        "num_layers": _INTEGER,
        "slice_size": _INTEGER,
        "z_max": _SETTINGS["z_max"],
        "p_max": _SETTINGS["z_max"],
    }
    defs: Json = {kind: _array_schema(kind) for kind in arrays}
    defs |= {
        "config": _object(config, ("cell", "input_size", "hidden_size")),
        "formats": _object(dict.fromkeys(formats, _INTEGER), ()),
        "formats_like": {
            "additionalProperties": False,
            "patternProperties": {"^[a-z][a-z0-9_]*$": scalars},
            "type": "object",
        },
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
    files = {
        "additionalProperties": False,
        "patternProperties": {r"^[a-z_]+\.json$": entry},
        "type": "object",
    }
    flags = {
        "additionalProperties": False,
        "patternProperties": {"^[a-z][a-z0-9_]*$": {"pattern": r"^.+\.$", "type": "string"}},
        "type": "object",
    }
    text = {"type": "string"}
    return _object({"files": files, "flags": flags, "spec_version": text, "total": _INTEGER})
