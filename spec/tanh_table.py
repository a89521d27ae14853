"""The tanh table of ACT-001: loading it with its checksum, and making it anew.

``python -m revrnn.tanh_table FILE`` writes the table's file again, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from decimal import Decimal, localcontext
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .command_line import run_program
from .whole_files import write_whole

STEPS_PER_UNIT = 128
LAST_INDEX = 1024


def compute() -> list[int]:
    """Return ``round(2^15 · tanh(i/128))`` for i = 0 … 1024, each provably the nearest integer."""
    return [_nearest(i) for i in range(LAST_INDEX + 1)]


def _nearest(i: int) -> int:
    with localcontext() as context:
        context.prec = 60
        # Decimal's exp is correctly rounded, so the quotient is good to more than 50 digits.
        e = (Decimal(2 * i) / STEPS_PER_UNIT).exp()
        value = 2**15 * (e - 1) / (e + 1)
        nearest = int(value.to_integral_value())
        if abs(abs(value - nearest) - Decimal("0.5")) < Decimal("1e-40"):
            raise AssertionError(f"tanh({i}/128) is too near a tie to be rounded")
        return nearest


def checksum(values: list[int]) -> str:
    """Return the SHA-256 of the values as little-endian int32 (ACT-001)."""
    return hashlib.sha256(np.asarray(values, dtype="<i4").tobytes()).hexdigest()


def file_text(values: list[int]) -> str:
    """Return the canonical text of ``data/tanh.json``."""
    head = {"fraction_bits": 15, "rule": "ACT-001", "sha256": checksum(values)}
    rows = [values[i : i + 16] for i in range(0, len(values), 16)]
    table = ",\n".join("  " + ", ".join(map(str, row)) for row in rows)
    return (
        json.dumps(head, indent=1)[:-2]
        + ',\n "steps_per_unit": 128,\n "values": [\n'
        + table
        + "\n ]\n}\n"
    )


@cache
def _load() -> tuple[int, ...]:
    data = json.loads(files("revrnn").joinpath("data/tanh.json").read_text(encoding="ascii"))
    values: list[int] = data["values"]
    if len(values) != LAST_INDEX + 1 or checksum(values) != data["sha256"]:
        raise RuntimeError("data/tanh.json is damaged: its checksum does not match its values")
    return tuple(values)


def tanh_table() -> npt.NDArray[np.int32]:
    """Return a copy of ``TANH[0 … 1024]``, int32 with 15 fraction bits, checked by its checksum."""
    return np.asarray(_load(), dtype=np.int32)


def main(arguments: list[str] | None = None) -> None:
    """Write the table's file to the path that is given."""
    parser = argparse.ArgumentParser(prog="python -m revrnn.tanh_table")
    parser.add_argument("file", type=Path, help="the file to write: tanh.json")
    path: Path = parser.parse_args(arguments).file
    try:
        write_whole(path, file_text(compute()).encode("ascii"))
    except OSError as error:
        parser.error(f"argument file: {path} cannot be written: {error.strerror or error}")


if __name__ == "__main__":
    run_program(main)
