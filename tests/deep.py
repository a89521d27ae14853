"""Fresh random sequences on all implementations, for as long as told.

``python tests/deep.py --sequences 20000`` or ``--minutes 60``; ``--seed`` repeats a run. Exit
status 1 and a program that repeats the failure at the first mismatch.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time

import numpy as np

from agreement import equal_bits
from revrnn.comparison import compare
from revrnn.conformance.contents import (
    HEAD_STYLES,
    MASK_STYLES,
    STATE_STYLES,
    WEIGHT_STYLES,
    Arguments,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.evaluation import Implementation, load
from strategies import FIXED


def fresh(generator: np.random.Generator, number: int) -> Arguments:
    """Return the arguments of one random sequence in one of the fixed configurations."""
    config, shape = FIXED[number % len(FIXED)]
    styles = (WEIGHT_STYLES, WEIGHT_STYLES, STATE_STYLES, MASK_STYLES, HEAD_STYLES)
    chosen = [str(generator.choice(style)) for style in styles]
    return sequence_arguments(config, shape, generator, *chosen)


def check(oracle: Implementation, other: Implementation, arguments: Arguments) -> str:
    """Return what differs in the sequence, forward step by step and back again, or ``""``."""
    differences = compare(oracle, other, "sequence_forward", arguments | {"trace": True})
    if differences:
        return differences
    forward = other.evaluate("sequence_forward", arguments)
    return compare(oracle, other, "sequence_reverse", reversal_arguments(arguments, forward))


def check_gradients(
    other: Implementation, arguments: Arguments, generator: np.random.Generator
) -> str:
    """Return what differs between gradients from recovered and from stored states, or ``""``."""
    request = gradient_arguments(arguments, generator)
    results = [
        other.evaluate("sequence_gradient", request | {"states": states})
        for states in ("reversed", "stored")
    ]
    return "" if equal_bits(*results) else f"{other.name}: recovered and stored gradients differ"


def main() -> int:
    """Run until the number of sequences or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--implementations", default="torch,jax")
    options = parser.parse_args()
    oracle, others = load("numpy"), [load(n) for n in options.implementations.split(",")]
    generator = np.random.default_rng(options.seed)
    start = time.monotonic()
    steps = done = 0
    print(f"seed {options.seed}, against {[other.name for other in others]}", flush=True)
    while done < options.sequences and time.monotonic() - start < 60 * options.minutes:
        arguments = fresh(generator, done)
        for other in others:
            differences = check(oracle, other, arguments)
            if not differences and done % 10 < 2 and other.name != "naive":
                differences = check_gradients(other, arguments, generator)
            if differences:
                print(f"sequence {done}: {differences}")
                return 1
        done += 1
        steps += len(arguments["x"])
        if done % 1000 == 0:
            print(f"{done} sequences, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{done} sequences, {steps} steps, no mismatch, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
