"""Time and memory of a training step, side by side with PyTorch's and Flax's own, in one run.

``python benchmarks/step.py`` measures the recurrent stack alone (``--work layer``), with ``--work
lm`` a language model around it. Every variant lives in a process of its own; of one case all
variants take turns, so that other work on the machine meets all alike. Ratios are of medians. On
one thread the processor's time counts, which does not see other work. ``--cpu best avx2`` measures
everything again held to AVX2. ``--out NAME`` keeps the figures (``NAME.json``), the table
(``NAME.md``) and plots.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors import CLASSES, describe, environment
from step_report import plots, table

# By kind of work and framework: label, variant, engine.
VARIANTS: dict[tuple[str, str], tuple[tuple[str, str, str | None], ...]] = {
    ("layer", "torch"): (
        ("plain", "plain", None),
        ("checkpointed", "checkpointed", None),
        ("native", "drop_in", "native"),
        ("eager", "drop_in", "eager"),
    ),
    ("layer", "jax"): (
        ("plain", "plain", None),
        ("checkpointed", "checkpointed", None),
        ("reversible", "drop_in", "scan"),
        ("native", "drop_in", "native"),
    ),
    ("lm", "torch"): (
        ("plain", "plain", None),
        ("checkpointed", "checkpointed", None),
        ("drop-in", "drop_in", "auto"),
        ("streaming", "streaming", "auto"),
        ("streaming, eager", "streaming", "eager"),
        ("hybrid", "hybrid", "auto"),
    ),
    ("lm", "jax"): (
        ("plain", "plain", None),
        ("checkpointed", "checkpointed", None),
        ("drop-in", "drop_in", None),
        ("streaming", "streaming", None),
        ("hybrid", "hybrid", None),
    ),
}
DEFAULT_SIZES = {
    "layer": ("128,128,1", "200,200,1", "650,1150,1", "200,200,2"),
    "lm": ("512,512,1",),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "layer": {"batch": 20, "steps": [35, 70, 512, 2048]},
    "lm": {"batch": 32, "steps": [512, 2048]},
}


@dataclass
class Variant:
    """One process and what it measured."""

    label: str
    options: dict[str, Any]
    process: subprocess.Popen[str]
    facts: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def read(self) -> dict[str, Any]:
        """Return the next answer; a process that ended without one is an error."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.label} ended: {self.options}")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("out_of_memory"):
            self.facts["out_of_memory"] = True
        return answer

    def ask(self, quantity: str, keep: bool = True) -> None:
        """Have one step done, for its ``time`` or its ``memory``."""
        if "out_of_memory" in self.facts:
            return
        assert self.process.stdin is not None
        self.process.stdin.write(quantity + "\n")
        self.process.stdin.flush()
        answer = self.read()
        if not keep or "out_of_memory" in answer:
            return
        if quantity == "time":
            self.steps.append(answer)
        else:
            self.peaks.append(answer["peak_bytes"])

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()

    def result(self) -> dict[str, Any]:
        """Return what was measured: the median of times, the peak."""
        row = {"label": self.label, **self.options, **self.facts}
        if self.steps and "out_of_memory" not in self.facts:
            clock = "cpu_seconds" if self.options["threads"] == 1 else "seconds"
            row["seconds"] = statistics.median(s[clock] for s in self.steps)
            row["peak_bytes"] = self.peaks[0]
            row["loss"] = self.steps[-1]["loss"]
        return row


def start(label: str, options: dict[str, Any], memory: bool = False) -> Variant:
    """Start a variant's process."""
    program = Path(__file__).with_name("worker.py")
    process = subprocess.Popen(
        [sys.executable, str(program), json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(options["cpu"], options["threads"], memory),
    )
    return Variant(label, options, process)


def measure(case: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all variants of a case, in turns, of whose steps in a row the last counts."""
    variants = []
    try:
        for label, variant, engine in VARIANTS[case["work"], case["framework"]]:
            if options.variants is not None and label not in options.variants:
                continue
            variants.append(start(label, {**case, "variant": variant, "engine": engine}))
            # One after the other: compiling at the same time would disturb what is timed of it.
            ready = variants[-1].read()
            ready.pop("ready", None)
            variants[-1].facts.update(ready)
        for turn in range(options.turns + 1):
            for running, left in itertools.product(variants, reversed(range(options.in_a_row))):
                running.ask("time", keep=turn > 0 and not left)
    finally:
        for running in variants:
            running.stop()
    for running in variants:
        weigh(running)
    return [running.result() for running in variants]


def weigh(variant: Variant) -> None:
    """Measure memory in a process of its own, whose C library holds nothing back."""
    other = start(variant.label, variant.options, memory=True)
    try:
        if "out_of_memory" not in other.read():
            other.ask("memory")
    finally:
        other.stop()
    variant.peaks = other.peaks
    if "out_of_memory" in other.facts:
        variant.facts["out_of_memory"] = True


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return all cases that were asked for."""
    defaults = DEFAULTS[options.work]
    sizes = options.sizes or [sizes_of(one) for one in DEFAULT_SIZES[options.work]]
    return [
        {
            "framework": framework,
            "work": options.work,
            "cell": cell,
            "inputs": inputs,
            "hidden": hidden,
            "layers": layers,
            "steps": steps,
            "threads": threads,
            "cpu": cpu,
            "batch": options.batch or defaults["batch"],
            "vocabulary": options.vocabulary,
            "bits": options.bits,
            "chunk": options.chunk,
            "device": options.device,
            "limit_mb": options.limit_mb,
        }
        for framework, cpu, threads, (inputs, hidden, layers), steps, cell in itertools.product(
            options.framework,
            options.cpu,
            options.threads,
            sizes,
            options.steps or defaults["steps"],
            options.cells,
        )
    ]


def count(text: str) -> int:
    """Return a whole number of at least 1, for argparse, which names the argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} given, a whole number of at least 1 allowed")
    return int(text)


def sizes_of(text: str) -> list[int]:
    """Return inputs, units and layers."""
    sizes = [count(part) for part in text.split(",")]
    if len(sizes) != 3 or sizes[1] % 2:
        allowed = "inputs,units,layers with an even number of units"
        raise argparse.ArgumentTypeError(f"{text} given, {allowed} allowed")
    return sizes


def device_of(text: str) -> str:
    """Return the name of a device."""
    kind, _, number = text.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdecimal():
        raise argparse.ArgumentTypeError(f"{text} given, cpu, cuda or cuda:0 allowed")
    return text


def place_of(text: str) -> Path:
    """Return where figures go, in a folder that is made and can be written to."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            path.with_suffix(".json")  # a ValueError where there is no name
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {reason}") from None
    return path


def check_variants(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program where labels are not known, or none of a framework's is there."""
    if options.variants is None:
        return
    known = {
        framework: [label for label, *_ in VARIANTS[options.work, framework]]
        for framework in options.framework
    }
    wrong = [v for v in options.variants if not any(v in labels for labels in known.values())]
    for framework, labels in known.items():
        if wrong or not set(labels) & set(options.variants):
            given = ", ".join(wrong or options.variants)
            allowed = ", ".join(map(repr, labels))
            parser.error(f"argument --variants: {given} given, of {framework} {allowed} allowed")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", choices=["layer", "lm"], default="layer", help="the stack alone, or a model"
    )
    parser.add_argument("--framework", nargs="+", choices=["torch", "jax"], default=["torch"])
    parser.add_argument("--cells", nargs="+", choices=["gru", "lstm"], default=["gru", "lstm"])
    parser.add_argument("--sizes", nargs="+", type=sizes_of, help="inputs,units,layers")
    parser.add_argument("--steps", nargs="+", type=count, help="of sequences")
    parser.add_argument("--threads", nargs="+", type=count, default=[1, 2], help="in turn (1 2)")
    parser.add_argument("--cpu", nargs="+", choices=sorted(CLASSES), default=["best"])
    parser.add_argument("--variants", nargs="+", help="labels; all are measured without it")
    parser.add_argument("--batch", type=count, help="rows")
    parser.add_argument("--vocabulary", type=count, default=10_000, help="classes of lm (10000)")
    parser.add_argument(
        "--bits", type=int, choices=range(1, 11), default=3, metavar="1 … 10", help="limit (3)"
    )
    parser.add_argument("--chunk", type=count, help="steps handled together (16 or nearly so)")
    parser.add_argument("--turns", type=count, default=5, help="of all variants (5)")
    parser.add_argument("--in-a-row", type=count, default=1, help="steps of a turn, the last timed")
    parser.add_argument("--device", type=device_of, default="cpu", help="cpu, cuda, cuda:0 (cpu)")
    parser.add_argument("--limit-mb", type=count, help="memory that a step may take")
    parser.add_argument(
        "--out", type=place_of, help="name of the files for figures, table and plots"
    )
    options = parser.parse_args()
    check_variants(parser, options)
    words = describe(*dict.fromkeys(["numpy", *options.framework]))
    print(words, flush=True)
    results = []
    for case in cases(options):
        results.append(measure(case, options))
        print(table(results[-1:], heading=len(results) == 1), flush=True)
    if options.out is not None:
        row = {"turns": options.turns, "in_a_row": options.in_a_row}
        facts = {"machine": words, **row, "cases": results}
        named = options.out.with_suffix
        named(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        named(".md").write_text(f"{words}\n\n{table(results)}\n", encoding="utf-8")
        plots(results, options.out)


if __name__ == "__main__":
    main()
