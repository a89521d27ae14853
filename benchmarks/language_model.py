"""Memory and time of a training step of a language model, side by side.

``python benchmarks/language_model.py --framework torch --steps 128 512`` runs every variant in a
process of its own, the variants in turn and that ``--rounds`` times over, so that none has the
quieter machine; the least time and the least peak of its rounds count. ``--json`` keeps the
figures.

Memory is the peak of the process above what parameters, gradients and libraries take.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# By framework: the variant's name in its program, its label, and whether it is to be compiled (what
# JAX always does).
VARIANTS = {
    "torch": (
        ("plain", "plain", False),
        ("checkpointed", "√T checkpoints", False),
        ("drop_in", "reversible, drop-in", True),
        ("streaming", "reversible, streaming, eager", False),
        ("streaming", "reversible, streaming", True),
        ("hybrid", "reversible, hybrid", True),
    ),
    "jax": (
        ("plain", "plain", True),
        ("checkpointed", "√T checkpoints", True),
        ("drop_in", "reversible, drop-in", True),
        ("streaming", "reversible, streaming", True),
        ("hybrid", "reversible, hybrid", True),
    ),
}


def measure(framework: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run one variant in a process of its own."""
    program = Path(__file__).with_name(f"{framework}_variant.py")
    done = subprocess.run(
        [sys.executable, str(program), json.dumps(options)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the least of what several rounds found."""
    found = dict(rounds[0])
    for name in ("seconds", "peak_bytes", "compile_seconds"):
        if name in found:
            found[name] = min(run[name] for run in rounds)
    return found


def machine(framework: str) -> str:
    """Return the machine in general terms."""
    found = f"{os.cpu_count()} CPU cores, {framework} {version(framework)}"
    if framework == "jax":
        found += f", flax {version('flax')}"
    return f"{found}, Python {platform.python_version()}"


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a table in Markdown, ratios against the plain variant."""
    lines = [
        "| cell | steps | variant | peak MB | of plain | step s | of plain | compiling s |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for run in results:
        plain = next(
            r for r in results
            if r["variant"] == "plain" and (r["cell"], r["steps"]) == (run["cell"], run["steps"])
        )  # fmt: skip
        start = f"| {run['cell']} | {run['steps']} | {run['label']} "
        if run.get("out_of_memory"):
            lines.append(f"{start}| out of memory | | | | |")
            continue
        size, seconds = run["peak_bytes"] / 1e6, run["seconds"]
        memory = time = ""
        if not plain.get("out_of_memory"):
            memory = f"1/{plain['peak_bytes'] / run['peak_bytes']:.1f}"
            time = f"{seconds / plain['seconds']:.2f}"
        compiling = f"{run['compile_seconds']:.1f}" if "compile_seconds" in run else ""
        lines.append(f"{start}| {size:.0f} | {memory} | {seconds:.2f} | {time} | {compiling} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framework", choices=sorted(VARIANTS), default="torch")
    parser.add_argument("--cells", nargs="+", default=["gru", "lstm"])
    parser.add_argument("--steps", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--embedding", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-mb", type=int, default=None)
    parser.add_argument("--variants", nargs="+", default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    print(machine(options.framework), flush=True)
    results = []
    for steps in options.steps:
        for cell in options.cells:
            names = options.variants
            variants = VARIANTS[options.framework]
            wanted = [v for v in variants if names is None or v[0] in names]
            rounds: dict[str, list[dict[str, Any]]] = {label: [] for _, label, _ in wanted}
            for _ in range(options.rounds):
                for variant, label, compiled in wanted:
                    given = {
                        "cell": cell, "variant": variant, "compiled": compiled, "steps": steps,
                        "batch": options.batch, "hidden": options.hidden,
                        "embedding": options.embedding, "vocabulary": options.vocabulary,
                        "bits": options.bits, "chunk": options.chunk, "device": options.device,
                        "limit_mb": options.limit_mb, "repeats": 1, "label": label,
                    }  # fmt: skip
                    rounds[label].append(measure(options.framework, given))
            results += [best(runs) for runs in rounds.values()]
            print(table([r for r in results if r["steps"] == steps and r["cell"] == cell]))
            sys.stdout.flush()
    print("\n" + table(results))
    if options.json is not None:
        found = {"machine": machine(options.framework), "results": results}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
