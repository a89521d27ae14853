"""The one way to ask an implementation for an operation of the specification (EVAL-001).

An implementation is an :class:`Implementation`; :func:`prepare` checks a request against the
table of :mod:`.operations`, with the same code for the same fault in every implementation
(ERR-002), and :meth:`Request.results` gives what was computed the names and types of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from .array_checks import check_arrays
from .config import LAYOUTS, Config, formats_from_dict
from .errors import RevRNNError, check_one_of, one_of, shown
from .formats import HEAD_START, Formats
from .kinds import DTYPES, RECORDS, Field, check_names, check_values, plain
from .operations import OPERATIONS, Operation, arguments_of, axes_of, results_of

# The implementations of this project, by the names used in tests and reports.
IMPLEMENTATIONS: Final = {
    "numpy": "revrnn.numpy_ref.evaluate",
    "naive": "revrnn.second_opinion.evaluate",
    "torch": "revrnn.torch_impl.evaluate",
    "torch-native": "revrnn.torch_impl.evaluate_native",
    "jax": "revrnn.jax_impl.evaluate",
    "jax-native": "revrnn.jax_impl.evaluate_native",
}


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
        arrays: its arrays, of the right type, shape and range: NumPy's, as :func:`prepare` gives
            them; an implementation may put its framework's in their place.
        settings: its other arguments, defaults filled in; ``config`` and ``formats`` as
            :class:`Config` and :class:`Formats`.
        config: its configuration, where it has one.
        formats: its formats, where it has them apart from a configuration.
    """

    operation: str
    arrays: dict[str, Any]
    settings: dict[str, Any]
    config: Config | None
    formats: Formats

    @property
    def stack(self) -> Config:
        """The configuration of an operation that must have one."""
        assert self.config is not None, self.operation
        return self.config

    @property
    def layout(self) -> str:
        """The layout of the buffer."""
        layout: str = self.config.buffer if self.config else self.settings["layout"]
        return layout

    def values(self) -> list[Any]:
        """Return all arguments in the order of the table."""
        given = self.settings | self.arrays
        fields = arguments_of(self.operation, self.config)
        return [given[field.name] for field in fields if field.name in given]

    def as_sequence(self) -> Request:
        """Return a request for one step of a cell as one for a sequence of one step."""
        if OPERATIONS[self.operation].profile != "cell":
            return self
        x = self.arrays["x"][None]
        mask = np.ones(x.shape[:2], np.bool_)
        return replace(self, arrays=self.arrays | {"x": x, "mask": mask})

    def results(self, computed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the results that the table names, in its order and with its types.

        Args:
            computed: these results and perhaps others, arrays in any type that holds them.

        Raises:
            AssertionError: if a number leaves its type.
        """
        fields = results_of(self.operation, self.config, self.settings)
        return {field.name: _typed(field, computed[field.name]) for field in fields}


def _typed(field: Field, value: Any) -> Any:
    """Return a result with its type; arrays are copied."""
    if not field.is_array:
        return np.float64(value) if field.kind.type == "f64" else int(value)
    if field.kind.type == "float":
        return np.array(value)
    array = np.array(value, DTYPES[field.kind.type])
    fits = field.kind.type == "f32" or np.array_equal(array, value)
    assert fits, f"{field.name} does not fit {field.kind.type}"
    return array


def one_result(function: Callable[..., Any]) -> Callable[[Request], dict[str, Any]]:
    """Make an operation of one result from a function of its arguments in their order."""

    def operation(request: Request) -> dict[str, Any]:
        (result,) = OPERATIONS[request.operation].results
        return {result.name: function(*request.values())}

    return operation


def load(name: str) -> Implementation:
    """Import one of :data:`IMPLEMENTATIONS` and return it.

    Raises:
        RevRNNError: ``E_ARGUMENT`` for another name.
        ModuleNotFoundError: if its package is missing, with the command that installs it.
    """
    check_one_of("name", name, IMPLEMENTATIONS)
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
        raise RevRNNError("E_OP", "operation", shown(operation), one_of(OPERATIONS))
    given_arguments: object = arguments
    if not isinstance(given_arguments, Mapping):
        given = f"a {type(given_arguments).__name__}"
        raise RevRNNError("E_ARGUMENT", "arguments", given, "a mapping of names to values")
    wanted = OPERATIONS[operation]
    settings = {name: plain(arguments[name]) for name in wanted.settings if name in arguments}
    config = _config(settings) if "config" in wanted.settings else None
    formats = config.formats if config else formats_from_dict(settings.get("formats"))
    if config is not None and config.num_layers > len(arguments):
        given = f"{config.num_layers} layers and {len(arguments)} arguments"
        raise RevRNNError("E_ARGUMENT", "num_layers", given, "three arrays for each layer")
    expected = arguments_of(operation, config)
    check_names(arguments, expected)
    settings |= {
        field.name: field.default
        for field in expected
        if field.name not in arguments and not field.is_array
    }
    check_values(expected, settings, lambda axis: _length(axis, expected, arguments))
    if config is not None:
        _check_config(wanted, config)
    layout = config.buffer if config else settings.get("layout", layouts[0])
    if layout not in layouts and (config is None or config.forgetting):
        raise RevRNNError("E_UNSUPPORTED", "buffer", shown(layout), one_of(layouts))
    settings |= {n: v for n, v in {"config": config, "formats": formats}.items() if n in settings}
    fields = [
        field
        for field in arguments_of(operation, config, settings)
        if field.is_array and field.name in arguments
    ]
    check_arrays(fields, arguments, axes_of(config, settings))
    arrays = {field.name: _plain_array(arguments[field.name]) for field in fields}
    return Request(operation, arrays, settings, config, formats)


def _plain_array(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array as every framework takes it: row-major, writable, of no other class."""
    flags = value.flags
    if type(value) is np.ndarray and flags.c_contiguous and flags.aligned and flags.writeable:
        return value
    return np.array(value, order="C", subok=False)


def _config(settings: dict[str, Any]) -> Config:
    given = settings.get("config")
    if not isinstance(given, Config | Mapping):
        raise RevRNNError("E_ARGUMENT", "config", shown(given), "a mapping (EVAL-003)")
    return Config.of(given)


def _length(axis: str, expected: tuple[Field, ...], arguments: Mapping[str, Any]) -> int | None:
    """Return the length of an axis from the first array that has it, if it has as many axes."""
    field = next(
        field for field in expected if isinstance(field.shape, tuple) and axis in field.axes
    )
    value = arguments[field.name]
    fits = isinstance(value, np.ndarray) and value.ndim == len(field.axes)
    return value.shape[field.axes.index(axis)] if fits else None


def _check_config(operation: Operation, config: Config) -> None:
    """Check that fields of ``config`` have the values that an operation asks for (EVAL-007)."""
    for field in RECORDS["config"]:
        wanted, value = operation.config.get(field.name), getattr(config, field.name)
        if wanted is not None and value != wanted:
            allowed = f"{wanted} in {operation.name}"
            raise RevRNNError(field.kind.error, field.name, value, allowed)


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
