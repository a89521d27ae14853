"""Which branches of the oracle and of the second opinion do requests reach?

The oracle works on arrays and leaves many choices to ``np.where``; the second opinion, element by
element in plain Python, branches where the rules do.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Final

import coverage

from revrnn.evaluation import load, outcome

from .questions import Asked

PACKAGES: Final = {"numpy": "revrnn.numpy_ref", "naive": "revrnn.second_opinion"}

# What cannot be reached, by the line that is not gone to.
_NEVER: Final = "an oracle that undoes its own steps is never wrong about them (SEQ-009)"
_BIGINT: Final = "only the vectors ask for bigint, which few ports offer (BUF-037)"
UNREACHABLE: Final = {
    "vectors": {'raise RevRNNError("E_REVERSAL", "state", "another state or buffer"': _NEVER},
    "random": {
        'raise RevRNNError("E_REVERSAL", "state", "another state or buffer"': _NEVER,
        "return BigintBuffer(heads)": _BIGINT,
        "return bits + sum(head.bit_length() for head in heads)": _BIGINT,
    },
}


def missed(asked: Iterable[Asked]) -> list[str]:
    """Return the branches that requests do not take: file, line and the line not gone to."""
    folders = [Path(str(import_module(name).__file__)).parent for name in PACKAGES.values()]
    implementations = [load(name) for name in PACKAGES]
    include = [f"{folder}/*" for folder in folders]
    measured = coverage.Coverage(branch=True, include=include, data_file=None, config_file=False)
    measured.start()
    try:
        for one in asked:
            for implementation in implementations:
                outcome(implementation, one.operation, one.args)
    finally:
        measured.stop()
    lines = []
    for path in sorted(path for folder in folders for path in folder.glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8").splitlines()
        analysis = measured._analyze(str(path))
        for start, ends in sorted(analysis.missing_branch_arcs().items()):
            for end in ends:
                target = text[end - 1].strip() if end > 0 else "the end"
                lines.append(f"{path.name}, line {start}: {target}")
    return lines


def unexplained(kind: str, asked: Iterable[Asked]) -> list[str]:
    """Return the branches that requests of a kind miss and that could be reached."""
    known = UNREACHABLE[kind]
    return [line for line in missed(asked) if not any(reason in line for reason in known)]
