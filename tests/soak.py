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
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from agreement import away_from_start, both_gradients, equal_bits
from revrnn.comparison import compare, differences
from revrnn.config import Config
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
from revrnn.evaluation import IMPLEMENTATIONS, Implementation, load, outcome
from revrnn.operations import OPERATIONS
from soak_long import long_sequences
from strategies import FIXED

# Rounds of requests from one pool of configurations.
POOL: Final = 100
# JAX compiles for each: it is asked those of one pool, one more whenever it has answered so many,
# and with others one round in so many.
JAX_WIDENED: Final = 1000
JAX_EVERY: Final = 25
# In how many rounds an operation of a profile is asked once: long ones less often.
ROUNDS: Final = {"gates": 1, "buffer": 1, "cell": 10, "sequence": 50, "gradient": 100}
# Rows of a batch, each a sequence of its own, and in how many batches there are few rows: those
# are for the second opinion too, which goes number by number.
ROWS: Final = 64
FEW_ROWS_EVERY: Final = 20
# Kinds of settings for each elementary operation that JAX is asked.
JAX_SETTINGS: Final = 4
# How much a process may grow once everything has been compiled, bytes.
GROWTH: Final = 256 << 20


class MismatchError(Exception):
    """Two implementations disagree."""


class FewPrograms(RandomCases):
    """Random requests of few shapes, with new contents in every one.

    ``width`` is how many settings, and configurations, of each operation there are by now.
    """

    def __init__(self, judge: Implementation, seed: int) -> None:
        """Draw the configurations."""
        super().__init__(judge, seed)
        self.width, self.unusual = 1, False
        self._settings: dict[tuple[str, int], Arguments] = {}

    def _picked(self, number: int) -> Config:
        return self.pool[number % min(len(self.pool), self.width)]

    def _elementary(self, operation: str, number: int) -> Arguments:
        key = (operation, number % min(JAX_SETTINGS, self.width))
        if key not in self._settings:
            fields = [field for field in OPERATIONS[operation].arguments if not field.is_array]
            self._settings[key] = {field.name: self._value(field, number) for field in fields}
        return self._filled(operation, self._settings[key], self._lengths())

    def _lengths(self) -> dict[str, int]:
        return {"*": 28, "M": 3, "N": 2, "K": 40, "B": 3, "G": 2}


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
        self.counts = dict.fromkeys(("requests", "answers", "sequences", "steps taken back"), 0)
        self.by_operation = dict.fromkeys(OPERATIONS, 0)
        self.by_implementation = dict.fromkeys(names, 0)
        self.memory: list[tuple[float, int]] = []
        self.process, self.start = psutil.Process(), time.monotonic()
        self._narrow = FewPrograms(self.oracle, seed)
        self._wide: RandomCases = self._narrow
        self._jax_every = JAX_EVERY if any(not _is_jax(name) for name in names) else 1
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

    def operations(self, number: int) -> None:
        """Ask one round of random requests."""
        for_jax = number % self._jax_every == 0
        if number % POOL == 0:
            self._wide = RandomCases(self.oracle, int(self.generator.integers(2**32)))
        cases = self._narrow if for_jax else self._wide
        for operation, entry in OPERATIONS.items():
            often = ROUNDS[entry.profile]
            if number % often == 0:
                self._ask(operation, cases.draw(operation, number // often), for_jax)

    def _ask(self, operation: str, arguments: Arguments, for_jax: bool) -> None:
        expected = outcome(self.oracle, operation, arguments)
        for name, other in self.others.items():
            if (_is_jax(name) and not for_jax) or not _has(name, operation):
                continue
            if differences(expected, outcome(other, operation, arguments)):
                self._must(compare(self.oracle, other, operation, arguments) or "not repeated")
            self._counted(name)
            self.counts["answers"] += 1
        self.counts["requests"] += 1
        self.by_operation[operation] += 1

    def sequences(self, number: int) -> None:
        """Run a batch of random sequences step by step, and take every step back."""
        of_jax = min(len(FIXED), self._narrow.width)
        setup = number % (of_jax if self._jax_every == 1 else len(FIXED))
        config, shape = FIXED[setup]
        many = "naive" not in self.others or number // len(FIXED) % FEW_ROWS_EVERY != 0
        shape = replace(shape, rows=ROWS) if many else shape
        styles = (WEIGHT_STYLES, WEIGHT_STYLES, STATE_STYLES, MASK_STYLES, HEAD_STYLES)
        chosen = [str(self.generator.choice(style)) for style in styles]
        arguments = sequence_arguments(config, shape, self.generator, *chosen) | {"trace": True}
        forward = outcome(self.oracle, "sequence_forward", arguments)
        back = reversal_arguments(arguments, forward)
        start = outcome(self.oracle, "sequence_reverse", back)
        untraced = {name: value for name, value in start.items() if not name.endswith("_steps")}
        lines = away_from_start(arguments, forward, untraced)
        self._must("\n".join(["the oracle did not return to the start", *lines]) if lines else "")
        for name, other in self.others.items():
            if (many and name == "naive") or (_is_jax(name) and not (many and setup < of_jax)):
                continue
            self._same(other, "sequence_forward", arguments, forward)
            self._same(other, "sequence_reverse", back, start)
            self.counts["steps taken back"] += len(arguments["x"]) * shape.rows
            if number % 100 < 2 and _has(name, "sequence_gradient"):
                self._must(self._gradients(other, arguments))
            self._counted(name)
        self.counts["sequences"] += shape.rows

    def _same(
        self, other: Implementation, operation: str, given: Arguments, due: Arguments
    ) -> None:
        if differences(due, outcome(other, operation, given)):
            self._must(compare(self.oracle, other, operation, given) or "not repeated")

    def _gradients(self, other: Implementation, arguments: Arguments) -> str:
        """Return what differs between gradients from recovered and from stored states."""
        given = {name: value for name, value in arguments.items() if name != "trace"}
        request = gradient_arguments(given, self.generator)
        both = both_gradients(other, request)
        return "" if equal_bits(*both) else f"{other.name}: gradients differ from those of stored"

    def _counted(self, name: str) -> None:
        self.by_implementation[name] += 1
        if _is_jax(name):
            self._asked_jax += 1
            self._narrow.width = 1 + self._asked_jax // JAX_WIDENED

    def _must(self, difference: str) -> None:
        if difference:
            raise MismatchError(difference)


def _is_jax(name: str) -> bool:
    return name.startswith("jax")


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
    rounds = batches = 0
    try:
        if options.steps:
            facts["long"] = long_sequences(options.steps, options.seed)
            print(json.dumps(facts["long"], indent=1), flush=True)
        end, counts = soak.seconds() + 3600 * options.hours, soak.counts
        while soak.seconds() < end and counts["sequences"] < options.sequences:
            for _ in range(options.rounds):
                soak.operations(rounds)
                rounds += 1
            soak.sequences(batches)
            batches += 1
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
    parser.add_argument("--hours", type=float, default=math.inf, help="after the long sequences")
    parser.add_argument("--sequences", type=float, default=math.inf)
    parser.add_argument("--rounds", type=int, default=60, help="of requests for one batch")
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
