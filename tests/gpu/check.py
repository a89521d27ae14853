"""Asks an implementation on a GPU vectors and random sequences, in several processes.

``python tests/gpu/check.py triton --parts 12 --seconds 120``; implementations are ``eager``,
``triton`` and ``triton-persistent`` (PyTorch on CUDA), ``jax`` and ``jax-triton``. Exit status 1 if
an answer differs from the oracle's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from revrnn.config import Config
from revrnn.conformance.adapters import InProcess, Question
from revrnn.conformance.checking import faults
from revrnn.conformance.contents import (
    HEAD_STYLES,
    MASK_STYLES,
    STATE_STYLES,
    WEIGHT_STYLES,
    Shape,
    gradient_arguments,
    reversal_arguments,
    sequence_arguments,
)
from revrnn.evaluation import Implementation, load, outcome
from revrnn.formats import Formats
from revrnn.vectors import load as load_vectors
from revrnn.vectors import operations

SEQUENCES = ("cell_", "sequence_")
CHOICES = ("eager", "triton", "triton-persistent", "jax", "jax-triton")


def implementation(name: str) -> Implementation:
    """Return an implementation on the GPU, or in Triton's interpreter."""
    if name in ("jax", "jax-triton"):
        import jax

        if jax.default_backend() != "gpu":
            raise SystemExit(f"JAX computes on {jax.default_backend()}, not on a GPU")
        from revrnn.jax_impl.evaluate import JaxImplementation

        return load("jax") if name == "jax" else JaxImplementation(engine="triton")
    import torch

    from revrnn.torch_impl.evaluate import TorchImplementation

    where = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchImplementation(where, 4, engine=name)


def config_of(random: np.random.Generator, units: int) -> Config:
    """Draw a configuration of layout ``stream`` or without forgetting."""

    def pick(values: Any) -> Any:
        return values[random.integers(len(values))]

    formats = Formats()
    if random.random() < 0.3:
        operand = int(random.integers(8, 14))
        formats = Formats(
            state_bits=int(random.integers(16, 25)),
            operand_bits=operand,
            lstm_view_bits=int(random.integers(6, operand + 1)),
            weight_bits=int(random.integers(8, 14)),
        )
    group, forgetting = int(random.integers(1, units + 1)), bool(random.random() < 0.8)
    config = Config(
        cell=pick(("revgru", "revlstm")),
        input_size=int(random.integers(1, units + 1)),
        hidden_size=2 * group,
        num_layers=pick((1, 1, 2, 3)),
        max_forget_bits=pick((None, 1, 2, 3, 5, 10)),
        forgetting=forgetting,
        z_max=pick((None, None, 1024, 512)),
        formats=formats,
    )
    if forgetting and random.random() < 0.4:
        config = replace(config, slice_size=int(random.integers(1, group + 1)))
    return config


def arguments_of(random: np.random.Generator, config: Config, rows: int) -> dict[str, Any]:
    """Draw a sequence's arguments."""
    shape = Shape(
        int(random.integers(1, 9)), int(random.integers(1, rows + 1)), bool(random.random() < 0.5)
    )
    styles = (WEIGHT_STYLES, WEIGHT_STYLES, STATE_STYLES, MASK_STYLES, HEAD_STYLES)
    chosen = [str(random.choice(style)) for style in styles]
    return dict(sequence_arguments(config, shape, random, *chosen))


def questions(name: str, part: int, parts: int, units: int) -> Iterator[tuple[Question, Any]]:
    """Yield what is asked and what is due: this part's vectors, then random ones without end."""
    number = 0
    for operation in operations():
        if name.startswith("triton") and not operation.startswith(SEQUENCES):
            continue
        for case in load_vectors(operation):
            number += 1
            if number % parts == part:
                due = {"error": case.error} if case.out is None else case.out
                yield Question(operation, case.args), due
    oracle, random = load("numpy"), np.random.default_rng((2026, part))
    while True:
        config = config_of(random, units)
        for _ in range(3):  # each configuration is compiled once
            arguments = arguments_of(random, config, 40)
            forward = outcome(oracle, "sequence_forward", arguments)
            yield Question("sequence_forward", arguments), forward
            back = reversal_arguments(arguments, forward)
            yield Question("sequence_reverse", back), outcome(oracle, "sequence_reverse", back)
            asked = gradient_arguments(arguments, random)
            due = outcome(oracle, "sequence_gradient", asked)
            for states in ("reversed", "stored"):
                yield Question("sequence_gradient", asked | {"states": states}), due


def ask(name: str, part: int, parts: int, seconds: float, units: int) -> int:
    """Ask until the time is up; print what differs; return how often that was."""
    port, begin, wrong = InProcess(implementation(name)), time.monotonic(), 0
    counts: dict[str, int] = {}
    refused = 0
    for question, due in questions(name, part, parts, units):
        if time.monotonic() - begin > seconds:
            break
        (answer,) = port.answers([question])
        if answer == {"error": "E_UNSUPPORTED"} and due != answer:
            refused += 1
            continue
        lines = faults(due, answer)
        counts[question.operation] = counts.get(question.operation, 0) + 1
        if lines:
            wrong += 1
            if wrong <= 4:
                shapes = {k: getattr(v, "shape", v) for k, v in question.args.items()}
                print("WRONG", name, question.operation, shapes, *lines[:6], sep="\n  ", flush=True)
    print(f"{name} part {part}: {counts}, refused {refused}, wrong {wrong}", flush=True)
    return wrong


def main() -> int:
    """Start the processes and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CHOICES)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--part", type=int, default=None)
    options = parser.parse_args()
    if options.part is not None:
        try:
            return min(
                ask(options.name, options.part, options.parts, options.seconds, options.units), 1
            )
        except Exception:
            traceback.print_exc()
            return 1
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *sys.argv[1:]]
    running = [
        subprocess.Popen([*command, "--part", str(part)], env=environment)
        for part in range(options.parts)
    ]
    return max(process.wait() for process in running)


if __name__ == "__main__":
    sys.exit(main())
