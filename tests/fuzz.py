"""Inputs that are nearly valid: each ends in an answer or a ``RevRNNError``. ``nox -s fuzz``.

``python tests/fuzz.py --inputs 1000000`` shares them out among the targets; ``--seed`` repeats
a run. What ends otherwise, or not within some seconds, is printed with its input, and the status
is 1.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

from fuzzing.targets import Target, targets

from revrnn import RevRNNError

# Seconds that one input may take on a busy machine.
LIMIT: Final = 20
# Failures of one target that are shown.
SHOWN: Final = 5


def ending(target: Target, data: bytes) -> tuple[str, str]:
    """Give an input; return how it ended: ``answer``, ``error`` or ``failure``, and what failed."""
    try:
        what = target.take(data)
    except RevRNNError:
        return "error", ""
    except Exception:
        return "failure", traceback.format_exc(limit=-4)
    return ("failure", what) if what else ("answer", "")


def feed(name: str, target: Target, count: int, random: Random) -> int:
    """Give a target so many inputs; print what failed and return how many did."""
    counts, start = Counter[str](), time.monotonic()
    for _ in range(count):
        data = target.inputs(random)
        signal.alarm(LIMIT)
        how, what = ending(target, data)
        signal.alarm(0)
        counts[how] += 1
        if how == "failure" and counts[how] <= SHOWN:
            print(f"{name}: {data[:2000]!r}\n{what}", flush=True)
    seconds = time.monotonic() - start
    print(
        f"{name}: {count} inputs, {counts['answer']} answers, {counts['error']} errors, "
        f"{counts['failure']} failures in {seconds:.0f} s",
        flush=True,
    )
    return counts["failure"]


def run(count: int, seed: int, only: str = "") -> int:
    """Share inputs out among the targets; return how many failed."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"no end within {LIMIT} s")

    signal.signal(signal.SIGALRM, too_late)
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        chosen = {n: t for n, t in targets(Path(folder)).items() if only in n}
        each = -(-count // len(chosen))
        return sum(feed(n, t, each, Random(f"{seed} {n}")) for n, t in chosen.items())


def main() -> int:
    """Feed everything; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--only", default="", help="targets with this in their names")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    return 1 if run(options.inputs, options.seed, options.only) else 0


if __name__ == "__main__":
    sys.exit(main())
