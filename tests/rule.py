"""Everything about one rule: its text, the code that cites it, its vectors and its tests.

``python tests/rule.py BUF-031 --implementation torch``. Exit status 0: all pass.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_rules import python_files

from folders import FOLDERS, ROOT
from revrnn import vectors
from revrnn.comparison import differences
from revrnn.evaluation import load, outcome
from revrnn.rules import rules, text

IMPLEMENTATIONS = ("numpy", "torch", "jax")


def citations(rule: str) -> Iterator[str]:
    """Give file and number of each line of code that cites a rule."""
    for path in python_files(*FOLDERS):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if rule in line:
                yield f"{path.relative_to(ROOT)}:{number}"


def ask_vectors(rule: str, implementation: str) -> list[str]:
    """Return which vectors of a rule an implementation answers wrongly; print how many it has."""
    asked, wrong = 0, []
    for operation in vectors.operations():
        for case in vectors.load(operation):
            if rule in case.rules:
                asked += 1
                expected = {"error": case.error} if case.out is None else case.out
                answer = outcome(load(implementation), operation, case.args)
                if lines := differences(expected, answer):
                    wrong.append(f"{case.id}: {lines[0]}")
    print(f"{implementation}: {asked} vectors, {len(wrong)} answered wrongly")
    return wrong


def main() -> int:
    """Print, ask the vectors, run the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rule", help="for instance BUF-031")
    parser.add_argument("--implementation", choices=IMPLEMENTATIONS, help="all three if absent")
    options, rest = parser.parse_known_args()
    if options.rule not in rules():
        section = options.rule.partition("-")[0]
        known = [name for name in rules() if name.startswith(section)] or list(rules())
        parser.error(f"rule: {options.rule} given, one of {', '.join(known)} allowed")
    print(text(options.rule), *citations(options.rule), "", sep="\n")
    chosen = [options.implementation] if options.implementation else IMPLEMENTATIONS
    wrong = [line for name in chosen for line in ask_vectors(options.rule, name)]
    print(*wrong, sep="\n", flush=True)
    arguments = ["-q", "--rule", options.rule, *rest, str(Path(__file__).parent)]
    if options.implementation:
        arguments += ["--implementation", options.implementation]
    status = pytest.main(arguments)
    nothing = pytest.ExitCode.NO_TESTS_COLLECTED
    return 1 if wrong or status not in (pytest.ExitCode.OK, nothing) else 0


if __name__ == "__main__":
    sys.exit(main())
