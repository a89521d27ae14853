"""One cell of the matrix: what one implementation gives in this process, as digests.

``python tests/matrix_cell.py torch-native --wide`` prints a JSON object. Nothing is imported that
the implementation does not need, so that it runs where the others cannot be installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy as np

from revrnn import Config
from revrnn.comparison import compare
from revrnn.conformance.contents import (
    Shape,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.digest import step_digests
from revrnn.evaluation import Implementation, load
from revrnn.formats import Formats

CASES: Final = (
    (Config("revgru", 20, 32, 2, max_forget_bits=3), Shape(7, 3, gains=True)),
    (Config("revlstm", 20, 32, max_forget_bits=3), Shape(7, 3)),
    (Config("revgru", 3, 10, buffer="wordlist", slice_size=2), Shape(9, 2)),
    (Config("revlstm", 4, 10, 2, formats=Formats(20, 9, 7, 13)), Shape(5, 2)),
)
# Large enough that work is shared between threads.
WIDE: Final = ((Config("revgru", 256, 256, max_forget_bits=3), Shape(16, 64)),)
PACKAGES: Final = ("numpy", "torch", "jax", "jaxlib", "numba", "safetensors")


def main() -> None:
    """Print the digests of an implementation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implementation")
    parser.add_argument("--compiled", action="store_true", help="torch.compile of the steps")
    parser.add_argument("--wide", action="store_true", help="a case for several threads as well")
    options = parser.parse_args()
    implementation = load(options.implementation)
    cases = CASES + (WIDE if options.wide else ())
    if options.compiled:
        from revrnn.torch_impl import compiled_steps

        # Each takes a minute to compile.
        with compiled_steps():
            exact = [exact_digest(implementation, *case) for case in cases[:2]]
            gradients = [gradient_digest(implementation, *case) for case in cases[:2]]
    else:
        exact = [exact_digest(implementation, *case) for case in cases]
        gradients = [gradient_digest(implementation, *case) for case in CASES]
    facts = {"exact": exact, "gradients": gradients, "python": platform.python_version()}
    print(json.dumps(facts | {"versions": versions()}))


def exact_digest(implementation: Implementation, config: Config, shape: Shape) -> str:
    """Return a digest of outputs, states, words of every step, and of what a way back gives."""
    arguments = sequence_arguments(config, shape, np.random.default_rng(1), "usual", "usual")
    forward = implementation.evaluate("sequence_forward", arguments | {"trace": True})
    plain = implementation.evaluate("sequence_forward", arguments)
    back = implementation.evaluate("sequence_reverse", reversal_arguments(arguments, plain))
    for name in ("h", "c", "heads"):
        assert name not in arguments or np.array_equal(back[name], arguments[name]), name
    steps = "".join(step_digests(config, forward))
    return hashlib.sha256((steps + digest(plain) + digest(back)).encode()).hexdigest()[:16]


def gradient_digest(implementation: Implementation, config: Config, shape: Shape) -> str:
    """Return a digest of gradients; ``""`` if they are none, or beyond what GRAD allows."""
    if implementation.name == "naive":
        return ""
    generator = np.random.default_rng(2)
    arguments = sequence_arguments(config, shape, generator, "small", "usual")
    request = gradient_arguments(arguments, generator) | {"states": "reversed"}
    difference = compare(load("numpy"), implementation, "sequence_gradient", request)
    if difference:
        return difference[:200]
    return digest(implementation.evaluate("sequence_gradient", request))


def digest(results: Mapping[str, Any]) -> str:
    """Return a digest of arrays: names, types, shapes and every bit."""
    whole = hashlib.sha256()
    for name, value in sorted(results.items()):
        array = np.ascontiguousarray(value)
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    there = {}
    for name in PACKAGES:
        try:
            there[name] = version(name)
        except PackageNotFoundError:
            continue
    return there


if __name__ == "__main__":
    main()
