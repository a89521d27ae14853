"""What ``python -m`` runs of this package, and what is said of a module that is no program."""

from __future__ import annotations

import sys
from typing import Final

PROGRAMS: Final = (
    "revrnn.archive",
    "revrnn.conformance",
    "revrnn.conformance.mismatch",
    "revrnn.conformance.serve",
    "revrnn.experiments",
    "revrnn.experiments.demo",
    "revrnn.experiments.figures",
    "revrnn.operations_text",
    "revrnn.tanh_table",
    "revrnn.vector_maker",
)


def check_program() -> None:
    """Exit with status 2 where Python is about to run a module of this package as a program.

    That would import it, do nothing, and end with status 0. While ``python -m`` imports what stands
    above the module that it will run, ``sys.argv`` begins with ``-m``.
    """
    if sys.argv[:1] != ["-m"] or len(sys.orig_argv) <= len(sys.argv):
        return
    # The program's own words end the command line. Before them is the module, as a word or behind
    # the letters of options: -mNAME, -Im NAME.
    word = sys.orig_argv[-len(sys.argv)]
    name = word.partition("m")[2] if word.startswith("-") else word
    name = name.removesuffix(".__main__")
    if name.partition(".")[0] != "revrnn" or name in PROGRAMS:
        return
    package = ".".join(name.split(".")[:2])
    near = [program for program in PROGRAMS if program.startswith(package)] or PROGRAMS
    programs = ", ".join(f"python -m {program} --help" for program in near)
    print(f"python -m {name}: no program; allowed: {programs}", file=sys.stderr)
    sys.exit(2)
