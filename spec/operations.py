"""The operations of the evaluation interface, from ``data/operations.json`` (EVAL-004 … 009).

An axis of a shape is a number, or a letter bound by ``config`` (``L H G I D``, and ``N`` for the
gates), or else bound by the first array that has it (``T B M N K W P F``); ``T+1``, ``L-1`` and
``N*H`` are computed from these; ``I_k`` is the width of layer ``k``'s input; ``*`` stands for any
number of axes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from .config import Config
from .kinds import TABLE, Field


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of free or configured length.

    Attributes:
        means: what it counts.
        least: the smallest length allowed.
        most: the largest one, or ``None``.
    """

    means: str
    least: int = 0
    most: int | None = None


AXES: Final = {name: Axis(**entry) for name, entry in TABLE["axes"].items()}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: what :func:`revrnn.evaluation.prepare` is asked for.
        profile: the part of the specification it belongs to (CONF-001).
        rules: the rules it computes.
        arguments: what it takes, single values before arrays; ``{k}`` in names not yet expanded.
        results: what it gives.
        config: fields of ``config`` that must have these values.
        errors: codes that only the computation can give (ERR-002, 8).
    """

    name: str
    profile: str
    rules: tuple[str, ...]
    arguments: tuple[Field, ...]
    results: tuple[Field, ...]
    config: Mapping[str, int]
    errors: tuple[str, ...]

    @classmethod
    def read(cls, name: str, entry: Mapping[str, Any]) -> Operation:
        """Build an operation from its entry in the table."""
        arguments, results = (tuple(_fields(entry[part])) for part in ("arguments", "results"))
        rules, errors = (tuple(entry.get(part, ())) for part in ("rules", "errors"))
        config = entry.get("config", {})
        return cls(name, entry["profile"], rules, arguments, results, config, errors)

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of its arguments that are not arrays."""
        return tuple(field.name for field in self.arguments if not field.is_array)


def _fields(entries: Iterable[Any]) -> Iterator[Field]:
    """Give the fields of a list in the table; a text stands for a list of its own."""
    for entry in entries:
        if isinstance(entry, str):
            yield from _fields(TABLE["lists"][entry])
        else:
            yield Field.read(entry)


OPERATIONS: Final = {
    name: Operation.read(name, entry) for name, entry in TABLE["operations"].items()
}


def arguments_of(
    operation: str, config: Config | None, settings: Mapping[str, Any] | None = None
) -> tuple[Field, ...]:
    """Return the arguments that an operation takes, in their order.

    Args:
        operation: a name of :data:`OPERATIONS`.
        config: its configuration, where it has one.
        settings: its arguments that are not arrays. Without them the kinds and shapes that depend
            on one are left open.
    """
    return _present(OPERATIONS[operation].arguments, config, settings)


def results_of(
    operation: str, config: Config | None, settings: Mapping[str, Any] | None = None
) -> tuple[Field, ...]:
    """Return the results that an operation gives; arguments as of :func:`arguments_of`.

    Without settings these are all that any settings would give.
    """
    return _present(OPERATIONS[operation].results, config, settings)


def _present(
    fields: Iterable[Field], config: Config | None, settings: Mapping[str, Any] | None
) -> tuple[Field, ...]:
    values = dict(settings or {})
    if config is not None:
        values["layout"] = config.buffer

    def value(name: str) -> Any:
        return values[name] if name in values else getattr(config, name)

    chosen = []
    for layered, group in groupby(fields, lambda field: "{k}" in field.name):
        parts = list(group)
        for layer in range(config.num_layers if config is not None and layered else 1):
            chosen += [_of_layer(field, layer) for field in parts] if layered else parts
    if config is not None:
        values.setdefault("trace", True)
        chosen = [field for field in chosen if field.is_present(value)]
    return tuple(chosen if settings is None else (_settled(field, values) for field in chosen))


def _of_layer(field: Field, layer: int) -> Field:
    """Return a parameter of one layer (CELL-003)."""
    width = "I" if layer == 0 else "H"
    axes = tuple(width if axis == "I_k" else axis for axis in field.axes)
    return replace(field, name=field.name.format(k=layer), shape=axes)


def _settled(field: Field, values: Mapping[str, Any]) -> Field:
    """Choose kind and shape where they depend on an argument."""
    of, shape = field.of, field.shape
    if isinstance(of, Mapping):
        of = of[values[of["by"]]]
    if isinstance(shape, Mapping):
        shape = tuple(shape[values[shape["by"]]])
    return replace(field, of=of, shape=shape)


def axes_of(config: Config | None, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the lengths of the axes that ``config`` or ``slice_size`` binds."""
    if config is None:
        return {"D": settings["slice_size"]} if "slice_size" in settings else {}
    return {
        "L": config.num_layers,
        "H": config.hidden_size,
        "G": config.group_size,
        "I": config.input_size,
        "D": config.slice_size,
        "N": config.num_gates,
    }


def length_of(axis: str, axes: Mapping[str, int]) -> int:
    """Return the length of an axis.

    Raises:
        KeyError: if it is a letter that nothing has bound yet.
    """
    if axis.isdigit():
        return int(axis)
    left, operator, right = re.fullmatch(r"(\w)([-+*]?)(\w?)", axis).groups()  # type: ignore[union-attr]
    if operator == "*":
        return axes[left] * axes[right]
    return axes[left] + int(f"{operator}{right}" if operator else 0)
