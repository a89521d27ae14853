"""Digests of state and store, step by step (EVAL-010), and the first step that differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .config import Config
from .kinds import DTYPE_NAMES

NAMES: Final = ("h", "c", "heads", "words", "flags")


def digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of those of ``h c heads words flags`` that are given (EVAL-010)."""
    state = hashlib.sha256()
    for name in NAMES:
        if name in arrays:
            state.update(serialise(name, arrays[name]))
    return state.hexdigest()


def serialise(name: str, array: npt.NDArray[Any]) -> bytes:
    """Return the bytes of one array with its heading line (EVAL-010)."""
    kind = DTYPE_NAMES[array.dtype.name]
    head = f"{name} {kind} {'x'.join(map(str, array.shape))}\n".encode("ascii")
    if kind == "bigint":
        return head + "".join(f"{value}\n" for value in array.flat).encode("ascii")
    return head + array.astype(array.dtype.newbyteorder("<"), order="C").tobytes()


def state_after(
    config: Config, results: Mapping[str, Any], step: int
) -> dict[str, npt.NDArray[Any]]:
    """Cut state and store after ``step`` out of the traced results of ``sequence_forward``."""
    state: dict[str, npt.NDArray[Any]] = {"h": results["h_steps"][step]}
    if config.has_cell_state:
        state["c"] = results["c_steps"][step]
    if config.forgetting:
        state["heads"] = results["heads_steps"][step]
        state["words"] = results["words"][: int(results["words_steps"][step])]
        flags = (step + 1) * config.operations_per_step if config.buffer == "wordlist" else 0
        state["flags"] = results["flags"][:flags]
    return state


def step_digests(config: Config, results: Mapping[str, Any]) -> list[str]:
    """Return the digest after every step of a traced ``sequence_forward``."""
    return [digest(state_after(config, results, step)) for step in range(len(results["h_steps"]))]


def first_difference(
    config: Config, expected: Mapping[str, Any], got: Mapping[str, Any]
) -> str | None:
    """Describe the first step, array and element in which two traced runs differ.

    Returns:
        ``None`` if all digests agree.
    """
    pairs = zip(step_digests(config, expected), step_digests(config, got), strict=True)
    for step, (due, given) in enumerate(pairs):
        if due != given:
            return f"step {step}: " + _describe(
                state_after(config, expected, step), state_after(config, got, step)
            )
    return None


def _describe(expected: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    for name in NAMES:
        if name not in expected:
            continue
        a, b = expected[name], got[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {a.dtype}{list(a.shape)} expected, {b.dtype}{list(b.shape)} got"
        if not np.array_equal(a, b):
            where = tuple(np.argwhere(a != b)[0].tolist())
            return f"{name}{list(where)}: {a[where]} expected, {b[where]} got"
    return "digests differ in their headings"
