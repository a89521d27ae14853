"""What was tried, kept on disk, so that hours of it need not be one run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .ports import Job, text


class Record:
    """The verdicts on a port's mutants: a file of lines.

    A verdict counts for the text of the file that it was given on. What survived is asked again
    when there are other vectors; what was noticed is not, since vectors are added and never lost.
    """

    def __init__(self, folder: Path, port: str) -> None:
        """Read what a folder has of a port."""
        self.path = folder / f"{port}.jsonl"
        self._verdicts: dict[str, tuple[str, str]] = {}
        vectors = sorted(Path(__file__).parents[2].glob("spec/vectors/*.json"))
        self._asked = hashlib.sha256(b"".join(path.read_bytes() for path in vectors)).hexdigest()
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                key, _, verdict, asked = json.loads(line)
                self._verdicts[key] = verdict, asked

    def __contains__(self, job: Job) -> bool:
        """Say whether a mutant was tried."""
        verdict, asked = self._verdicts.get(self._key(job), ("", ""))
        return bool(verdict) or asked == self._asked

    def __getitem__(self, job: Job) -> str:
        """Return what noticed a mutant, ``""`` for a survivor."""
        return self._verdicts[self._key(job)][0]

    def add(self, job: Job, verdict: str) -> None:
        """Keep a verdict."""
        key = self._key(job)
        self._verdicts[key] = verdict, self._asked
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, job.name, verdict, self._asked]) + "\n")

    def _key(self, job: Job) -> str:
        """Return a short name of a mutant of a file as it is."""
        both = f"{job.name}\n{text(job.port, job.file)}"
        return hashlib.sha256(both.encode()).hexdigest()
