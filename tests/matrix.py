"""One digest for all: versions, processors, threads, compiled or not, 64-bit types or not.

``python tests/matrix.py`` runs :mod:`matrix_cell` in this environment on every kind of processor
that this one can stand for, and in clean environments that it makes: the oldest versions that
``pyproject.toml`` allows, and every other Python that is here. The digests must be one. Writes
``out/matrix.json`` and ``out/matrix.md``; exit status 1 if any cell differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from shutil import which
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
# A folder of programs, which type checkers do not see from here.
processors: Any = import_module("processors")

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
# Nothing wider than what every x86-64 has.
BASE: Final = {
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ATEN_CPU_CAPABILITY": "default",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NUMBA_CPU_NAME": "nehalem",
    "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt",
    "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
}
CLASSES: Final[dict[str, dict[str, str]]] = processors.CLASSES
CLASSES["base"] = BASE
NAMES: Final = {"best": "all", "avx2": "AVX2", "base": "SSE4.2"}
LIMIT: Final = 1200


@dataclass(frozen=True)
class Cell:
    """What is run in one process.

    Attributes:
        where: the environment's name.
        implementation: as :func:`revrnn.evaluation.load` calls it.
        processor: a class of :data:`CLASSES`.
        threads: at most.
        option: ``compiled`` or ``x64``, or ``""``.
    """

    where: str
    implementation: str
    processor: str = "best"
    threads: int = 1
    option: str = ""


@dataclass
class Place:
    """An environment: a Python with packages, or why there is none."""

    name: str
    python: str
    why_not: str = ""
    implementations: tuple[str, ...] = ()
    cells: list[Cell] = field(default_factory=list)


def here() -> Place:
    """Return this environment, with every cell."""
    place, names = Place("newest", sys.executable), ("numpy", "torch", "torch-native", "jax")
    for processor in CLASSES:
        place.cells += [Cell(place.name, name, processor) for name in names]
    place.cells += [Cell(place.name, name, "best", 2) for name in names[1:]]
    place.cells += [Cell(place.name, "jax", processor, 1, "x64") for processor in ("best", "avx2")]
    place.cells.append(Cell(place.name, "torch", "best", 1, "compiled"))
    return place


def oldest() -> dict[str, list[str]]:
    """Return the oldest versions that are allowed, as requirements, for each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    core = [pinned(one) for one in project["dependencies"]]
    return {"": core, "torch": core + [pinned(one) for one in extras["torch"]]} | {
        # JAX asks for a newer NumPy by itself.
        "jax": [pinned(one) for one in extras["jax"]] + ["jaxlib" + pinned(extras["jax"][0])[3:]]
    }


def pinned(requirement: str) -> str:
    """Return ``torch>=2.6`` as ``torch==2.6.0``: the first version that is allowed."""
    name, _, least = requirement.partition(">=")
    parts = [*least.split("."), "0", "0"]
    return f"{name}=={'.'.join(parts[:3])}"


def made(name: str, python: str, wheel: Path, extra: str, pins: list[str], folder: Path) -> Place:
    """Return a clean environment with a wheel of the project."""
    implementations = {"": ("numpy",), "torch": ("numpy", "torch", "torch-native")}
    place = Place(name, str(folder / name / "bin" / "python"))
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    commands = [[python, "-m", "venv", str(folder / name)]]
    commands.append([place.python, "-m", "pip", "install", "-q", "--no-compile", what, *pins])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            place.why_not = re.sub(r"\S*://\S*", "", (lines or ["failed"])[-1])[:150]
            return place
    for one in implementations.get(extra, ("numpy", "jax")):
        place.cells.append(Cell(name, one))
    return place


def run(cell: Cell, python: str) -> dict[str, Any]:
    """Run a cell; return what it prints, or ``{"failed": …}``."""
    more = {"JAX_ENABLE_X64": "1"} if cell.option == "x64" else {}
    surroundings = processors.environment(cell.processor, cell.threads) | more
    command = [python, str(ROOT / "tests" / "matrix_cell.py"), cell.implementation]
    command += ["--compiled"] * (cell.option == "compiled") + ["--wide"] * (cell.where == "newest")
    if cell.threads == 1 and (taskset := which("taskset")):
        command = [taskset, "-c", str(min(os.sched_getaffinity(0))), *command]
    try:
        done = subprocess.run(
            command, env=surroundings, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {LIMIT} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def judged(results: dict[Cell, dict[str, Any]]) -> dict[Cell, str]:
    """Return of each cell whether its digests are those of the oracle in this environment."""
    due = next(r for c, r in results.items() if c.implementation == "numpy" and "exact" in r)
    says = {}
    for cell, result in results.items():
        if "failed" in result:
            says[cell] = result["failed"]
            continue
        pairs = zip(due["exact"], result["exact"], strict=False)
        wrong = [number for number, (a, b) in enumerate(pairs) if a != b]
        says[cell] = f"differs in case {wrong}" if wrong else "same"
        if any(" " in gradient for gradient in result["gradients"]):
            says[cell] += "; gradients beyond their bounds"
    return says


def table(results: dict[Cell, dict[str, Any]], places: list[Place]) -> str:
    """Return what was run as Markdown."""
    says = judged(results)
    lines = ["| environment | implementation | vectors | threads | | digest | gradients |"]
    lines.append("|---|---|---|---:|---|---|---|")
    by_digest: dict[str, str] = {}
    for cell, result in results.items():
        # Gradients are floats: equal letters, equal bits; a compiled run has fewer cases.
        key = " ".join(result.get("gradients", [])[:2])
        letter = by_digest.setdefault(key, chr(ord("A") + len(by_digest))) if key else ""
        parts = [cell.where, cell.implementation, NAMES[cell.processor], str(cell.threads)]
        lines.append("| " + " | ".join([*parts, cell.option, says[cell], letter]) + " |")
    lines += ["", "| environment | Python | versions |", "|---|---|---|"]
    for place in places:
        run_here = [r for c, r in results.items() if c.where == place.name and "versions" in r]
        if run_here:
            known = ", ".join(f"{n} {v}" for n, v in run_here[-1]["versions"].items())
            lines.append(f"| {place.name} | {run_here[-1]['python']} | {known} |")
        else:
            lines.append(f"| {place.name} | | not run: {place.why_not} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all cells that can be; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="of the project")
    parser.add_argument("--only", nargs="+", help="only these environments")
    parser.add_argument("--python", nargs="*", default=[], help="interpreters that are not in PATH")
    parser.add_argument("--ready", nargs="*", default=[], help="NAME=PYTHON, made by hand")
    parser.add_argument("--out", type=Path, default=Path("out", "matrix"))
    options = parser.parse_args()
    ready = dict(one.split("=", 1) for one in options.ready)
    wanted: list[tuple[str, str, str, list[str]]] = []
    for extra, pins in oldest().items():
        wanted.append((f"oldest {extra or 'core'}", sys.executable, extra, pins))
    for minor in PYTHONS:
        given = [p for p in options.python if f"/{minor}." in p or p.endswith(minor)]
        python = (given or [which(f"python{minor}") or ""])[0]
        wanted += [(f"{minor} {extra}", python, extra, []) for extra in ("torch", "jax")]
    places = [] if options.only and "newest" not in options.only else [here()]
    options.out.mkdir(parents=True, exist_ok=True)
    for name, python, extra, pins in wanted:
        if options.only and name not in options.only:
            continue
        if name in ready:
            place = Place(name, ready[name])
            place.cells = [Cell(name, one) for one in ("numpy", "torch", "torch-native")]
        elif not python:
            place = Place(name, "", "no such Python here")
        else:
            print(f"making {name}", flush=True)
            place = made(name, python, options.wheel.resolve(), extra, pins, options.out.resolve())
        places.append(place)
    results: dict[Cell, dict[str, Any]] = {}
    for place in places:
        for cell in place.cells:
            results[cell] = run(cell, place.python)
            print(cell, judged({**results})[cell], flush=True)
    text = table(results, places)
    facts = [{"cell": vars(cell), **result} for cell, result in results.items()]
    (options.out / "matrix.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (options.out / "matrix.md").write_text(text, encoding="utf-8")
    print(text)
    return int(any(said != "same" for said in judged(results).values()))


if __name__ == "__main__":
    sys.exit(main())
