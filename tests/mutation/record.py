"""What was tried, kept on disk, so that hours of it need not be one run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .ports import Job, text


class Record:
    """The verdicts on a port's mutants: a file of lines, begun anew with other vectors.

    A verdict counts for the text that it was given on.
    """

    def __init__(self, folder: Path, port: str) -> None:
        """Read what a folder has of a port."""
        self.path = folder / f"{port}.jsonl"
        self.verdicts: dict[str, str] = {}
        vectors = sorted(Path(__file__).parents[2].glob("spec/vectors/*"))
        self._asked = hashlib.sha256(b"".join(path.read_bytes() for path in vectors)).hexdigest()
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                key, verdict = json.loads(line)
                self.verdicts[key] = verdict

    def __contains__(self, job: Job) -> bool:
        """Say whether a mutant was tried."""
        return self._key(job) in self.verdicts

    def __getitem__(self, job: Job) -> str:
        """Return what noticed a mutant, ``""`` for a survivor."""
        return self.verdicts[self._key(job)]

    def add(self, job: Job, verdict: str) -> None:
        """Keep a verdict."""
        self.verdicts[self._key(job)] = verdict
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([self._key(job), verdict]) + "\n")

    def _key(self, job: Job) -> str:
        """Return what a verdict depends on: the file, the change, and what is asked."""
        parts = (job.name, text(job.port, job.file), self._asked)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
