"""Small sequences that show much: more than one tile of rows and of units, layers, masks, slices.

``TRITON_INTERPRET=1 python tests/gpu/small.py revgru`` (on a GPU without the variable) exits with 1
if the kernels are wrong; ``--setup 1`` chooses one of the setups, ``--folder`` and ``--package``
other files.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np

from revrnn.config import Config
from revrnn.conformance.adapters import InProcess, Question
from revrnn.conformance.checking import faults
from revrnn.conformance.contents import (
    Shape,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.evaluation import Implementation, load, outcome
from revrnn.gpu.sizes import interpreted

PERSISTENT = "triton-persistent"
JAX = "jax"  # the same kernels, launched by JAX
# By cell: a wide layer, two narrow ones with slices and gains, and one that does not forget.
SETUPS: dict[str, tuple[tuple[Config, Shape], ...]] = {
    cell: (
        (Config(cell, 3, 36, max_forget_bits=3), Shape(2, 17)),
        (Config(cell, 2, 10, 2, 5, slice_size=2), Shape(4, 3, gains=True)),
        (Config(cell, 2, 4, forgetting=False), Shape(2, 2)),
    )
    for cell in ("revgru", "revlstm")
}


def questions(config: Config, shape: Shape, seed: int) -> list[tuple[Question, Any]]:
    """Return a sequence forward, back and its gradients in both ways, and what is due."""
    oracle, random = load("numpy"), np.random.default_rng(seed)
    styles = ("usual", "usual", "large" if config.forgetting else "usual", "random", "edges")
    arguments = dict(sequence_arguments(config, shape, random, *styles))
    forward = outcome(oracle, "sequence_forward", arguments)
    back = reversal_arguments(arguments, forward)
    asked = gradient_arguments(arguments, random)
    due = outcome(oracle, "sequence_gradient", asked | {"states": "reversed"})
    return [
        (Question("sequence_forward", arguments), forward),
        (Question("sequence_reverse", back), outcome(oracle, "sequence_reverse", back)),
        (Question("sequence_gradient", asked | {"states": "reversed"}), due),
        (Question("sequence_gradient", asked | {"states": "stored"}), due),
    ]


def at_once(seed: int, resident: int) -> AbstractContextManager[Any]:
    """Let programs run at the same time, which only a GPU does by itself."""
    if not interpreted():
        return nullcontext()
    from together import together

    return together(seed, resident)


def implementation(engine: str) -> Implementation:
    """Return an engine behind the evaluation interface."""
    if engine == JAX:
        from revrnn.jax_impl.evaluate import JaxImplementation

        return JaxImplementation(engine="triton")
    # Not above: JAX's kernels are tested where there is no PyTorch, too.
    import torch

    from revrnn.torch_impl.evaluate import TorchImplementation

    where = "cuda" if torch.cuda.is_available() and not interpreted() else "cpu"
    return TorchImplementation(where, 2, engine=engine)


def wrong(
    config: Config, shape: Shape, seed: int = 0, engine: str = "triton", resident: int = 64
) -> list[str]:
    """Return what the kernels get wrong first; so many programs of ``triton-persistent`` fit."""
    port = InProcess(implementation(engine))
    answers = []
    for question, due in questions(config, shape, seed):
        with at_once(seed, resident) if engine == PERSISTENT else nullcontext():
            (answer,) = port.answers([question])
        lines = faults(due, answer)
        if lines:
            return lines
        answers.append(answer)
    *_, recovered, stored = answers
    return [
        f"{name} differs from that of stored states (GRAD-020)"
        for name in recovered
        if not np.array_equal(recovered[name], stored[name])
    ]


def main() -> int:
    """Look at all setups of a cell, or at one, with the files of a folder in place of a package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", choices=SETUPS)
    parser.add_argument("--engine", default="triton", choices=("triton", PERSISTENT, JAX))
    parser.add_argument("--setup", type=int)
    parser.add_argument("--package", default="revrnn.gpu")
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.folder is not None:
        import_module(options.package).__path__ = [options.folder]
    setups = SETUPS[options.cell]
    for config, shape in setups if options.setup is None else [setups[options.setup]]:
        lines = wrong(config, shape, engine=options.engine)
        if lines:
            print("WRONG", *lines[:4], sep="\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
