"""Random contents of requests, by styles that reach the edges of every range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.config import Config
from revrnn.evaluation import empty_store
from revrnn.kinds import DTYPES, KINDS, Kind
from revrnn.operations import arguments_of, axes_of, length_of

Arguments = dict[str, Any]

_I32: Final = KINDS["bias"].ends
_OPERANDS: Final[dict[str, Any]] = {
    "zero": 0,
    "small": 300,
    "usual": 3000,
    "large": 20000,
    "saturated": (-32512, 32512, -1, 0),
}

# What each kind may be drawn as, from the simplest, so that failures can be made smaller: a number
# is a standard deviation, a tuple is chosen from, "any" takes all magnitudes and the ends.
STYLES: Final[dict[str, dict[str, Any]]] = {
    "operand": _OPERANDS,
    "weight": _OPERANDS,
    # Saturated biases drive gates to both of their ends.
    "bias": {
        "zero": 0,
        "small": 2**20,
        "usual": 2**23,
        "large": 2**26,
        "saturated": (_I32[0], -(2**27), 0, 2**27, _I32[1]),
    },
    "state": {
        "zero": 0,
        "usual": 2**22,
        "large": 2**28,
        "extreme": (*(_I32[0] + n for n in (0, 1, 1023)), -1, 0, _I32[1] - 1023, _I32[1]),
        "any": "any",
    },
    "number": {"any": "any"},
    "sum": {"any": "any"},
    "gate": {
        "keep all": (1024,),
        "forget all": (1,),
        "uniform": tuple(range(1, 1025)),
        "edges": (1, 2, 511, 512, 513, 1019, 1023, 1024),
    },
    # Dropout's, one, and the ends of the range.
    "gain": {"usual": (0, 1, 4096, 5851, 65535, 65536)},
    "real": {"usual": 1, "any": "any"},
    "stream_head": {
        "fresh": (2**15,),
        "random": "any",
        "edges": (2**15, 2**15 + 1, 2**21 - 1, 2**21, 2**31 - 2, 2**31 - 1),
    },
    "wordlist_head": {
        "fresh": (0,),
        "random": "any",
        "edges": (0, 1, 2**53 - 1, 2**53, 2**63 - 2, 2**63 - 1),
    },
    "bigint_head": {
        "fresh": (0,),
        "random": tuple(3**n for n in range(0, 100, 7)),
        "edges": (0, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64),
    },
    "mask": dict.fromkeys(("all", "prefix", "random", "empty row", "none")),
}
WEIGHT_STYLES: Final = tuple(STYLES["weight"])
STATE_STYLES: Final = tuple(STYLES["state"])
MASK_STYLES: Final = tuple(STYLES["mask"])
HEAD_STYLES: Final = tuple(STYLES["stream_head"])
GATE_STYLES: Final = tuple(STYLES["gate"])


@dataclass(frozen=True)
class Shape:
    """The sizes of a sequence, and whether there are gains between its layers (SEQ-012)."""

    steps: int
    rows: int
    gains: bool = False


def contents(
    kind: str, generator: np.random.Generator, axes: tuple[int, ...], style: str
) -> npt.NDArray[Any]:
    """Return an array of a kind of the table of operations.

    Args:
        kind: a name of :data:`revrnn.kinds.KINDS`.
        generator: what draws.
        axes: the shape.
        style: one of the kind's :data:`STYLES`.
    """
    how, dtype = STYLES[kind][style], DTYPES[KINDS[kind].type]
    if kind == "mask":
        return _mask(generator, axes, style)
    values: npt.NDArray[Any]
    if isinstance(how, tuple):
        values = np.array(how, dtype)[generator.integers(len(how), size=axes)]
    elif how == "any":
        real = kind == "real"
        values = _reals(generator, axes) if real else _integers(generator, axes, KINDS[kind])
    else:
        values = generator.normal(size=axes) * how
        values = values if kind == "real" else np.rint(values).clip(*KINDS[kind].ends)
    return values.astype(dtype)


def _integers(
    generator: np.random.Generator, axes: tuple[int, ...], kind: Kind
) -> npt.NDArray[np.int64]:
    """Return whole numbers of all magnitudes of a kind, and among them its ends."""
    low, high = kind.ends
    bits = generator.integers(0, high.bit_length() + 1, axes).astype(object)
    least, most = np.maximum(-(2**bits), low), np.minimum(2**bits, high)
    most = np.maximum(least, most)
    values = generator.integers(least.astype(np.int64), most.astype(np.int64), endpoint=True)
    special = np.array([low, low + 1, -1, 0, 1, high - 1, high]).clip(low, high)
    ends = special[generator.integers(len(special), size=axes)]
    return np.where(generator.random(axes) < 0.25, ends, values)


def _reals(generator: np.random.Generator, axes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return numbers of many magnitudes, ties of rounding, zeros and huge ones."""
    any_magnitude = np.ldexp(generator.normal(size=axes), generator.integers(-30, 40, axes))
    ties = generator.integers(-(2**17), 2**17, axes) / 2.0**14
    special = np.array([0.0, -0.0, 2.0**31, -(2.0**31), 3e38, -3e38])
    special = special[generator.integers(len(special), size=axes)]
    which = generator.integers(6, size=axes)
    return np.choose(np.minimum(which, 2), [special, ties, any_magnitude])


def _mask(
    generator: np.random.Generator, axes: tuple[int, ...], style: str
) -> npt.NDArray[np.bool_]:
    """Return a mask ``[T, B]``: all, lengths, any pattern, one row never, or none at all.

    All, any pattern and none at all can be of any shape.
    """
    if style in ("all", "none"):
        return np.full(axes, style == "all")
    if style == "random":
        return generator.random(axes) < 0.6
    steps, rows = axes
    lengths = np.full(rows, steps)
    if style == "prefix":
        lengths = generator.integers(0, steps + 1, size=rows)
    else:
        lengths[generator.integers(rows)] = 0
    return np.arange(steps)[:, None] < lengths


def sequence_arguments(
    config: Config,
    shape: Shape,
    generator: np.random.Generator,
    weights: str = "usual",
    inputs: str = "usual",
    states: str = "zero",
    masks: str = "all",
    heads: str = "fresh",
    operation: str = "sequence_forward",
) -> Arguments:
    """Return arguments with contents of the given styles.

    Args:
        config: the stack.
        shape: the sizes; a cell looks at its rows alone.
        generator: what draws.
        weights: style of the parameters.
        inputs: style of ``x``.
        states: style of ``h`` and ``c``.
        masks: style of ``mask``.
        heads: style of ``heads``.
        operation: one whose arguments follow from no other's results.
    """
    lengths = axes_of(config, {}) | {"T": shape.steps, "B": shape.rows}
    styles = {"weight": weights, "bias": weights, "operand": inputs, "state": states}
    styles |= {"mask": masks, "gain": "usual", "real": "usual"}
    arguments: Arguments = {"config": config.as_dict()}
    for field in arguments_of(operation, config, {}):
        if field.name in ("words", "flags"):
            empty = empty_store(config.buffer, shape.rows, config.group_size)
            arguments[field.name] = empty[field.name]
        elif field.is_array and (field.name != "gains" or shape.gains):
            axes = tuple(length_of(axis, lengths) for axis in field.axes)
            style = styles.get(field.kind.name, heads)
            arguments[field.name] = contents(field.kind.name, generator, axes, style)
    return arguments


def reversal_arguments(arguments: Arguments, forward: Arguments) -> Arguments:
    """Return the arguments of ``sequence_reverse`` that undo a ``sequence_forward``."""
    names = ("h", "c", "heads", "words", "flags", "slices")
    return arguments | {name: forward[name] for name in names if name in forward}


def gradient_arguments(arguments: Arguments, generator: np.random.Generator) -> Arguments:
    """Return the arguments of ``sequence_gradient``, but for ``states``, with a random loss."""
    config, (steps, rows, _) = Config.from_dict(arguments["config"]), arguments["x"].shape
    lengths = axes_of(config, {}) | {"T": steps, "B": rows}
    losses = [f for f in arguments_of("sequence_gradient", config, {}) if f.kind.name == "real"]
    return arguments | {
        field.name: contents(
            "real", generator, tuple(length_of(axis, lengths) for axis in field.axes), "usual"
        )
        for field in losses
    }
