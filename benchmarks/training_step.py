"""A training step of a drop-in module against ``nn.GRU`` and ``nn.LSTM``, alternating, in one run.

``python benchmarks/training_step.py --threads 1 2`` prints a table. Steps of all variants take
turns, so that other work on the machine meets all alike; ratios are of the medians. With one
thread the processor's time counts, which does not see other work. ``--isa avx2`` holds everything
to AVX2, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

SIZES = ((128, 128), (200, 200), (650, 1150))
# What holds each library to AVX2; numba wants to be told the features beside the name.
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+popcnt,+sse4.2",
}


def step(module: Any, x: Any) -> None:
    """Do a training step without an optimiser."""
    for parameter in module.parameters():
        parameter.grad = None
    outputs, _ = module(x)
    outputs.square().mean().backward()


def measure(options: argparse.Namespace, threads: int) -> None:
    """Print the rows of one number of threads."""
    import torch
    from torch import nn

    from revrnn.torch_impl import RevGRU, RevLSTM, engine

    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    for own, peer in ((RevGRU, nn.GRU), (RevLSTM, nn.LSTM)):
        for inputs, hidden in SIZES:
            torch.manual_seed(0)
            x = torch.randn(options.steps, options.batch, inputs, requires_grad=True)
            plain = peer(inputs, hidden)
            ours = own(inputs, hidden, max_forget_bits=3)
            times: dict[str, list[float]] = {"plain": [], **{name: [] for name in options.engines}}
            for turn in range(options.turns + 1):
                for name, seconds in times.items():
                    start = clock()
                    if name == "plain":
                        step(plain, x)
                    else:
                        with engine(name):
                            step(ours, x)
                    if turn:
                        seconds.append(clock() - start)
            base = statistics.median(times["plain"])
            ratios = [f"{statistics.median(times[name]) / base:.2f}" for name in options.engines]
            cells = [own.__name__, f"{inputs} → {hidden}", str(threads), options.isa]
            print("|", " | ".join([*cells, f"{base * 1e3:.1f}", *ratios]), "|", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--engines", nargs="+", default=["native", "eager"])
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--isa", nargs="+", default=["best", "avx2"])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        options.isa = options.isa[0]
        measure(options, options.threads[0])
        return
    print("| module | size | threads | CPU | plain ms |", " | ".join(options.engines), "|")
    print("|---" * (5 + len(options.engines)) + "|", flush=True)
    common = ["--engines", *options.engines, "--turns", str(options.turns)]
    common += ["--steps", str(options.steps), "--batch", str(options.batch), "--here"]
    for isa in options.isa:
        for threads in options.threads:
            changes = AVX2 if isa == "avx2" else {}
            command = [sys.executable, __file__, *common, "--threads", str(threads), "--isa", isa]
            subprocess.run(command, check=True, env={**os.environ, **changes})


if __name__ == "__main__":
    main()
