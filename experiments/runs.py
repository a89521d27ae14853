"""A run's folder: settings, metrics, checkpoints, plots and a report; a run that was cut goes on.

::

    config.json          the settings, written once
    metrics.jsonl        one JSON object a line, in the order of events
    last.safetensors     the latest checkpoint
    best.safetensors     the checkpoint that was best on validation data
    summary.json         what the run came to, written at the end
    report.md, *.png     the same to be read
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

Arrays = dict[str, npt.NDArray[Any]]
_METRICS, _CONFIG, _SUMMARY = "metrics.jsonl", "config.json", "summary.json"


_FAULTS = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    OSError,
    SafetensorError,
)


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
        allowed = "a new or empty folder, or --resume to go on with the run in it"
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RevRNNError("E_ARGUMENT", "out", str(path), allowed)
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path)
            run.set_config(config)
        except OSError as error:
            given = f"{path}, which cannot be written: {error.strerror or error}"
            raise RevRNNError("E_ARGUMENT", "out", given, allowed) from error
        return run

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Look at a run that has begun.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if there is no run in the folder.
        """
        if not (path / _CONFIG).is_file():
            allowed = f"the folder of a run, with {_CONFIG}"
            raise RevRNNError("E_ARGUMENT", "out", str(path), allowed)
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
        self.write(_SUMMARY, (json.dumps(dict(summary), indent=2) + "\n").encode())

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings."""
        self.write(_CONFIG, (json.dumps(dict(config), indent=2) + "\n").encode())

    def log(self, event: str, **values: Any) -> None:
        """Add a line to the metrics: ``{"event": …, …}``."""
        line = json.dumps({"event": event, **values}, allow_nan=False)
        with (self.path / _METRICS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind(self) -> None:
        """Take back the metrics that were written after the latest checkpoint, to go on from it."""
        found = self.load("last")
        with of_a_run(self.path / "last.safetensors"):
            length = 0 if found is None else int(found[1]["metrics_bytes"])
        metrics = self.path / _METRICS
        if metrics.exists():
            with metrics.open("r+b") as file:
                file.truncate(length)

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the metrics of one event, in order."""
        metrics = self.path / _METRICS
        if not metrics.exists():
            return []
        with of_a_run(metrics):
            lines = metrics.read_text(encoding="utf-8").splitlines()
            return [found for found in map(json.loads, lines) if found["event"] == event]

    def save(self, name: str, arrays: Arrays, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            name: ``"last"`` or ``"best"``.
            arrays: everything that the run needs to go on; the exact state among it.
            progress: where the run is, of JSON's types.
        """
        metrics = self.path / _METRICS
        length = metrics.stat().st_size if metrics.exists() else 0
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
        """Write a file, whole or not at all: a reader sees the old one or the new one."""
        path = self.path / name
        partial = path.with_name(f".{name}.partial")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return path


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
