"""The ports whose mutants are made: their files, and how a mutant is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from . import ask_c, ask_jax, ask_native, ask_python, changes_c, changes_python
from .ask_python import Given
from .mutant import Mutant


@dataclass(frozen=True)
class Job:
    """A mutant of a port's file."""

    port: str
    file: str
    mutant: Mutant

    @property
    def name(self) -> str:
        """Return the name under which a reason is given."""
        return f"{self.file.removesuffix('.c')}.{self.mutant.name}"


class Trial(Protocol):
    """What is tried with a job."""

    def __call__(self, jobs: list[Job]) -> Iterator[tuple[Job, str]]:
        """Give each job with what noticed it, ``""`` for a survivor."""
        ...


def files(port: str) -> tuple[str, ...]:
    """Return the names of a port's files whose arithmetic is changed."""
    return ask_c.FILES if port == "c" else ask_python.FILES[port]


@cache
def text(port: str, file: str) -> str:
    """Return the text of a port's file."""
    if port == "c":
        return (ask_c.FOLDER / file).read_text(encoding="utf-8")
    return ask_python.text_of(port, file)


@cache
def jobs(port: str, file: str) -> list[Job]:
    """Return all mutants of a file."""
    changes = changes_c if port == "c" else changes_python
    return [Job(port, file, mutant) for mutant in changes.mutants(text(port, file))]


@contextmanager
def trial(port: str, processes: int) -> Iterator[Trial]:
    """Prepare for the jobs of a port.

    Raises:
        SystemExit: if the port fails as it is.
    """
    if port == "c":
        with TemporaryDirectory() as place, ThreadPool(processes) as threads:
            judge = ask_c.Judge.ready(Path(place))

            def compiled(jobs: list[Job]) -> Iterator[tuple[Job, str]]:
                verdicts = threads.imap(lambda j: judge.verdict(j.file, j.mutant.source), jobs)
                yield from zip(jobs, verdicts, strict=True)

            yield compiled
        return
    # JAX's threads are lost in a fork. Its one process asks the port as it is first, for minutes.
    is_jax = port == "jax"
    asker: Any = {"jax": ask_jax, "native": ask_native}.get(port, ask_python)
    right = is_jax or (ask_native.passes() if port == "native" else ask_python.passes(port))
    with get_context("spawn").Pool(1) if is_jax else get_context("fork").Pool(processes) as pool:
        if not (pool.apply(ask_jax.passes) if is_jax else right):
            raise SystemExit(f"{port} gives a wrong answer as it is")

        def executed(jobs: list[Job]) -> Iterator[tuple[Job, str]]:
            mutants = [(job.file, job.mutant) for job in jobs]
            given = [Given(port, file, mutant.source, mutant.line) for file, mutant in mutants]
            yield from zip(jobs, pool.imap(asker.verdict, given), strict=True)

        yield executed
