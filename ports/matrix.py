"""Ask every implementation and port, and write the page that says who passes what.

``python ports/matrix.py`` from the root of the repository, after ``make -C ports/c``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from revrnn import SPEC_VERSION
from revrnn.conformance.adapters import InProcess, Port, find
from revrnn.conformance.findings import Report
from revrnn.conformance.judge import judge_of
from revrnn.conformance.process import ProcessPort
from revrnn.conformance.profiles import PROFILES
from revrnn.conformance.report import as_text
from revrnn.conformance.runner import Runner

ROOT = Path(__file__).parents[1]
C_PORT = str(ROOT / "ports" / "c" / "build" / "revrnn-port")

# Label, what it runs on, and how it is reached.
PORTS: tuple[tuple[str, str, Callable[[], Port]], ...] = (
    ("`numpy_ref`, the oracle", "numpy", lambda: InProcess(find("numpy"))),
    ("`second_opinion`, plain Python", "", lambda: InProcess(find("naive"))),
    ("`torch_impl`", "torch", lambda: InProcess(find("torch"))),
    ("`jax_impl`", "jax", lambda: InProcess(find("jax"))),
    ("`ports/c`, C11", "", lambda: ProcessPort([C_PORT])),
)


def page(reports: list[tuple[str, str, Report]], examples: int, seed: int) -> str:
    """Return the page."""
    lines = [
        "# Conformance",
        "",
        f"Specification {SPEC_VERSION}. Written by `nox -s conformance`: every vector, and "
        f"{examples} fresh random requests",
        f"for each operation (seed {seed}), judged as CONF-002 says. How to ask a port of your",
        "own: [conformance-of-a-port.md](conformance-of-a-port.md).",
        "",
        "| implementation | with | "
        + " | ".join(f"`{name}`" for name in PROFILES)
        + " | right | left out |",
        "|---|---|" + "---|" * len(PROFILES) + "---:|---:|",
    ]
    for label, library, report in reports:
        tallies = [*report.vectors.values(), *report.random.values()]
        verdicts = report.verdicts()
        cells = [label, f"{library} {version(library)}" if library else ""]
        cells += [verdicts[name] for name in PROFILES]
        cells += [str(sum(t.passed for t in tallies)), str(sum(t.left_out for t in tallies))]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Left out are cases of the layout `bigint`, which is for oracles (BUF-037). The oracle is",
        "asked too, but for random requests it can only be compared with itself.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Ask, write, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "conformance.md")
    options = parser.parse_args()
    reports = []
    for label, library, make in PORTS:
        port = make()
        report = Runner(port, judge_of(), examples=options.examples, seed=options.seed).run()
        port.close()
        print(as_text(report), flush=True)
        reports.append((label, library, report))
    options.out.write_text(page(reports, options.examples, options.seed), encoding="utf-8")
    return 0 if all(report.passed() for _, _, report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
