"""Random contents of requests, by styles that reach the edges of every range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import fresh_heads
from revrnn.formats import INT32_MAX, INT32_MIN, OPERAND_MAX

Arguments = dict[str, Any]

# From the simplest, so that failures can be made smaller.
WEIGHT_STYLES = ("zero", "small", "usual", "large", "saturated")
STATE_STYLES = ("zero", "usual", "large", "extreme")
MASK_STYLES = ("all", "prefix", "random", "empty row", "none")
HEAD_STYLES = ("fresh", "random", "edges")
GATE_STYLES = ("keep all", "forget all", "uniform", "edges")


@dataclass(frozen=True)
class Shape:
    """The sizes of a sequence, and whether there are gains between its layers (SEQ-012)."""

    steps: int
    rows: int
    gains: bool = False


def sequence_arguments(
    config: Config,
    shape: Shape,
    generator: np.random.Generator,
    weights: str = "usual",
    inputs: str = "usual",
    states: str = "zero",
    masks: str = "all",
    heads: str = "fresh",
) -> Arguments:
    """Return the arguments of ``sequence_forward`` with contents of the given styles."""
    arguments: Arguments = {"config": config.as_dict()}
    for name, axes in config.parameter_shapes().items():
        if name.startswith("bias"):
            arguments[name] = bias_contents(generator, axes, weights)
        else:
            arguments[name] = operand_contents(generator, axes, weights)
    steps, rows = shape.steps, shape.rows
    arguments["x"] = operand_contents(generator, (steps, rows, config.input_size), inputs)
    arguments["mask"] = mask_contents(generator, steps, rows, masks)
    if shape.gains and config.num_layers > 1:
        axes = (steps, config.num_layers - 1, rows, config.hidden_size)
        arguments["gains"] = gain_contents(generator, axes)
    for name in ("h", "c")[: config.state_arrays]:
        axes = (config.num_layers, rows, config.hidden_size)
        arguments[name] = state_contents(generator, axes, states)
    if config.forgetting:
        arguments["heads"] = head_contents(generator, config, rows, heads)
    return arguments


def operand_contents(
    generator: np.random.Generator, axes: tuple[int, ...], style: str
) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return operands or weights, int16 in ±32512."""
    scale = {"zero": 0, "small": 300, "usual": 3000, "large": 20000, "saturated": OPERAND_MAX}[
        style
    ]
    values = generator.normal(size=axes) * scale
    if style == "saturated":
        values = generator.choice([-OPERAND_MAX, OPERAND_MAX, -1, 0], size=axes)
    return np.rint(values).clip(-OPERAND_MAX, OPERAND_MAX).astype(np.int16)


def bias_contents(
    generator: np.random.Generator, axes: tuple[int, ...], style: str
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return biases, int32; saturated ones drive gates to both of their ends."""
    scale = {"zero": 0, "small": 2**20, "usual": 2**23, "large": 2**26, "saturated": 2**30}[style]
    values = generator.normal(size=axes) * scale
    if style == "saturated":
        values = generator.choice([INT32_MIN, -(2**27), 0, 2**27, INT32_MAX], size=axes)
    return np.rint(values).clip(INT32_MIN, INT32_MAX).astype(np.int32)


def state_contents(
    generator: np.random.Generator, axes: tuple[int, ...], style: str
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return states, int32; extreme ones lie at and near ±2^31."""
    scale = {"zero": 0, "usual": 2**22, "large": 2**28, "extreme": 0}[style]
    values = generator.normal(size=axes) * scale
    if style == "extreme":
        ends = [INT32_MIN, INT32_MIN + 1, INT32_MIN + 1023, -1, 0, INT32_MAX - 1024, INT32_MAX]
        values = generator.choice(ends, size=axes)
    return np.rint(values).clip(INT32_MIN, INT32_MAX).astype(np.int32)


def gain_contents(
    generator: np.random.Generator, axes: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return gains, int32: dropout's, one, and the ends of the range."""
    return generator.choice([0, 1, 4096, 5851, 65535, 65536], size=axes).astype(np.int32)


def mask_contents(
    generator: np.random.Generator, steps: int, rows: int, style: str
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a mask ``[T, B]``: all, lengths, any pattern, one row never, or none at all."""
    if style == "none":
        return np.zeros((steps, rows), np.bool_)
    if style == "random":
        return generator.random((steps, rows)) < 0.6
    lengths = np.full(rows, steps)
    if style == "prefix":
        lengths = generator.integers(0, steps + 1, size=rows)
    if style == "empty row":
        lengths[generator.integers(rows)] = 0
    return np.arange(steps)[:, None] < lengths


def head_contents(
    generator: np.random.Generator, config: Config, rows: int, style: str
) -> np.ndarray[Any, Any]:
    """Return heads of the configuration's layout, fresh, random or at their range's ends."""
    axes = (rows, config.group_size)
    heads = fresh_heads(config.buffer, *axes)
    if style == "fresh" or config.buffer == "bigint":
        return heads
    low, high = (0, 2**63 - 1) if config.buffer == "wordlist" else (2**15, 2**31 - 1)
    if style == "edges":
        inner = 2**53 if config.buffer == "wordlist" else 2**21
        return generator.choice([low, low + 1, inner - 1, inner, high - 1, high], size=axes)
    bits = generator.uniform(np.log2(low + 1), np.log2(high), size=axes)
    return np.clip(np.exp2(bits).astype(np.int64), low, high)


def reversal_arguments(arguments: Arguments, forward: Arguments) -> Arguments:
    """Return the arguments of ``sequence_reverse`` that undo a ``sequence_forward``."""
    names = ("h", "c", "heads", "words", "flags", "slices")
    return arguments | {name: forward[name] for name in names if name in forward}


def gradient_arguments(arguments: Arguments, generator: np.random.Generator) -> Arguments:
    """Return the arguments of ``sequence_gradient``, but for ``states``, with a random loss."""
    steps, rows, _ = arguments["x"].shape
    hidden = arguments["h"].shape[2]
    added = {"grad_outputs": generator.normal(size=(steps, rows, hidden)).astype(np.float32)}
    for name in ("h", "c"):
        if name in arguments:
            shape = arguments[name].shape
            added[f"grad_{name}"] = generator.normal(size=shape).astype(np.float32)
    return arguments | added


def gate_contents(
    generator: np.random.Generator, axes: tuple[int, ...], style: str
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return forget gates, 1 … 1024."""
    if style == "keep all":
        return np.full(axes, 1024, np.int32)
    if style == "forget all":
        return np.ones(axes, np.int32)
    if style == "edges":
        return generator.choice([1, 2, 511, 512, 513, 1019, 1023, 1024], size=axes).astype(np.int32)
    return generator.integers(1, 1025, size=axes).astype(np.int32)
