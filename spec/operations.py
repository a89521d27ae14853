"""The operations of the evaluation interface as data: arguments, types, shapes (EVAL-004 … 009).

A shape is a string of axes. An axis is a number, or a letter bound by ``config`` (``L H G I D``),
or else bound by the first array that has it (``T B M N K W P F``); ``*`` stands for any number of
axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .config import Config


@dataclass(frozen=True, slots=True)
class Argument:
    """One array of an operation.

    Attributes:
        name: its name in the mapping.
        dtype: element type as in EVAL-002; ``heads`` and ``words`` take theirs from the layout.
        shape: its axes.
        magnitude: largest magnitude allowed, or ``None``; beyond is ``E_RANGE``.
        optional: whether it may be absent.
    """

    name: str
    dtype: str
    shape: str
    magnitude: int | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: what :func:`revrnn.evaluation.evaluate` is asked for.
        profile: the part of the specification it belongs to.
        settings: names of its arguments that are not arrays.
        arrays: its arrays, for operations without ``config``.
        rules: the rules it computes.
    """

    name: str
    profile: str
    settings: tuple[str, ...]
    arrays: tuple[Argument, ...]
    rules: tuple[str, ...]


_OPERAND = 32512

OPERATIONS: Final[dict[str, Operation]] = {
    operation.name: operation
    for operation in (
        Operation(
            "quantise",
            "gates",
            ("kind", "formats"),
            (Argument("x", "f32", "*"),),
            ("QNT-001", "QNT-002", "QNT-004"),
        ),
        Operation("dequantise", "gates", ("bits",), (Argument("q", "i32", "*"),), ("QNT-006",)),
        Operation(
            "round_shift", "gates", ("k",), (Argument("v", "i64", "*", 2**62 - 1),), ("GEN-003",)
        ),
        Operation(
            "product",
            "gates",
            (),
            (Argument("a", "i16", "M K", _OPERAND), Argument("w", "i16", "N K", _OPERAND)),
            ("PROD-001", "PROD-002"),
        ),
        Operation("tanh", "gates", ("bits",), (Argument("s", "i64", "*"),), ("ACT-002",)),
        Operation("sigmoid", "gates", ("bits",), (Argument("s", "i64", "*"),), ("ACT-003",)),
        Operation(
            "forget_gate",
            "gates",
            ("bits", "max_forget_bits", "z_max"),
            (Argument("s", "i64", "*"),),
            ("ACT-004", "ACT-005"),
        ),
        Operation(
            "view", "gates", ("state_bits", "view_bits"), (Argument("h", "i32", "*"),), ("FMT-004",)
        ),
        Operation(
            "revmul",
            "buffer",
            ("layout", "slice_size"),
            (
                Argument("h", "i32", "B G"),
                Argument("z", "i32", "B G"),
                Argument("mask", "bool", "B"),
                Argument("heads", "heads", "B G"),
                Argument("words", "words", ""),
                Argument("flags", "u8", "F"),
            ),
            ("MUL-001", "BUF-001"),
        ),
        Operation(
            "revmul_inverse",
            "buffer",
            ("layout", "slice_size"),
            (
                Argument("h", "i32", "B G"),
                Argument("z", "i32", "B G"),
                Argument("mask", "bool", "B"),
                Argument("heads", "heads", "B G"),
                Argument("words", "words", ""),
                Argument("flags", "u8", "F"),
                Argument("restore", "i32", "B D"),
            ),
            ("MUL-003", "BUF-002"),
        ),
        Operation("cell_forward", "cell", ("config",), (), ("CELL-004",)),
        Operation("cell_reverse", "cell", ("config",), (), ("CELL-040",)),
        Operation("sequence_forward", "sequence", ("config", "trace"), (), ("SEQ-001",)),
        Operation("sequence_reverse", "sequence", ("config", "trace"), (), ("SEQ-009",)),
        Operation("sequence_storage", "sequence", ("config",), (), ("ACC-001",)),
        Operation("sequence_gradient", "gradient", ("config", "states"), (), ("GRAD-020",)),
    )
}


def arguments_of(operation: str, config: Config | None) -> tuple[Argument, ...]:
    """Return the arrays that an operation takes, in the order of its table."""
    if config is None:
        return OPERATIONS[operation].arrays
    return tuple(_with_config(operation, config))


def _with_config(operation: str, config: Config) -> Iterator[Argument]:
    for name, shape in config.parameter_shapes().items():
        axes = " ".join(map(str, shape))
        if name.startswith("bias"):
            yield Argument(name, "i32", axes)
        else:
            yield Argument(name, "i16", axes, _OPERAND)
    one_step = operation.startswith("cell")
    yield Argument("x", "i16", "B I" if one_step else "T B I", _OPERAND)
    if not one_step:
        yield Argument("mask", "bool", "T B")
        if config.num_layers > 1:
            yield Argument("gains", "i32", f"T {config.num_layers - 1} B H", optional=True)
    state_shape = "1 B H" if one_step else "L B H"
    yield Argument("h", "i32", state_shape)
    if config.has_cell_state:
        yield Argument("c", "i32", state_shape)
    if config.forgetting:
        yield Argument("heads", "heads", "B G")
        if one_step or operation == "sequence_reverse":
            yield Argument("words", "words", "")
            yield Argument("flags", "u8", "F")
    if operation == "sequence_reverse" and config.slice_size:
        yield Argument("slices", "i32", "T+1 B D")
    if operation == "sequence_gradient":
        yield Argument("grad_outputs", "f32", "T B H")
        yield Argument("grad_h", "f32", "L B H")
        if config.has_cell_state:
            yield Argument("grad_c", "f32", "L B H")
