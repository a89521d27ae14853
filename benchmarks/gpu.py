"""Training steps on a GPU side by side: cuDNN, and RevGRU and RevLSTM by engine.

``python benchmarks/gpu.py --out gpu.json`` measures with CUDA events, warmed up, medians; it also
compares the engines' outputs and final states bit for bit at full size, and gradients by their
distance. Nothing is written where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from revrnn.errors import RevRNNError
from revrnn.torch_impl import RevGRU, RevLSTM, set_compiled_steps
from revrnn.torch_impl.engines import engine

CELLS: dict[str, Any] = {"gru": (nn.GRU, RevGRU), "lstm": (nn.LSTM, RevLSTM)}


def step_of(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Return a training step of a drop-in module."""

    def step() -> None:
        for parameter in module.parameters():
            parameter.grad = None
        outputs, _ = module(x)
        outputs.square().mean().backward()

    return step


def measure(step: Callable[[], None], repeats: int, seconds: float = 6.0) -> dict[str, float]:
    """Return the median time of a step in ms, the host's share, and its peak memory in MB."""
    begin = time.monotonic()
    for _ in range(4):
        step()
    torch.cuda.synchronize()
    first = time.monotonic() - begin
    torch.cuda.reset_peak_memory_stats()
    times, host = [], []
    begin = time.monotonic()
    for _ in range(repeats):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        at = time.perf_counter()
        events[0].record()
        step()
        events[1].record()
        host.append(1e3 * (time.perf_counter() - at))
        events[1].synchronize()
        times.append(events[0].elapsed_time(events[1]))
        if time.monotonic() - begin > seconds:
            break
    return {
        "ms": statistics.median(times),
        "best_ms": min(times),
        "host_ms": statistics.median(host),
        "warm_up_s": first,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20,
        "repeats": len(times),
    }


def forward_only(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Return an evaluation step."""

    def step() -> None:
        with torch.no_grad():
            module(x)

    return step


def make(cell: str, ours: bool, size: tuple[int, int], layers: int) -> nn.Module:
    """Return a module with the same random weights each time."""
    torch.manual_seed(1)
    kind = CELLS[cell][ours]
    more = {"max_forget_bits": 3} if ours else {}
    module: nn.Module = kind(size[0], size[1], num_layers=layers, **more).cuda()
    return module


def compare(
    cell: str, size: tuple[int, int], layers: int, shape: tuple[int, int], chosen: str
) -> str:
    """Return how an engine differs from the eager one at full size."""
    x = torch.randn(
        *shape, size[0], device="cuda", generator=torch.Generator("cuda").manual_seed(2)
    )
    results: dict[str, Any] = {}
    for name in ("eager", chosen):
        module: Any = make(cell, True, size, layers)
        for _ in range(1 if name == "eager" else 3):  # direct, captured, replayed
            inputs = x.clone().requires_grad_()
            for parameter in module.parameters():
                parameter.grad = None
            with engine(name):
                outputs, state = module(inputs, module.initial_state(shape[1]))
                (outputs.square().mean() + outputs[-1].sum()).backward()
        results[name] = outputs, state, [inputs.grad, *(p.grad for p in module.parameters())]
    a, b = results["eager"], results[chosen]
    same = torch.equal(a[0], b[0]) and a[1] == b[1]
    far = max(float((u - v).norm() / u.norm()) for u, v in zip(a[2], b[2], strict=True))
    return f"states {'equal' if same else 'DIFFERENT'}, gradients {far:.1e} apart"


def kernels_of(step: Callable[[], None]) -> list[list[Any]]:
    """Return the kernels of a step: name, count, total µs."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as told:
        step()
        torch.cuda.synchronize()
    rows = [
        [event.key[:60], event.count, round(event.self_device_time_total, 1)]
        for event in told.key_averages()
    ]
    return sorted(rows, key=lambda row: -row[2])[:16]


@contextmanager
def noted(row: dict[str, Any], results: dict[str, Any], path: Path) -> Iterator[None]:
    """Write a row and show it, with what went wrong while it was measured."""
    try:
        yield
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
        traceback.print_exc(limit=-4)
    results["rows"].append(row)
    print(json.dumps(row), flush=True)
    save(path, results)


def sizes_of(text: str) -> list[tuple[int, int]]:
    """Return inputs and units of all sizes."""
    parts = [size.split("x") for size in text.split(",")]
    if not all(len(p) == 2 and all(n.isdecimal() and int(n) for n in p) for p in parts):
        raise argparse.ArgumentTypeError(f"{text} given, inputs x units allowed: 200x200,650x1150")
    return [(int(inputs), int(units)) for inputs, units in parts]


def engines_of(text: str) -> list[str]:
    """Return the names of engines."""
    names = text.split(",")
    for name in names:
        try:
            with engine(name):
                pass
        except RevRNNError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return names


def main() -> int:
    """Measure all and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--engines", type=engines_of, default="eager,triton,triton-persistent")
    parser.add_argument("--sizes", type=sizes_of, default="200x200,650x1150,1024x2048")
    parser.add_argument("--compiled", action="store_true", help="also eager compiled, 200x200")
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing is measured")
        return 0
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    begin, engines = time.monotonic(), options.engines
    results: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "rows": [],
        "compared": {},
        "kernels": {},
    }
    for cell in CELLS:
        for size, layers, shape in (
            ((200, 200), 1, (70, 20)),
            ((650, 1150), 1, (70, 20)),
            ((96, 130), 3, (37, 70)),
            ((33, 2048), 1, (20, 130)),
        ):
            for name in [name for name in engines if name != "eager"]:
                key = f"{cell} {size} L{layers} {shape} {name}"
                try:
                    results["compared"][key] = compare(cell, size, layers, shape, name)
                except Exception as error:
                    results["compared"][key] = f"FAILED {type(error).__name__}: {error}"
                    traceback.print_exc(limit=-4)
                print(key, results["compared"][key], flush=True)
                save(options.out, results)
    for size in options.sizes:
        for cell in CELLS:
            for name in ("cudnn", *engines):
                if time.monotonic() - begin > options.seconds:
                    break
                ours = name != "cudnn"
                x = torch.randn(70, 20, size[0], device="cuda")
                row: dict[str, Any] = {"cell": cell, "size": size, "engine": name}
                with noted(row, results, options.out):
                    torch.cuda.empty_cache()
                    module = make(cell, ours, size, 1)
                    step, no_grad = step_of(module, x), forward_only(module, x)
                    with engine(name if ours else "auto"):
                        row |= measure(step, 30)
                        row["forward_ms"] = measure(no_grad, 10, 2.0)["ms"]
                        if name != "eager":
                            results["kernels"][f"{cell} {size} {name}"] = kernels_of(step)
    if options.compiled:
        set_compiled_steps(True)
        for cell in CELLS:
            row = {"cell": cell, "size": (200, 200), "engine": "eager compiled"}
            with noted(row, results, options.out), engine("eager"):
                module = make(cell, True, (200, 200), 1)
                row |= measure(step_of(module, torch.randn(70, 20, 200, device="cuda")), 10)
    for name, rows in results["kernels"].items():
        print(name, *rows, sep="\n  ")
    return 0


def save(path: Path, results: dict[str, Any]) -> None:
    """Write what is known so far."""
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
