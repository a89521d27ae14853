"""Does a training run compute what the oracle computes? Asked at real batches, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from revrnn import Config
from revrnn.comparison import differences, reproduction
from revrnn.digest import first_difference, step_digests
from revrnn.evaluation import Implementation, load

from .runs import Arrays as Weights
from .text import Batch

Arguments = dict[str, Any]


@dataclass
class Agreement:
    """How many steps were compared, and what differed.

    Attributes:
        steps: steps whose digest of state and buffer was compared (EVAL-010).
        mismatches: steps, inputs or final states that differed.
        reports: what differed, a line each.
        programs: for every batch with a mismatch, a program that repeats the comparison.
    """

    steps: int = 0
    mismatches: int = 0
    reports: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)

    def __add__(self, other: Agreement) -> Agreement:
        """Return both together."""
        return Agreement(
            self.steps + other.steps,
            self.mismatches + other.mismatches,
            self.reports + other.reports,
            self.programs + other.programs,
        )


def exact_arguments(
    implementation: Implementation, config: Config, weights: Weights, batch: Batch, carried: Weights
) -> Arguments:
    """Return the arguments of ``sequence_forward`` at a batch, quantised by ``implementation``."""

    def fixed(kind: str, x: Any) -> Any:
        request = {"kind": kind, "x": x, "formats": config.formats.as_dict()}
        return implementation.evaluate("quantise", request)["q"]

    arguments: Arguments = {"config": config.as_dict()}
    for name in config.parameter_shapes():
        arguments[name] = fixed(
            "bias" if name.startswith("bias") else "weight", weights[f"rnn.{name}"]
        )
    arguments["x"] = fixed("operand", weights["embedding"][batch.tokens])
    arguments["mask"] = np.ones(batch.tokens.shape, np.bool_)
    return arguments | carried


def compare_batch(
    framework: str, config: Config, weights: Weights, batch: Batch, carried: Weights, after: Weights
) -> Agreement:
    """Compare a framework with the oracle at one batch of a training run.

    Args:
        framework: name of the implementation that trains.
        config: the stack.
        weights: the float weights with which the batch was computed; the stack's are ``rnn.*``.
        batch: the batch.
        carried: the exact state before it.
        after: the exact state that the training step itself arrived at.
    """
    oracle, other = load("numpy"), load(framework)
    arguments = exact_arguments(oracle, config, weights, batch, carried)
    quantised = exact_arguments(other, config, weights, batch, carried)
    expected = oracle.evaluate("sequence_forward", arguments | {"trace": True})
    got = other.evaluate("sequence_forward", quantised | {"trace": True})
    pairs = list(zip(step_digests(config, expected), step_digests(config, got), strict=True))
    result = Agreement(steps=len(pairs), mismatches=sum(a != b for a, b in pairs))
    lines = [first_difference(config, expected, got) or ""]
    lines += differences(arguments, quantised)
    trained = differences({name: expected[name] for name in after}, after)
    result.mismatches += len(trained)
    lines += [f"after the training step: {line}" for line in trained]
    result.reports = [line for line in lines if line]
    if result.reports:
        result.programs.append(reproduction(other, "sequence_forward", arguments | {"trace": True}))
        result.mismatches = max(result.mismatches, 1)
    return result


def largest_difference(a: Weights, b: Weights) -> float:
    """Return the largest difference of any gradient, relative to the largest in its array."""
    return max(
        float(np.abs(a[name] - b[name]).max() / max(np.abs(b[name]).max(), 1e-30)) for name in b
    )
