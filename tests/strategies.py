"""What random requests look like: the one module of Hypothesis strategies.

Contents of arrays come from a drawn seed and a drawn style, so that examples are cheap to draw;
styles are listed from the simplest, so that failures shrink towards zero weights, one step and one
unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from revrnn.config import Config
from revrnn.evaluation import empty_store, fresh_heads
from revrnn.formats import INT32_MAX, INT32_MIN, OPERAND_MAX, Formats

Arguments = dict[str, Any]

SEEDS = st.integers(0, 2**32 - 1)
WEIGHT_STYLES = ("zero", "small", "usual", "large", "saturated")
STATE_STYLES = ("zero", "usual", "large", "extreme")
MASK_STYLES = ("all", "prefix", "random", "empty row", "none")
HEAD_STYLES = ("fresh", "random", "edges")


@dataclass(frozen=True)
class Shape:
    """The sizes of a sequence, and whether there are gains between its layers (SEQ-012)."""

    steps: int
    rows: int
    gains: bool = False


# Sequences for every implementation: few configurations and shapes, since each costs the JAX
# implementation a compilation; the contents are random.
FIXED: tuple[tuple[Config, Shape], ...] = (
    (Config("revgru", 1, 2), Shape(1, 1)),
    (Config("revgru", 3, 6, max_forget_bits=3), Shape(6, 3)),
    (Config("revgru", 2, 4, 2, 1, slice_size=2), Shape(5, 2, gains=True)),
    (Config("revgru", 2, 4, 2, 5, buffer="wordlist", slice_size=1), Shape(12, 2)),
    (Config("revgru", 2, 4, forgetting=False), Shape(4, 2)),
    (Config("revlstm", 1, 2, max_forget_bits=10), Shape(1, 2)),
    (Config("revlstm", 3, 6, max_forget_bits=3), Shape(6, 3)),
    (Config("revlstm", 2, 4, 2, 2, slice_size=1), Shape(5, 2, gains=True)),
    (Config("revlstm", 2, 4, buffer="wordlist"), Shape(8, 2)),
    (Config("revlstm", 2, 4, 2, forgetting=False), Shape(4, 2)),
    (Config("revlstm", 2, 4, z_max=1024), Shape(8, 2)),
    (
        Config(
            "revlstm",
            2,
            4,
            2,
            formats=Formats(state_bits=20, operand_bits=9, lstm_view_bits=7, weight_bits=13),
        ),
        Shape(4, 2),
    ),
)


def name_of(setup: tuple[Config, Shape]) -> str:
    """Return a short name of a fixed setup for test identifiers."""
    config, shape = setup
    kind = config.buffer if config.forgetting else "keeping"
    return (
        f"{config.cell}-{kind}-L{config.num_layers}-n{config.max_forget_bits}-D{config.slice_size}"
        f"-T{shape.steps}-R{config.formats.state_bits}"
    )


@st.composite
def formats(draw: st.DrawFn) -> Formats:
    """Draw formats, the default first (FMT-002)."""
    if draw(st.booleans(), label="default formats"):
        return Formats()
    operand = draw(st.integers(8, 13), label="operand_bits")
    return Formats(
        state_bits=draw(st.integers(16, 24), label="state_bits"),
        operand_bits=operand,
        lstm_view_bits=draw(st.integers(6, operand), label="lstm_view_bits"),
        weight_bits=draw(st.integers(8, 13), label="weight_bits"),
    )


@st.composite
def configs(draw: st.DrawFn, layouts: tuple[str, ...]) -> Config:
    """Draw a configuration of at most three layers of at most ten units."""
    forgetting = draw(st.sampled_from((True, True, True, False)), label="forgetting")
    group = draw(st.integers(1, 5), label="G")
    config = Config(
        cell=draw(st.sampled_from(("revgru", "revlstm")), label="cell"),
        input_size=draw(st.integers(1, 4), label="I"),
        hidden_size=2 * group,
        num_layers=draw(st.integers(1, 3), label="L"),
        max_forget_bits=draw(st.sampled_from((None, 1, 2, 3, 5, 10)), label="max_forget_bits"),
        forgetting=forgetting,
        buffer=draw(st.sampled_from(layouts), label="buffer"),
        z_max=draw(st.sampled_from((None, None, 1024, 512)), label="z_max"),
        formats=draw(formats()),
    )
    if forgetting and draw(st.booleans(), label="slices"):
        config = replace(config, slice_size=draw(st.integers(1, group), label="D"))
    return config


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw the sizes of a sequence, one step and one row first."""
    steps, rows = draw(st.integers(0, 8), label="T"), draw(st.integers(1, 4), label="B")
    return Shape(steps, rows, draw(st.booleans(), label="gains"))


@st.composite
def sequences(draw: st.DrawFn, config: Config, shape: Shape) -> Arguments:
    """Draw the arguments of ``sequence_forward`` for a configuration and shape."""
    generator = np.random.default_rng(draw(SEEDS, label="seed"))
    weights = draw(st.sampled_from(WEIGHT_STYLES), label="weights")
    inputs = draw(st.sampled_from(WEIGHT_STYLES), label="inputs")
    states = draw(st.sampled_from(STATE_STYLES), label="states")
    masks = draw(st.sampled_from(MASK_STYLES), label="mask")
    heads = draw(st.sampled_from(HEAD_STYLES), label="heads")
    return sequence_arguments(config, shape, generator, weights, inputs, states, masks, heads)


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


@st.composite
def revmul_arguments(draw: st.DrawFn, layouts: tuple[str, ...], rows: int, units: int) -> Arguments:
    """Draw the arguments of ``revmul`` on an empty store."""
    generator = np.random.default_rng(draw(SEEDS, label="seed"))
    layout = draw(st.sampled_from(layouts), label="layout")
    config = Config("revgru", 1, 2 * units, buffer=layout)
    states = draw(st.sampled_from(STATE_STYLES), label="states")
    heads = draw(st.sampled_from(HEAD_STYLES), label="heads")
    gates = draw(st.sampled_from(("keep all", "forget all", "uniform", "edges")), label="gates")
    return {
        "layout": layout,
        "slice_size": draw(st.integers(0, units), label="D"),
        "h": state_contents(generator, (rows, units), states),
        "z": gate_contents(generator, (rows, units), gates),
        "mask": draw(st.sampled_from((True, False)), label="all rows")
        | (generator.random(rows) < 0.5),
        "heads": head_contents(generator, config, rows, heads),
        **empty_store(layout, rows, units),
    }


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


def forget_range_sums(bits: int) -> st.SearchStrategy[int]:
    """Draw pre-activations: zero, around the table's ends, the ends of int32 and int64, any."""
    end = 8 << bits
    special = [0, 1, -1, end - 1, end, end + 1, 2 * end - 1, 2 * end, 2**31 - 1, 2**31, 2**63 - 1]
    return st.one_of(
        st.sampled_from(special + [-v for v in special] + [-(2**63)]),
        st.integers(-2 * end, 2 * end),
        st.integers(-(2**63), 2**63 - 1),
    )
