"""Compiling mutants of the port in C, and asking them.

A mutant is compiled without optimisation, which takes some milliseconds with ``tcc`` and less than
a second with any other compiler, and reads all requests of an operation as one file. A mutant that
gives every answer is compiled again with checks of memory and of undefined behaviour where the
compiler has them: one that reads or writes beyond an array is no survivor.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from revrnn.comparison import differences
from revrnn.conformance.adapters import Question
from revrnn.conformance.checking import left_out
from revrnn.conformance.profiles import UNKNOWN_OPERATION
from revrnn.operations import OPERATIONS
from revrnn.wire import decode, encode

from .questions import Asked, operations_of, random_requests, vectors

FOLDER: Final = Path(__file__).parents[2] / "ports" / "c"
# The files whose arithmetic is changed.
FILES: Final = (
    "integers.h",
    "quantise.c",
    "product.c",
    "activations.c",
    "buffer.c",
    "revmul.c",
    "cells.c",
    "sequences.c",
    "accounting.c",
    "operations.c",
    "network_checks.c",
    "networks.c",
    "stores.c",
    "config.c",
    "arguments.c",
)
PROFILES: Final = ("gates", "buffer", "cell", "sequence")
# Of operations that it does not offer, what it refuses is judged.
REFUSED: Final = ("gradient",)

# Seconds of processor time and KiB of memory for one batch of requests.
_SECONDS: Final = 5
_MEMORY: Final = 1 << 20
# Each array is a piece of memory of its own, so that reading beyond it is seen.
_CHECKS: Final = (
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-DBLOCK_SIZE=1",
)


@dataclass(frozen=True)
class Batch:
    """Many requests, as a port reads them.

    Attributes:
        kind: ``vectors`` or ``random``.
        asked: the requests.
        lines: the requests as lines.
        right: the answers of the port as it is, a line each.
    """

    kind: str
    asked: tuple[Asked, ...]
    lines: bytes
    right: tuple[bytes, ...]


class Compiler:
    """A C compiler that compiles the files that did not change only once."""

    def __init__(self, objects: Path, checked: bool = False) -> None:
        """Compile the port as it is into a folder.

        Args:
            objects: where object files go.
            checked: with checks of memory and undefined behaviour.

        Raises:
            SystemExit: if there is no compiler, or it lacks the checks.
        """
        self.objects = objects
        quick = "cc" if checked or not shutil.which("tcc") else "tcc"
        self.command = (quick, "-std=c11", "-w", *(_CHECKS if checked else ("-O0",)))
        objects.mkdir()
        for path in sorted(FOLDER.glob("*.c")):
            if not self._run("-c", "-o", str(objects / f"{path.stem}.o"), str(path)):
                raise SystemExit(f"{quick} cannot compile {path.name}")

    def build(self, file: str, source: str, program: Path) -> bool:
        """Build the port with one file changed; say whether it could be compiled.

        Args:
            file: the name of the file.
            source: its text.
            program: where the program goes; its folder gets other files too.
        """
        folder = program.parent
        (folder / file).write_text(source, encoding="utf-8")
        if file.endswith(".h"):
            for path in FOLDER.glob("*.c"):
                # An include looks beside the file that has it first.
                shutil.copy(path, folder)
            changed = [str(folder / path.name) for path in FOLDER.glob("*.c")]
            kept = []
        else:
            changed = [str(folder / file)]
            same = (self.objects / f"{path.stem}.o" for path in FOLDER.glob("*.c"))
            kept = [str(path) for path in same if path.stem != Path(file).stem]
        include = f"-I{FOLDER}"
        return self._run("-o", str(program), include, *changed, *kept, "-lm")

    def _run(self, *arguments: str) -> bool:
        command = [*self.command, *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def answers(program: Path, lines: bytes, checked: bool = False) -> list[bytes] | None:
    """Return the answers to requests, or ``None`` where the program fails or takes too long."""
    # The checks reserve much memory that they do not use.
    memory = "" if checked else f"ulimit -v {_MEMORY}; "
    limited = f"ulimit -t {_SECONDS * (10 if checked else 1)}; {memory}exec {program}"
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        ["sh", "-c", limited], input=lines, capture_output=True, check=False, env=environment
    )
    return done.stdout.splitlines() if done.returncode == 0 else None


def prepare(program: Path) -> list[Batch]:
    """Return the vectors and the random requests, after judging the port as it is.

    Raises:
        SystemExit: if the unchanged port gives a wrong answer.
    """
    batches = []
    kinds = (("vectors", vectors, (*PROFILES, *REFUSED)), ("random", random_requests, PROFILES))
    for kind, asked_of, profiles in kinds:
        names = [*operations_of(profiles), *([UNKNOWN_OPERATION] if kind == "vectors" else [])]
        asked = tuple(one for operation in names for one in asked_of(operation))
        lines = b"".join(_request(number, one) for number, one in enumerate(asked))
        right = answers(program, lines)
        if right is None or not _all_right(asked, right):
            raise SystemExit(f"the port in C gives a wrong answer to the {kind} as it is")
        batches.append(Batch(kind, asked, lines, tuple(right)))
    return batches


def _request(number: int, asked: Asked) -> bytes:
    """Return a request as a line; names come in no order, which the vectors' files do not show."""
    names = list(asked.args)
    random.Random(number).shuffle(names)
    args = {name: encode(asked.args[name]) for name in names}
    message = {"id": number, "operation": asked.operation, "args": args}
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _all_right(asked: tuple[Asked, ...], got: list[bytes]) -> bool:
    pairs = zip(asked, got, strict=False)
    return len(got) == len(asked) and all(
        is_right(one, line) or _is_refused(one, line) for one, line in pairs
    )


def _is_refused(asked: Asked, line: bytes) -> bool:
    """Say whether a valid request of an operation that is not offered is answered so."""
    known = OPERATIONS.get(asked.operation)
    refused = known is not None and known.profile in REFUSED
    return refused and "error" not in asked.expected and b'"error": "E_UNSUPPORTED"' in line


def is_right(asked: Asked, line: bytes) -> bool:
    """Say whether a line is the answer that is due, or one that is not judged."""
    try:
        message: Any = json.loads(line)
        got = {name: decode(value) for name, value in message.get("out", {}).items()}
        if "error" in message:
            got = {"error": message["error"]}
        return left_out(Question(asked.operation, asked.args), got) or not differences(
            asked.expected, got
        )
    except Exception:
        return False


def notices(batch: Batch, program: Path, checked: bool = False) -> bool:
    """Say whether a program gives a wrong answer to a batch."""
    got = answers(program, batch.lines, checked)
    if got is None or len(got) != len(batch.right):
        return True
    lines = zip(batch.asked, batch.right, got, strict=True)
    return any(line != right and not is_right(asked, line) for asked, right, line in lines)


@dataclass(frozen=True)
class Judge:
    """Everything that a mutant is tried with."""

    compiler: Compiler
    checking: Compiler
    batches: list[Batch]

    @classmethod
    def ready(cls, folder: Path) -> Judge:
        """Compile the port as it is in a folder, and judge it."""
        quick = Compiler(folder / "objects")
        program = folder / "port"
        if not quick.build("main.c", (FOLDER / "main.c").read_text(encoding="utf-8"), program):
            raise SystemExit("the port in C cannot be linked")
        return cls(quick, Compiler(folder / "checked", checked=True), prepare(program))

    def verdict(self, file: str, source: str) -> str:
        """Return what notices a mutant: compiler, vectors, random, memory, or ``""``."""
        with TemporaryDirectory() as place:
            program = Path(place) / "port"
            if not self.compiler.build(file, source, program):
                return "compiler"
            for batch in self.batches:
                if notices(batch, program):
                    return batch.kind
            if self.checking.build(file, source, program) and any(
                notices(batch, program, checked=True) for batch in self.batches
            ):
                return "memory"
        return ""
