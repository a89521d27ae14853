"""What random requests look like: the one module of Hypothesis strategies.

Contents of arrays come from a drawn seed and a drawn style, so that examples are cheap to draw;
styles are listed from the simplest, so that failures shrink towards zero weights, one step and one
unit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from revrnn.config import Config
from revrnn.conformance.contents import (
    GATE_STYLES,
    HEAD_STYLES,
    MASK_STYLES,
    STATE_STYLES,
    WEIGHT_STYLES,
    Arguments,
    Shape,
    contents,
    sequence_arguments,
)
from revrnn.evaluation import empty_store
from revrnn.formats import Formats

SEEDS = st.integers(0, 2**32 - 1)


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
    (Config("revlstm", 2, 4, z_max=1024, p_max=1024), Shape(8, 2)),
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
    if "p" in config.gates:
        p_max = draw(st.sampled_from((None, None, 1024, 1000, 512)), label="p_max")
        config = replace(config, p_max=p_max)
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


@st.composite
def revmul_arguments(draw: st.DrawFn, layouts: tuple[str, ...], rows: int, units: int) -> Arguments:
    """Draw the arguments of ``revmul`` on an empty store."""
    generator = np.random.default_rng(draw(SEEDS, label="seed"))
    layout = draw(st.sampled_from(layouts), label="layout")
    states = draw(st.sampled_from(STATE_STYLES), label="states")
    heads = draw(st.sampled_from(HEAD_STYLES), label="heads")
    gates = draw(st.sampled_from(GATE_STYLES), label="gates")
    return {
        "layout": layout,
        "slice_size": draw(st.integers(0, units), label="D"),
        "h": contents("state", generator, (rows, units), states),
        "z": contents("gate", generator, (rows, units), gates),
        "mask": draw(st.sampled_from((True, False)), label="all rows")
        | (generator.random(rows) < 0.5),
        "heads": contents(f"{layout}_head", generator, (rows, units), heads),
        **empty_store(layout, rows, units),
    }


def forget_range_sums(bits: int) -> st.SearchStrategy[int]:
    """Draw pre-activations: zero, around the table's ends, the ends of int32 and int64, any."""
    end = 8 << bits
    special = [0, 1, -1, end - 1, end, end + 1, 2 * end - 1, 2 * end, 2**31 - 1, 2**31, 2**63 - 1]
    return st.one_of(
        st.sampled_from(special + [-v for v in special] + [-(2**63)]),
        st.integers(-2 * end, 2 * end),
        st.integers(-(2**63), 2**63 - 1),
    )
