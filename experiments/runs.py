"""A run's folder: settings, metrics, checkpoints, plots and a report; a run that was cut goes on.

::

    config.json          the settings, written once
    metrics.jsonl        one JSON object a line, in the order of events
    last.safetensors     the latest checkpoint
    best.safetensors     the checkpoint that was best on validation data
    summary.json         what the run came to, written at the end
    report.md, *.png     the same to be read
    .lock                held by the process that is at work here (:mod:`.lock`)

A file is on the disk, whole, before it takes the place of an older one (:mod:`revrnn.whole_files`),
and the metrics that a checkpoint counts on are there before the checkpoint. What cannot be written
ends the run with an error that names the file; the run goes on from its latest checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from revrnn.errors import RevRNNError

from .lock import LOCK
from .outputs import write_file, write_json, written

Arrays = dict[str, npt.NDArray[Any]]
_METRICS, _CONFIG, _SUMMARY = "metrics.jsonl", "config.json", "summary.json"

_OF_FILES = (RuntimeError, OSError, SafetensorError)
_FAULTS = (LookupError, TypeError, ValueError, AttributeError, *_OF_FILES)


@contextmanager
def of_a_run(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong while a run is read from its folder.

    Raises:
        RevRNNError: ``E_ARGUMENT``, for ``out``.
    """
    try:
        yield
    except RevRNNError:
        raise
    except _FAULTS as error:
        lines = str(error).splitlines() or [""]
        given = f"{path}, damaged or of another run: {type(error).__name__}: {lines[0][:200]}"
        raise RevRNNError("E_ARGUMENT", "out", given, "a run's folder as it was left") from error


class RunFolder:
    """The folder of one run; see :meth:`new` and :meth:`existing`."""

    def __init__(self, path: Path) -> None:
        """Look at a folder that exists."""
        self.path = path

    @classmethod
    def new(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Begin a run.

        Args:
            path: a folder that does not exist yet, or is empty.
            config: everything that decides the run, of JSON's types.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if there is something in the folder.
        """
        cls.make(path)
        run = cls(path)
        run.set_config(config)
        return run

    @staticmethod
    def make(path: Path) -> None:
        """Make the folder of a new run.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if there is something in it that no run left which was cut
                before it began.
        """
        RunFolder.check_new(path)
        with written(path):
            path.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def has_begun(path: Path) -> bool:
        """Return whether there is a run to go on with; raise where there can be no new one."""
        if (path / _CONFIG).exists():
            return True
        RunFolder.check_new(path)
        return False

    @staticmethod
    def check_new(path: Path) -> None:
        """Raise, as :meth:`make` does, for what can be no new run's folder."""
        with written(path):
            if path.exists() and (not path.is_dir() or not all(map(_is_left_over, path.iterdir()))):
                allowed = "a new or empty folder, or --resume to go on with the run in it"
                raise RevRNNError("E_ARGUMENT", "out", str(path), allowed)

    @classmethod
    def existing(cls, path: Path, argument: str = "out") -> RunFolder:
        """Look at a run that has begun.

        Args:
            path: its folder.
            argument: what a user calls that.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if there is no run in the folder.
        """
        if not (path / _CONFIG).is_file():
            allowed = f"the folder of a run, with {_CONFIG}"
            raise RevRNNError("E_ARGUMENT", argument, str(path), allowed)
        return cls(path)

    @property
    def config(self) -> dict[str, Any]:
        """The settings that the run began with."""
        return self._object(_CONFIG)

    @property
    def summary(self) -> dict[str, Any]:
        """What a run that has ended came to."""
        return self._object(_SUMMARY)

    def _object(self, name: str) -> dict[str, Any]:
        with of_a_run(self.path / name):
            content: object = json.loads((self.path / name).read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise TypeError(f"it holds {content!r}")
        return content

    @property
    def has_ended(self) -> bool:
        """Whether there is a summary."""
        return (self.path / _SUMMARY).exists()

    def set_summary(self, summary: Mapping[str, Any]) -> None:
        """Write what the run came to."""
        write_json(self.path / _SUMMARY, dict(summary))

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings."""
        write_json(self.path / _CONFIG, dict(config))

    def log(self, event: str, **values: Any) -> None:
        """Add a line to the metrics: ``{"event": …, …}``."""
        line = json.dumps({"event": event, **values}, allow_nan=False) + "\n"
        path = self.path / _METRICS
        with written(path), path.open("ab", buffering=0) as file:
            before, left = file.tell(), line.encode()
            try:
                while left:
                    left = left[file.write(left) :]
            except BaseException:
                file.truncate(before)  # no half a line
                raise

    def rewind(self) -> None:
        """Go back to the latest checkpoint: take back metrics written after it, and left-overs.

        Raises:
            RevRNNError: ``E_ARGUMENT`` for a damaged checkpoint, or metrics that end before it.
        """
        checkpoint = self.load("last")
        with of_a_run(self.path / "last.safetensors"):
            length = 0 if checkpoint is None else int(checkpoint[1]["metrics_bytes"])
        metrics = self.path / _METRICS
        with of_a_run(metrics):
            size = metrics.stat().st_size if metrics.exists() else 0
            if size < length:
                raise ValueError(f"{size} bytes, of which the checkpoint counts {length}")
        with written(metrics):
            if size > length:
                with metrics.open("r+b") as file:
                    file.truncate(length)
            for path in self.path.glob(".*.part"):
                path.unlink()

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the metrics of one event, in order."""
        metrics = self.path / _METRICS
        if not metrics.exists():
            return []
        with of_a_run(metrics):
            lines = metrics.read_text(encoding="utf-8").splitlines()
            return [record for record in map(json.loads, lines) if record["event"] == event]

    def save(self, name: str, arrays: Arrays, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            name: ``"last"`` or ``"best"``.
            arrays: everything that the run needs to go on; the exact state among it.
            progress: where the run is, of JSON's types.
        """
        metrics, length = self.path / _METRICS, 0
        if metrics.exists():
            with written(metrics), metrics.open("r+b") as file:
                os.fsync(file.fileno())
                length = os.fstat(file.fileno()).st_size
        info = {"progress": json.dumps({**progress, "metrics_bytes": length})}
        # np.ascontiguousarray would give arrays of no axes one.
        whole = {key: np.array(value, order="C") for key, value in arrays.items()}
        self.write(f"{name}.safetensors", save(whole, info))

    def load(self, name: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Return the arrays and the progress of a checkpoint, or ``None`` if there is none.

        Raises:
            RevRNNError: ``E_ARGUMENT`` for a damaged one.
        """
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return None
        with of_a_run(path), safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            progress = json.loads((file.metadata() or {})["progress"])
        return arrays, progress

    def best(self) -> Arrays:
        """Return the arrays of the best checkpoint.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if there is none, or a damaged one.
        """
        checkpoint = self.load("best")
        if checkpoint is None:
            given = f"{self.path} without best.safetensors"
            raise RevRNNError("E_ARGUMENT", "out", given, "a run's folder with all its files")
        return checkpoint[0]

    def write(self, name: str, content: bytes) -> Path:
        """Write a file; see :func:`write_file`."""
        return write_file(self.path / name, content)


def _is_left_over(path: Path) -> bool:
    """Say whether a file is what a run leaves that is killed before it has settings."""
    return path.name == LOCK or (path.name.startswith(".") and path.name.endswith(".part"))


def uniform_parameters(
    shapes: Mapping[str, tuple[int, ...]], bound: Callable[[str], float], seed: int
) -> Arrays:
    """Return first values of parameters, float32, the same in all frameworks.

    Args:
        shapes: by name; the order decides which numbers a parameter gets.
        bound: from a name to b, where values are uniform in ±b.
        seed: of the run.
    """
    generator = np.random.default_rng([seed, 0])
    return {
        name: generator.uniform(-bound(name), bound(name), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def prefixed(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return arrays named ``prefix/name``, to put several sets into one checkpoint."""
    return {f"{prefix}/{name}": value for name, value in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays that :func:`prefixed` named so."""
    start = f"{prefix}/"
    return {name[len(start) :]: value for name, value in arrays.items() if name.startswith(start)}
