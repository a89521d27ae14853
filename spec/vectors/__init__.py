"""The test vectors: requests with their answers, as data (README.md describes the files).

``load("tanh")`` returns the cases of one operation with NumPy arrays; every file is checked against
the manifest's SHA-256 first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from revrnn.errors import RevRNNError
from revrnn.wire import decode


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One request and its answer.

    Attributes:
        id: the operation and a part of the SHA-256 of the arguments' canonical JSON.
        operation: what to ask for; a name that no operation has where none is asked for.
        rules: the rules that it covers.
        catches: flags of the mistakes that it would catch (:func:`flags`).
        args: the arguments of the evaluation interface.
        out: the results, or ``None`` where an error is due.
        error: the code of the error that is due, or ``None``.
    """

    id: str
    operation: str
    rules: tuple[str, ...]
    catches: tuple[str, ...]
    args: dict[str, Any]
    out: dict[str, Any] | None
    error: str | None


def operations(folder: Traversable | None = None) -> tuple[str, ...]:
    """Return the names of the operations that have vectors.

    Args:
        folder: where the files are, if not in this package.
    """
    entries = manifest(folder)["files"]
    return tuple(name.removesuffix(".json") for name in entries if "cases" in entries[name])


def flags(folder: Traversable | None = None) -> dict[str, str]:
    """Return the flags of mistakes that cases catch, each with a sentence."""
    return dict(manifest(folder)["flags"])


def load(operation: str, folder: Traversable | None = None) -> list[Case]:
    """Return the cases of one operation.

    Args:
        operation: one of :func:`operations`.
        folder: where the files are, if not in this package.

    Raises:
        KeyError: if the operation has no vectors.
        RevRNNError: ``E_ARGUMENT`` if the manifest is damaged, or the file is not the one that it
            names.
    """
    name = f"{operation}.json"
    entry = manifest(folder)["files"][name]
    with _whole(name):
        content = _folder(folder).joinpath(name).read_bytes()
        actual = hashlib.sha256(content).hexdigest()
        if actual != entry["sha256"]:
            raise ValueError(f"its SHA-256 is {actual}, not {entry['sha256']}")
        cases = json.loads(content)["cases"]
        if len(cases) != entry["cases"]:
            raise ValueError(f"{len(cases)} cases instead of {entry['cases']}")
        return [_case(operation, case) for case in cases]


def manifest(folder: Traversable | None = None) -> dict[str, Any]:
    """Return the manifest: ``files``, ``flags``, ``spec_version``, ``total``."""
    data: dict[str, Any] = _manifest() if folder is None else _read_manifest(folder)
    return data


@cache
def _manifest() -> dict[str, Any]:
    return _read_manifest(files(__name__))


def _read_manifest(folder: Traversable) -> dict[str, Any]:
    with _whole("manifest.json"):
        data: dict[str, Any] = json.loads(folder.joinpath("manifest.json").read_bytes())
        if not isinstance(data, dict) or not all(map(_is_object, data["files"].values())):
            raise TypeError("no mapping of files")
        dict(data["flags"])
        return data


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """Name the file in what goes wrong while it is read."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        given = f"{name}, damaged: {type(error).__name__}: {str(error)[:200]}"
        raise RevRNNError("E_ARGUMENT", "folder", given, "the files of one version") from error


def _folder(folder: Traversable | None) -> Traversable:
    return files(__name__) if folder is None else folder


def _case(operation: str, case: Mapping[str, Any]) -> Case:
    return Case(
        id=case["id"],
        operation=case.get("operation", operation),
        rules=tuple(case["rules"]),
        catches=tuple(case["catches"]),
        args={name: decode(value) for name, value in case["args"].items()},
        out={n: decode(v) for n, v in case["out"].items()} if "out" in case else None,
        error=case.get("error"),
    )
