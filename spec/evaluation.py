"""The one way to ask an implementation for an operation of the specification (EVAL-001).

An implementation is an :class:`Implementation`; :func:`prepare` checks a request against the
specification, with the same code for the same fault in every implementation (ERR-002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from .config import LAYOUTS, Config, check_max_forget_bits, check_slice_size, formats_from_dict
from .errors import RevRNNError, one_of
from .formats import HEAD_START, Formats, check_format_field, is_int
from .operations import OPERATIONS, Argument, arguments_of

Arrays = Mapping[str, Any]

# The implementations of this project, by the names used in tests and reports.
IMPLEMENTATIONS: Final = {
    "numpy": "revrnn.numpy_ref.evaluate",
    "naive": "revrnn.second_opinion.evaluate",
    "torch": "revrnn.torch_impl.evaluate",
    "torch-native": "revrnn.torch_impl.evaluate_native",
    "jax": "revrnn.jax_impl.evaluate",
}

_DTYPES: Final = {
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "bool": np.dtype(np.bool_),
    "bigint": np.dtype(object),
}
KINDS: Final = ("operand", "weight", "bias", "state")


class Implementation(Protocol):
    """What the tests, the vectors and the conformance suite ask of an implementation.

    It may also have ``profiles``, a tuple of what it claims (CONF-001); without it that is all.
    """

    name: str
    layouts: tuple[str, ...]

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Compute one operation (EVAL-001).

        Raises:
            RevRNNError: with the code that the specification names.
        """
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A request that passed every check.

    Attributes:
        operation: name of the operation.
        arrays: its arrays, of the right type, shape and range.
        settings: its other arguments, defaults filled in.
        config: its configuration, where it has one.
        formats: its formats, where it has them apart from a configuration.
    """

    operation: str
    arrays: dict[str, npt.NDArray[Any]]
    settings: dict[str, Any]
    config: Config | None
    formats: Formats

    @property
    def stack(self) -> Config:
        """The configuration of an operation that must have one."""
        assert self.config is not None, self.operation
        return self.config


def load(name: str) -> Implementation:
    """Import one of :data:`IMPLEMENTATIONS` and return it."""
    implementation: Implementation = import_module(IMPLEMENTATIONS[name]).IMPLEMENTATION
    return implementation


def outcome(
    implementation: Implementation, operation: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the results of an operation, or ``{"error": CODE}``."""
    try:
        return implementation.evaluate(operation, arguments)
    except RevRNNError as error:
        return {"error": error.code}


def prepare(
    operation: str, arguments: Mapping[str, Any], layouts: tuple[str, ...] = LAYOUTS
) -> Request:
    """Check a request in the order of ERR-002 and return it with defaults filled in.

    Args:
        operation: a name of :data:`revrnn.operations.OPERATIONS`.
        arguments: values by name.
        layouts: the buffer layouts that the implementation offers.

    Raises:
        RevRNNError: the first fault; nothing has been computed then.
    """
    if not isinstance(operation, str) or operation not in OPERATIONS:
        raise RevRNNError("E_OP", "operation", repr(operation), one_of(OPERATIONS))
    given_arguments: object = arguments
    if not isinstance(given_arguments, Mapping):
        given = f"a {type(given_arguments).__name__}"
        raise RevRNNError("E_ARGUMENT", "arguments", given, "a mapping of names to values")
    names = OPERATIONS[operation].settings
    settings = {name: _plain(arguments[name]) for name in names if name in arguments}
    config = _config(settings) if "config" in names else None
    formats = config.formats if config else formats_from_dict(settings.get("formats"))
    expected = arguments_of(operation, config)
    _check_names(operation, arguments, settings, expected)
    _check_settings(operation, settings, arguments)
    layout = config.buffer if config else settings.get("layout", "stream")
    if layout not in layouts and (config is None or config.forgetting):
        raise RevRNNError("E_UNSUPPORTED", "buffer", repr(layout), one_of(layouts))
    expected = tuple(a for a in expected if a.name in arguments)
    arrays = {a.name: arguments[a.name] for a in expected}
    _check_arrays(arrays, expected, layout, _axes(config, settings))
    arrays = {name: _plain_array(value) for name, value in arrays.items()}
    return Request(operation, arrays, settings, config, formats)


def _plain_array(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array as every framework takes it: row-major, writable, of no other class."""
    flags = value.flags
    if type(value) is np.ndarray and flags.c_contiguous and flags.aligned and flags.writeable:
        return value
    return np.array(value, order="C", subok=False)


def _plain(value: Any) -> Any:
    """Return Python's whole number for NumPy's, anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def _config(settings: dict[str, Any]) -> Config:
    given = settings.get("config")
    if isinstance(given, Config):
        return given
    if not isinstance(given, Mapping):
        raise RevRNNError("E_ARGUMENT", "config", repr(given), "a mapping (EVAL-003)")
    return Config.from_dict(given)


# ERR-002: names first, then values.
_OPTIONAL: Final[dict[str, object]] = {"formats": None, "trace": False}


def _check_names(
    operation: str,
    arguments: Mapping[str, Any],
    settings: dict[str, Any],
    expected: tuple[Argument, ...],
) -> None:
    names = OPERATIONS[operation].settings
    known = [*names, *(a.name for a in expected)]
    absent = {a.name for a in expected if a.optional}
    for name in arguments:
        if name not in known:
            raise RevRNNError("E_ARGUMENT", name, "an unknown name", one_of(known))
    for name in known:
        if name not in arguments and name not in absent:
            if name not in _OPTIONAL:
                raise RevRNNError("E_ARGUMENT", name, "nothing", "it must be given")
            settings[name] = _OPTIONAL[name]


def _check_settings(operation: str, settings: dict[str, Any], arguments: Mapping[str, Any]) -> None:
    bits = {"dequantise": (0, 31), "tanh": (8, 27), "sigmoid": (8, 26), "forget_gate": (8, 26)}
    if "kind" in settings:
        _check_choice("kind", settings["kind"], KINDS)
    if "layout" in settings:
        _check_choice("layout", settings["layout"], LAYOUTS)
    if "states" in settings:
        _check_choice("states", settings["states"], ("reversed", "stored"))
    if "trace" in settings:
        _check_choice("trace", settings["trace"], (True, False))
    if "bits" in settings:
        _check_int("bits", settings["bits"], *bits[operation])
    if "k" in settings:
        _check_int("k", settings["k"], 0, 31)
    if "max_forget_bits" in settings:
        check_max_forget_bits(settings["max_forget_bits"])
    if "z_max" in settings:
        check_format_field("z_max", settings["z_max"], 512, 1024)
    if operation == "view":
        check_format_field("state_bits", settings["state_bits"], 16, 24)
        check_format_field("view_bits", settings["view_bits"], 6, 13)
    if "slice_size" in settings:
        h = arguments["h"]
        if isinstance(h, np.ndarray) and h.ndim == 2:
            check_slice_size(settings["slice_size"], h.shape[1])
    if operation.startswith("cell"):
        config = settings["config"] = _config(settings)
        if config.num_layers != 1:
            raise RevRNNError("E_ARGUMENT", "num_layers", config.num_layers, "1 for one cell")
        if config.slice_size:
            raise RevRNNError("E_SLICE", "slice_size", config.slice_size, "0 for one cell")


def _check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    # True == 1, but 1 is no flag
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise RevRNNError("E_ARGUMENT", name, repr(value), one_of(allowed))


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not is_int(value) or not low <= value <= high:
        raise RevRNNError("E_ARGUMENT", name, repr(value), f"a whole number {low} … {high}")


def _axes(config: Config | None, settings: dict[str, Any]) -> dict[str, int]:
    if config is None:
        return {"D": settings.get("slice_size", 0)}
    return {
        "L": config.num_layers,
        "H": config.hidden_size,
        "G": config.group_size,
        "I": config.input_size,
        "D": config.slice_size,
    }


def _typed(argument: Argument, layout: str) -> Argument:
    """Give ``heads``, ``words`` and ``flags`` the type and shape of their layout (EVAL-006)."""
    if argument.name == "heads":
        return Argument("heads", "bigint" if layout == "bigint" else "i64", argument.shape)
    if argument.name == "words":
        if layout == "wordlist":
            return Argument("words", "i64", "P B G")
        return Argument("words", "u16", "W" if layout == "stream" else "0")
    if argument.name == "flags" and layout != "wordlist":
        return Argument("flags", "u8", "0")
    return argument


def _check_arrays(
    arrays: dict[str, Any], expected: tuple[Argument, ...], layout: str, axes: dict[str, int]
) -> None:
    typed = [_typed(argument, layout) for argument in expected]
    for argument in typed:
        _check_dtype(argument, arrays[argument.name])
    for argument in typed:
        _check_shape(argument, arrays[argument.name], axes)
    for argument in typed:
        check_finite(argument.name, arrays[argument.name])
    for argument in typed:
        _check_range(argument, arrays[argument.name], layout)


def _check_dtype(argument: Argument, value: object) -> None:
    wanted = _DTYPES[argument.dtype]
    given = getattr(value, "dtype", type(value).__name__)
    if not isinstance(value, np.ndarray) or value.dtype != wanted:
        raise RevRNNError("E_DTYPE", argument.name, f"elements of {given}", f"{wanted} array")
    if argument.dtype == "bigint" and not all(is_int(element) for element in value.flat):
        raise RevRNNError("E_DTYPE", argument.name, "elements of other types", "whole numbers")


def _check_shape(argument: Argument, value: npt.NDArray[Any], axes: dict[str, int]) -> None:
    if argument.shape == "*":
        if value.ndim == 0:
            raise RevRNNError("E_SHAPE", argument.name, "no axes", "at least one axis")
        return
    names = argument.shape.split()
    allowed = f"shape [{', '.join(names)}] with {axes}"
    if value.ndim != len(names):
        raise RevRNNError("E_SHAPE", argument.name, f"shape {list(value.shape)}", allowed)
    for name, length in zip(names, value.shape, strict=True):
        wanted = _length(name, length, axes)
        if (
            length != wanted
            or (name in "BMNKG" and length == 0)
            or (name in "KIH" and length > 2**20)
        ):
            raise RevRNNError("E_SHAPE", argument.name, f"shape {list(value.shape)}", allowed)


def _length(name: str, length: int, axes: dict[str, int]) -> int:
    if name.isdigit():
        return int(name)
    if name == "T+1":
        return axes["T"] + 1
    return axes.setdefault(name, length)


def check_finite(name: str, value: npt.NDArray[Any]) -> None:
    """Raise ``E_NONFINITE`` if a float array holds NaN or an infinity (QNT-004)."""
    if value.dtype == np.float32 and not np.isfinite(value).all():
        where = np.argwhere(~np.isfinite(value))[0].tolist()
        raise RevRNNError(
            "E_NONFINITE", name, f"{value[tuple(where)]} at {where}", "finite numbers"
        )


def _check_range(argument: Argument, value: npt.NDArray[Any], layout: str) -> None:
    low, high = _range(argument, layout)
    if low is None or value.size == 0:
        return
    smallest, largest = int(value.min()), int(value.max())
    if smallest < low or (high is not None and largest > high):
        given = f"values {smallest} … {largest}"
        raise RevRNNError("E_RANGE", argument.name, given, f"{low} … {high}")


def _range(argument: Argument, layout: str) -> tuple[int | None, int | None]:
    if argument.magnitude is not None:
        return -argument.magnitude, argument.magnitude
    if argument.name == "z":
        return 1, 1024  # BUF-001
    if argument.name == "flags":
        return 0, 1  # EVAL-006
    if argument.name == "gains":
        return 0, 2**16  # SEQ-012
    if argument.name == "words" and layout == "wordlist":
        return 0, 2**63 - 1
    if argument.name == "heads":
        # BUF-010, BUF-020, BUF-030
        return {"bigint": (0, None), "wordlist": (0, 2**63 - 1), "stream": (HEAD_START, 2**31 - 1)}[
            layout
        ]
    return None, None


def empty_store(layout: str, rows: int, units: int) -> dict[str, npt.NDArray[Any]]:
    """Return ``words`` and ``flags`` of an empty store (EVAL-006)."""
    flags = np.zeros(0, np.uint8)
    if layout == "wordlist":
        return {"words": np.zeros((0, rows, units), np.int64), "flags": flags}
    return {"words": np.zeros(0, np.uint16), "flags": flags}


def fresh_heads(layout: str, rows: int, units: int) -> npt.NDArray[Any]:
    """Return the heads of a fresh buffer, ``[rows, units]`` (BUF-010, BUF-020, BUF-030)."""
    if layout == "stream":
        return np.full((rows, units), HEAD_START, np.int64)
    if layout == "wordlist":
        return np.zeros((rows, units), np.int64)
    heads = np.empty((rows, units), object)
    heads.fill(0)
    return heads
