"""Random operations and sequences on all implementations and engines, and very long sequences.

``python tests/soak.py --hours 8``, or ``--sequences 20000``; ``--seed`` repeats a run. What was
done is written as JSON, also after a mismatch, which ends it with exit status 1 and a program that
shows it again.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import secrets
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from agreement import away_from_start, both_gradients, equal_bits
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
from revrnn.conformance.random_cases import RandomCases
from revrnn.evaluation import IMPLEMENTATIONS, Implementation, load
from revrnn.operations import OPERATIONS
from soak_long import long_sequences
from strategies import FIXED

# Requests of one pool of configurations; JAX compiles for each, so it is asked those of one pool
# for all time, and of the others one in so many.
POOL: Final = 400
JAX_EVERY: Final = 25
# What JAX compiled is let go of after so many requests (a process may have so many mappings).
JAX_CLEARED: Final = 2000
# How much a process may grow once everything has been compiled, bytes.
GROWTH: Final = 256 << 20


class MismatchError(Exception):
    """Two implementations disagree."""


class Soak:
    """Everything that is counted, and what is compared.

    Attributes:
        counts: how often what was done.
        memory: resident bytes by seconds since the start.
    """

    def __init__(self, seed: int, names: list[str]) -> None:
        """Load the implementations; the oracle judges."""
        self.oracle = load("numpy")
        self.others = {name: load(name) for name in names}
        self.generator = np.random.default_rng(seed)
        self.counts: dict[str, int] = {"operations": 0, "sequences": 0, "steps taken back": 0}
        self.by_operation = dict.fromkeys(OPERATIONS, 0)
        self.by_implementation = dict.fromkeys(names, 0)
        self.memory: list[tuple[float, int]] = []
        self.process, self.start = psutil.Process(), time.monotonic()
        self._narrow = RandomCases(self.oracle, seed)
        self._wide = self._narrow
        self._asked_jax = 0

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.monotonic() - self.start

    def look(self) -> int:
        """Note how much memory is in use; return it."""
        gc.collect()
        used = int(self.process.memory_info().rss)
        self.memory.append((round(self.seconds(), 1), used))
        return used

    def grown(self) -> int:
        """Return by how much memory grew from the first half of the time to the second."""
        half = self.memory[-1][0] / 2
        first = [used for at, used in self.memory if at <= half]
        later = [used for at, used in self.memory if at > half]
        return max(later) - max(first) if first else 0

    def operation(self, number: int) -> None:
        """Ask for one random operation."""
        operation = list(OPERATIONS)[number % len(OPERATIONS)]
        for_jax = number // len(OPERATIONS) % JAX_EVERY == 0
        if number % POOL == 0:
            self._wide = RandomCases(self.oracle, int(self.generator.integers(2**32)))
        cases = self._narrow if for_jax else self._wide
        arguments = cases.draw(operation, number // len(OPERATIONS))
        for name, other in self.others.items():
            if (name == "jax" and not for_jax) or not _has(name, operation):
                continue
            self._must(compare(self.oracle, other, operation, arguments))
            self._counted(name)
            self.counts["operations"] += 1
        self.by_operation[operation] += 1

    def sequence(self, number: int) -> None:
        """Run a random sequence step by step, and take every step back."""
        config, shape = FIXED[number % len(FIXED)]
        styles = (WEIGHT_STYLES, WEIGHT_STYLES, STATE_STYLES, MASK_STYLES, HEAD_STYLES)
        chosen = [str(self.generator.choice(style)) for style in styles]
        arguments = sequence_arguments(config, shape, self.generator, *chosen)
        forward = self.oracle.evaluate("sequence_forward", arguments)
        back = reversal_arguments(arguments, forward)
        start = self.oracle.evaluate("sequence_reverse", back)
        lines = away_from_start(arguments, forward, start)
        self._must("\n".join(["the oracle did not return to the start", *lines]) if lines else "")
        for name, other in self.others.items():
            traced = arguments | {"trace": True}
            self._must(compare(self.oracle, other, "sequence_forward", traced))
            self._must(compare(self.oracle, other, "sequence_reverse", back))
            self.counts["steps taken back"] += len(arguments["x"])
            if number % 10 < 2 and _has(name, "sequence_gradient"):
                self._must(self._gradients(other, arguments))
            self._counted(name)
        self.counts["sequences"] += 1

    def _gradients(self, other: Implementation, arguments: Arguments) -> str:
        """Return what differs between gradients from recovered and from stored states."""
        request = gradient_arguments(arguments, self.generator)
        both = both_gradients(other, request)
        return "" if equal_bits(*both) else f"{other.name}: gradients differ from those of stored"

    def _counted(self, name: str) -> None:
        self.by_implementation[name] += 1
        if name == "jax":
            self._asked_jax += 1
            if self._asked_jax % JAX_CLEARED == 0:
                sys.modules["jax"].clear_caches()

    def _must(self, difference: str) -> None:
        if difference:
            raise MismatchError(difference)


def _has(name: str, operation: str) -> bool:
    """Say whether an implementation has an operation: the second opinion has no gradients."""
    return not (name == "naive" and operation == "sequence_gradient")


def surroundings() -> dict[str, Any]:
    """Return versions and the kind of machine, in general terms."""
    names = ("numpy", "torch", "jax", "numba")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "system": platform.system(),
        "machine": platform.machine(),
        "vectors": _vectors(),
        "cores": psutil.cpu_count(),
    }


def _vectors() -> str:
    """Return the widest vectors that PyTorch uses here."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def run(options: argparse.Namespace, soak: Soak, facts: dict[str, Any]) -> str:
    """Do everything; return the first mismatch, or ``""``."""
    last_look = last_told = -math.inf
    operations = sequences = 0
    try:
        if options.steps:
            facts["long"] = long_sequences(options.steps, options.seed)
            print(json.dumps(facts["long"], indent=1), flush=True)
        while soak.seconds() < 3600 * options.hours and sequences < options.sequences:
            for _ in range(options.operations_per_sequence):
                soak.operation(operations)
                operations += 1
            soak.sequence(sequences)
            sequences += 1
            if soak.seconds() - last_look > 5:
                soak.look()
                last_look = soak.seconds()
            if soak.seconds() - last_told > 60:
                last_told = soak.seconds()
                print(f"{last_told:.0f} s: {soak.counts}", flush=True)
    except MismatchError as error:
        return str(error)
    soak.look()
    if len(soak.memory) > 10 and soak.grown() > GROWTH:
        return f"memory grew by {soak.grown() >> 20} MiB: {soak.memory}"
    return ""


def main() -> int:
    """Run for as long as told, and write what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=math.inf)
    parser.add_argument("--sequences", type=float, default=math.inf)
    parser.add_argument("--operations-per-sequence", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100_000, help="of the long sequences; 0: none")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    names = [name for name in IMPLEMENTATIONS if name != "numpy"]
    parser.add_argument("--implementations", default=",".join(names))
    parser.add_argument("--out", type=Path, default=Path("out", "soak.json"))
    options = parser.parse_args()
    if math.isinf(options.hours) and math.isinf(options.sequences):
        parser.error("--hours or --sequences says how long")
    soak = Soak(options.seed, options.implementations.split(","))
    print(f"seed {options.seed}, against {list(soak.others)}", flush=True)
    facts: dict[str, Any] = {"seed": options.seed, **surroundings()}
    mismatch = run(options, soak, facts)
    facts |= {
        "seconds": round(soak.seconds()),
        "counts": soak.counts,
        "by_operation": soak.by_operation,
        "by_implementation": soak.by_implementation,
        "memory_grown": soak.grown(),
        "memory": soak.memory[:: max(1, len(soak.memory) // 50)],
        "mismatch": mismatch,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(mismatch or f"no mismatch in {facts['seconds']} s: {soak.counts}; {options.out}")
    return 1 if mismatch else 0


if __name__ == "__main__":
    sys.exit(main())
